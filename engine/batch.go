package engine

import (
	"context"
	"sync"
	"time"

	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
	"triforce/model/llama"
)

// Batcher runs the passes of several sessions on one team of workers: what waits
// when the team becomes idle, rows of all sequences, goes through the weights
// together. A row's result does not depend on the pass, so each session writes
// what it would write alone.
//
// There is no goroutine of its own. Each session's goroutine hands in its rows,
// and whichever of them finds the team idle runs the next pass for all. Before
// it does, it gives those that were in the last pass a moment to come back, so
// that sessions which write at the same time stay in step.
//
// Sessions may be made and closed at any time; the Batcher is closed after all of
// them.
type Batcher struct {
	e    *Engine
	team *par.Team
	turn chan struct{} // holds one element while nobody uses the team
	room int           // rows of a pass beyond what one session may want
	main *lane         // of the target
	kept *prefixes     // what sessions share of their caches, or nil

	// Whoever took the turn has these.
	parts  []llama.Part
	taken  []*job
	latest time.Duration // how long the last pass took

	mu      sync.Mutex
	lanes   []*lane               // those of drafts before the target's
	alone   []*job                // work for the team that is not a pass
	awaited map[*Session]struct{} // were in the last pass and are likely to be back
	active  int                   // sessions that generate
	came    chan struct{}
}

// lane is the passes of one model.
type lane struct {
	of      *Engine
	run     *llama.Session
	waiting []*job
}

// job is what a seat waits for: a pass over its rows, or work of its own.
type job struct {
	part  llama.Part
	alone func()
	seat  *seat
	ok    bool // the pass ran to its end
	done  chan struct{}
}

// othersRows is how many rows the sessions beside one with a long prompt may
// have in its pass.
const othersRows = 256

// patience is the part of a pass's time that it may wait for sessions to come
// back, and maxPatience the longest wait.
const (
	patience    = 4
	maxPatience = 20 * time.Millisecond
)

// NewBatcher makes a team of workers and scratch for any number of sessions.
// Their caches, and what they leave behind for others to begin with, take up to
// cacheBytes; if that is 0, each has memory of its own and shares nothing.
func (e *Engine) NewBatcher(cacheBytes int64) *Batcher {
	b := e.newBatcher(othersRows)
	if cacheBytes > 0 {
		b.kept = newPrefixes(e, cacheBytes)
	}
	return b
}

// CacheUse is the memory of caches, in pages.
type CacheUse struct {
	PageTokens       int // tokens of a page
	Limit            int // pages that there may be
	Running, Holding int // pages of sessions; pages of sessions or remembered
}

// CacheUse says how much of the shared memory is in use.
func (b *Batcher) CacheUse() CacheUse {
	u := CacheUse{PageTokens: kernel.Tile}
	if b.kept != nil {
		u.Limit, u.Running, u.Holding = b.kept.pool.Limit(), b.kept.pool.InUse(), b.kept.pool.Held()
	}
	return u
}

// SaveCache writes what is remembered of texts to files in the folder, where it
// is not there yet. They are of this model and form of keys and values; what
// others have there stays. Sessions may go on meanwhile. While a text is written,
// its pages cannot be let go: reserve is asked for as many beforehand, and a text
// that it refuses is left out this time.
func (b *Batcher) SaveCache(dir string, reserve func(pages int) (release func(), ok bool)) error {
	return b.kept.save(dir, reserve)
}

// LoadCache reads what SaveCache wrote. Files that cannot be used are left out
// and told of in the error, which wraps ErrSnapshot.
func (b *Batcher) LoadCache(dir string, progress func(done, total int)) error {
	return b.kept.load(dir, progress)
}

func (e *Engine) newBatcher(room int) *Batcher {
	b := &Batcher{e: e, team: par.NewTeam(e.opt.Threads), turn: make(chan struct{}, 1), room: room, came: make(chan struct{}, 1),
		awaited: map[*Session]struct{}{}}
	b.turn <- struct{}{}
	b.main = &lane{of: e, run: e.model.NewSession(b.team, e.kv, e.passRows()+room, maxLogits)}
	b.lanes = []*lane{b.main}
	return b
}

// passRows is the most rows that a session wants in a pass.
func (e *Engine) passRows() int { return e.opt.maxPass() }

// Close ends the workers. All sessions must be closed.
func (b *Batcher) Close() { b.team.Close() }

// lane returns that of the draft, which is made when it is first asked for.
func (b *Batcher) lane(draft *Engine) *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lanes {
		if l.of == draft {
			return l
		}
	}
	l := &lane{of: draft, run: draft.model.NewSession(b.team, draft.kv, draftRows+b.room, 1+draftBranches)}
	b.lanes = append([]*lane{l}, b.lanes...)
	return l
}

// seat is a session's way to a model through the Batcher. It has the logits of
// its last pass.
type seat struct {
	b       *Batcher
	lane    *lane
	session *Session
	rows    int // of a pass
	job     job
	logits  llama.Logits
}

