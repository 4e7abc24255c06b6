package engine

import "testing"

// A draft is told the target's state where it is known, else its own, and is fed
// again from the first token that was told another.
func TestTell(t *testing.T) {
	v := draftVerifier{known: newStates(1)}
	for p := 10; p < 13; p++ {
		v.known.put(p, []float32{1})
	}
	told := func(want ...float32) {
		t.Helper()
		v.told = 11
		v.tell(10, len(want))
		for i, w := range want {
			if g := v.given[i]; w == 0 && g != nil || w != 0 && (g == nil || g[0] != w) {
				t.Errorf("token %d: %v, expected %v", 10+i, g, w)
			}
		}
		if v.told != 14 {
			t.Errorf("%d tokens need not be told again, expected 14", v.told)
		}
	}
	told(0, 1, 1, 1, 0, 0)
	v.states = newStates(1)
	for p := 9; p < 14; p++ {
		v.states.put(p, []float32{2})
	}
	told(2, 1, 1, 1, 2, 0)
}

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
