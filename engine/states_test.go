package engine

import "testing"

// What was put and not truncated is there, as long as the ring has room.
func TestStates(t *testing.T) {
	s := newStates(2)
	put := func(p int, v float32) { s.put(p, []float32{v, -v}) }
	has := func(p int, want float32) {
		t.Helper()
		got := s.before(p)
		if want == 0 && got != nil || want != 0 && (got == nil || got[0] != want || got[1] != -want) {
			t.Errorf("before %d: %v, expected %v", p, got, want)
		}
	}
	has(0, 0)
	has(1, 0)
	put(1000, 1)
	put(1001, 2)
	has(1000, 0)
	has(1001, 1)
	has(1002, 2)
	has(1003, 0)
	put(1000, 3) // again, by the full cache after a view
	has(1001, 3)
	has(1002, 2)
	s.truncate(1001)
	has(1001, 3)
	has(1002, 0)
	put(1001, 4)
	has(1002, 4)
	put(1010, 5) // what lies between was never known
	has(1002, 0)
	has(1011, 5)
	for p := 1011; p < 1011+stateRows; p++ {
		put(p, float32(p))
	}
	has(1011, 0)
	has(1012, 1011)
	has(1011+stateRows, 1010+stateRows)
	s.truncate(5)
	has(1012, 0)
	put(5, 6)
	has(6, 6)
	has(5, 0)
}