func (b *Batcher) newSeat(l *lane, session *Session, rows int) *seat {
	s := &seat{b: b, lane: l, session: session, rows: rows}
	s.job = job{seat: s, done: make(chan struct{}, 1)}
	return s
}

// MaxRows is the number of rows that a pass of the seat may have.
func (s *seat) MaxRows() int { return s.rows }

// Forward appends the batch's tokens to the cache. Logits gives the scores of
// the last batch.Logits rows until the next call. If ctx ends first, the cache
// stays as it was.
func (s *seat) Forward(ctx context.Context, cache kvcache.Cache, batch model.Batch) error {
	part, err := s.lane.run.Begin(ctx, cache, batch, &s.logits)
	if err != nil {
		return err
	}
	s.job.part, s.job.ok = part, false
	s.b.submit(&s.lane.waiting, &s.job)
	s.job.part = llama.Part{}
	if err := part.Pass.Err(); err != nil {
		return err
	}
	if !s.job.ok {
		return ctx.Err()
	}
	cache.End()
	return nil
}

// Logits returns the scores of the i-th row that wanted them.
func (s *seat) Logits(i int) []float32 { return s.logits.Row(i) }

// State returns the state of that row, if logits.States asks for them.
func (s *seat) State(i int) []float32 { return s.logits.State(i) }

// alone runs work on the team while no pass runs.
func (s *seat) alone(work func()) {
	s.job.alone = work
	s.b.submit(&s.b.alone, &s.job)
	s.job.alone = nil
}

// begin and end surround a generation.
func (b *Batcher) begin() {
	b.mu.Lock()
	b.active++
	b.mu.Unlock()
}

func (b *Batcher) end(s *Session) {
	b.mu.Lock()
	b.active--
	b.back(s)
	b.mu.Unlock()
}

// crowded reports whether several sessions generate.
func (b *Batcher) crowded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.active > 1
}

// back says that nobody need wait for the session any more. Who gathers hears of
// the last one, and of work that is not a pass. b.mu is held.
func (b *Batcher) back(s *Session) {
	delete(b.awaited, s)
	if len(b.awaited) == 0 || len(b.alone) > 0 {
		select {
		case b.came <- struct{}{}:
		default:
		}
	}
}

// submit puts j into a queue and returns when it is done, by this goroutine or
// another.
func (b *Batcher) submit(queue *[]*job, j *job) {
	b.mu.Lock()
	*queue = append(*queue, j)
	b.back(j.seat.session)
	b.mu.Unlock()
	for {
		select {
		case <-j.done:
			return
		case <-b.turn:
		}
		select {
		case <-j.done: // while this goroutine waited for its turn
			b.turn <- struct{}{}
			return
		default:
		}
		b.gather()
		b.next()
		b.turn <- struct{}{}
	}
}

// gather waits a moment for the sessions that are likely to be back. It gives up
// on those that are not, until they come by themselves.
func (b *Batcher) gather() {
	if !b.missing() {
		return
	}
	timer := time.NewTimer(min(b.latest/patience, maxPatience))
	defer timer.Stop()
	for b.missing() {
		select {
		case <-b.came:
		case <-timer.C:
			b.mu.Lock()
			clear(b.awaited)
			b.mu.Unlock()
		}
	}
}

// missing reports whether there is a session to wait for, and nothing to do that
// it has no part in.
func (b *Batcher) missing() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.awaited) > 0 && len(b.alone) == 0
}

// next does what waits: work that needs the team alone, or else one pass of a
// draft, or else one of the target, which then has everybody's rows.
func (b *Batcher) next() {
	b.mu.Lock()
	if len(b.alone) > 0 {
		b.taken = append(b.taken[:0], b.alone...)
		clear(b.alone)
		b.alone = b.alone[:0]
		b.mu.Unlock()
		for _, j := range b.taken {
			j.alone()
		}
		b.finish(b.taken)
		clear(b.taken)
		return
	}
	run := b.take()
	b.mu.Unlock()
	if run == nil {
		return
	}
	start := time.Now()
	ok := run.Run(b.parts)
	for _, j := range b.taken {
		j.ok = ok
	}
	b.latest = time.Since(start)
	b.finish(b.taken)
	clear(b.parts)
	clear(b.taken)
}

// take moves into b.parts what one pass has room for, the oldest first. b.mu is
// held.
func (b *Batcher) take() *llama.Session {
	b.parts, b.taken = b.parts[:0], b.taken[:0]
	for _, l := range b.lanes {
		if len(l.waiting) == 0 {
			continue
		}
		rows, left := 0, l.waiting[:0]
		for _, j := range l.waiting {
			n := len(j.part.Batch.Tokens)
			if rows+n > l.run.MaxRows() {
				left = append(left, j)
				continue
			}
			rows += n
			b.parts = append(b.parts, j.part)
			b.taken = append(b.taken, j)
		}
		clear(l.waiting[len(left):])
		l.waiting = left
		return l.run
	}
	return nil
}

// finish wakes those whose jobs are done. They are likely to be back with more.
func (b *Batcher) finish(jobs []*job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, j := range jobs {
		b.awaited[j.seat.session] = struct{}{}
		j.done <- struct{}{}
	}
}
