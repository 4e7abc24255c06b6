// Package par runs one function on a fixed team of workers that meet at
// barriers.
//
// A forward pass is a few hundred short phases; waking goroutines for each
// would cost more than the work. So the whole pass runs on every worker, each
// takes its share of a phase (Each), and Sync separates the phases. Workers
// spin a little before they park. A Team runs one function at a time and is
// not safe for concurrent use.
package par

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// spins is how often a waiting worker looks before it yields, some ten
// microseconds, which is longer than most phases of a small model. yields is how
// often it yields before it parks, half a millisecond: longer than the system
// usually lets somebody else have the processor of a worker that it waits for.
// With less, one that comes late once finds all others parked, and while it wakes
// them they find it parked, phase after phase; and Go wakes a thread to look for
// work, which the system puts where a worker runs.
const (
	spins  = 1 << 12
	yields = 1 << 12
)

// Team is a fixed set of workers. Close it to end their goroutines.
type Team struct {
	n       int
	spins   int
	fn      func(*Worker)
	workers []*Worker

	start   gate
	barrier gate
	arrived atomic.Int32
	// taken counts the items handed out of each worker's part, in the current
	// phase and in the one before. The latter's counters are cleared before the
	// barrier, each by its worker, for the phase to come.
	taken [2][]paddedCounter
}

type paddedCounter struct {
	atomic.Int64
	_ [56]byte
}

// Worker is one member's view of the team, handed to the function that runs.
type Worker struct {
	// ID is 0 … Size()-1; worker 0 is the goroutine that called Run.
	ID    int
	team  *Team
	phase int
}

// NewTeam makes a team of n ≥ 1 workers, of which the caller of Run is one.
func NewTeam(n int) *Team {
	t := &Team{n: max(n, 1), spins: spins}
	if t.n > runtime.GOMAXPROCS(0) {
		t.spins = 0 // somebody else needs the processor that would spin
	}
	t.start.init()
	t.barrier.init()
	for i := range t.taken {
		t.taken[i] = make([]paddedCounter, t.n)
	}
	for i := range t.n {
		t.workers = append(t.workers, &Worker{ID: i, team: t})
	}
	for _, w := range t.workers[1:] {
		go w.loop()
	}
	return t
}

// Size is the number of workers.
func (t *Team) Size() int { return t.n }

// Run executes fn on every worker and returns when all have finished. What fn
// writes is visible to the caller afterwards. fn must call Sync and Each in
// the same order on every worker.
func (t *Team) Run(fn func(*Worker)) {
	t.fn = fn
	t.start.open()
	w := t.workers[0]
	fn(w)
	w.Sync()
	t.fn = nil
}

// Close ends the workers. The team must be idle.
func (t *Team) Close() {
	t.fn = nil
	t.start.open()
}

func (w *Worker) loop() {
	for seen := uint32(0); ; {
		seen = w.team.start.wait(seen, w.team.spins)
		fn := w.team.fn
		if fn == nil {
			return
		}
		fn(w)
		w.Sync()
	}
}

// Sync waits until every worker has called it.
func (w *Worker) Sync() {
	t := w.team
	w.phase++
	t.taken[w.phase&1][w.ID].Store(0)
	if t.n == 1 {
		return
	}
	seen := t.barrier.seen()
	if int(t.arrived.Add(1)) == t.n {
		t.arrived.Store(0)
		t.barrier.open()
	} else {
		t.barrier.wait(seen, t.spins)
	}
}

// Team is the number of workers that run the function.
func (w *Worker) Team() int { return w.team.n }

// Each yields the numbers 0 … n-1 to the workers, each number to exactly one
// worker. A worker first takes its own part of them, as Share cuts it, so that
// it meets the same data in its caches pass after pass, and then what is left of
// the others'. Who gets a number depends on timing, so results must not. At most
// one Each may stand between two Syncs.
func (w *Worker) Each(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		size, taken := w.team.n, w.team.taken[w.phase&1]
		for i := range size {
			of := (w.ID + i) % size
			lo, hi := of*n/size, (of+1)*n/size
			if lo == hi || i > 0 && lo+int(taken[of].Load()) >= hi {
				continue
			}
			for {
				at := lo + int(taken[of].Add(1)) - 1
				if at >= hi {
					break
				}
				if !yield(at) {
					return
				}
			}
		}
	}
}

// Share returns this worker's part [lo, hi) of 0 … n-1, split evenly at
// multiples of grain. Unlike Each it costs nothing, so it suits short phases.
func (w *Worker) Share(n, grain int) (lo, hi int) {
	blocks := (n + grain - 1) / grain
	lo = w.ID * blocks / w.team.n * grain
	hi = (w.ID + 1) * blocks / w.team.n * grain
	return min(lo, n), min(hi, n)
}

// gate lets waiters pass each time that it opens.
type gate struct {
	opened atomic.Uint32
	parked atomic.Int32
	mu     sync.Mutex
	cond   *sync.Cond
}

func (g *gate) init() { g.cond = sync.NewCond(&g.mu) }

func (g *gate) seen() uint32 { return g.opened.Load() }

// open lets everybody pass who waits for an opening after the last.
func (g *gate) open() {
	g.opened.Add(1)
	if g.parked.Load() > 0 {
		g.mu.Lock()
		g.cond.Broadcast()
		g.mu.Unlock()
	}
}

// wait returns the count of openings once it differs from seen.
func (g *gate) wait(seen uint32, spins int) uint32 {
	for range spins {
		if now := g.opened.Load(); now != seen {
			return now
		}
	}
	if spins > 0 {
		for range yields {
			if now := g.opened.Load(); now != seen {
				return now
			}
			runtime.Gosched()
		}
	}
	g.mu.Lock()
	g.parked.Add(1)
	for g.opened.Load() == seen {
		g.cond.Wait()
	}
	g.parked.Add(-1)
	g.mu.Unlock()
	return g.opened.Load()
}
