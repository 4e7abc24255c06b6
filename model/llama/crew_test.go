package llama

import (
	"testing"

	"triforce/internal/par"
)

// Whoever is faster runs most passes, also once that changes, and after passes
// that were interrupted.
func TestPace(t *testing.T) {
	var p pace
	count := func(all, one float64, passes int) (ones int) {
		for range passes {
			who := p.next()
			ones += who
			seconds := [2]float64{all, one}[who]
			if p.passes%trialPasses != 1 {
				seconds *= 50
			}
			p.done(who, seconds)
		}
		return ones
	}
	const warm = 2*lastTrial - firstTrial // passes until trials are lastTrial apart
	if n := count(70, 40, warm); n < warm*9/10 || n == warm {
		t.Errorf("one is faster and ran %d passes of %d", n, warm)
	}
	if n := count(70, 40, 4*lastTrial); n != 4*(lastTrial-trialPasses) {
		t.Errorf("one is faster and ran %d passes of %d", n, 4*lastTrial)
	}
	if n := count(20, 40, 4*lastTrial); n != 4*trialPasses {
		t.Errorf("all are faster and one ran %d passes of %d", n, 4*lastTrial)
	}
}

// Large passes belong to all workers, small ones to both in turn at first.
func TestCrew(t *testing.T) {
	c := crew{all: par.NewTeam(3), one: par.NewTeam(1)}
	defer c.all.Close()
	defer c.one.Close()
	for i, want := range []struct{ work, workers int }{{1 << 30, 3}, {1 << 10, 3}, {1 << 10, 3}, {1 << 10, 3}, {1 << 10, 1}, {1 << 10, 1}, {1 << 10, 1}, {1 << smallWork, 3}} {
		seen := make([]bool, 3)
		c.run(want.work, func(w *par.Worker) { seen[w.ID] = true })
		n := 0
		for _, s := range seen {
			if s {
				n++
			}
		}
		if n != want.workers {
			t.Errorf("pass %d: %d workers, expected %d", i, n, want.workers)
		}
	}
}
