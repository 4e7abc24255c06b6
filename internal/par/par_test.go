package par

import (
	"sync/atomic"
	"testing"
)

// Every number is handed out exactly once a phase, and what one phase writes
// is seen by the next.
func TestPhases(t *testing.T) {
	for _, n := range []int{1, 2, 3, 8} {
		team := NewTeam(n)
		const items, rounds = 100, 200
		var runs atomic.Int64
		counts := make([]int32, items)
		sums := make([]int64, n)
		for range 3 {
			clear(counts)
			team.Run(func(w *Worker) {
				for round := range rounds {
					for i := range w.Each(items) {
						counts[i]++ // unsynchronized on purpose: -race judges
					}
					w.Sync()
					lo, hi := w.Share(items, 8)
					for i := lo; i < hi; i++ {
						if counts[i] != int32(round+1) {
							t.Errorf("team of %d, round %d: item %d ran %d times", n, round, i, counts[i])
						}
						sums[w.ID]++
					}
					w.Sync()
				}
				runs.Add(1)
			})
		}
		team.Close()
		var sum int64
		for _, s := range sums {
			sum += s
		}
		if runs.Load() != int64(3*n) || sum != 3*rounds*items {
			t.Errorf("team of %d: %d runs and shares of %d items; want %d and %d", n, runs.Load(), sum, 3*n, 3*rounds*items)
		}
	}
}

func BenchmarkSync(b *testing.B) {
	team := NewTeam(2)
	defer team.Close()
	b.ResetTimer()
	team.Run(func(w *Worker) {
		for range b.N {
			w.Sync()
		}
	})
}

func BenchmarkRun(b *testing.B) {
	team := NewTeam(2)
	defer team.Close()
	nop := func(*Worker) {}
	for b.Loop() {
		team.Run(nop)
	}
}
