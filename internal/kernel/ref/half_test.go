package ref

import "testing"

// What float16 cannot hold is stored as the largest that it can.
func TestF16Saturates(t *testing.T) {
	tile := make([]byte, F16TileBytes(32))
	k, v := make([]float32, 32), make([]float32, 32)
	k[0], k[1], v[31] = 65520, -1e30, 1e9
	F16Store(tile, 5, k, v)
	F16Load(k, v, tile, 5)
	if k[0] != 65504 || k[1] != -65504 || v[31] != 65504 || k[2] != 0 {
		t.Errorf("got %g, %g, %g and %g, want 65504, -65504, 65504 and 0", k[0], k[1], v[31], k[2])
	}
}
