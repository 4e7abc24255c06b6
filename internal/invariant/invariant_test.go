package invariant

import "testing"

func TestFailf(t *testing.T) {
	defer func() {
		if got, want := recover(), "invariant violated: 2 pages of 1"; got != want {
			t.Errorf("panic with %v, expected %q", got, want)
		}
	}()
	Failf("%d pages of %d", 2, 1)
}
