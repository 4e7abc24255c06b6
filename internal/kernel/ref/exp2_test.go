package ref

import (
	"math"
	"testing"
)

func TestExp2(t *testing.T) {
	for x := float32(-126); x <= 127; x += 0x1p-9 {
		want := math.Exp2(float64(x))
		if err := math.Abs(float64(Exp2(x))-want) / want; !(err < 0x1p-22) {
			t.Fatalf("2^%v is %v, off by a factor of 1±%g", x, Exp2(x), err)
		}
	}
	for x, want := range map[float32]float32{0: 1, 10: 1024, -126.1: 0, float32(math.Inf(-1)): 0, float32(math.NaN()): 0} {
		if got := Exp2(x); got != want {
			t.Errorf("2^%v is %v, expected %v", x, got, want)
		}
	}
}
