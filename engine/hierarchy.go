package engine

import (
	"context"
	"math"
	"time"

	"triforce/kvcache"
	"triforce/model"
	"triforce/sample"
	"triforce/speculate"
)

// Origins: who first proposed a token.
const (
	originTarget uint8 = iota
	originView
	originDraft
	originNGram
)

// OriginNames gives the names of Token.Origin's values.
func OriginNames() []string { return []string{"target", "retrieved", "draft", "ngram"} }

// massRows is how many of the newest rows of a pass say which chunks matter.
const massRows = 8

// draftWindow is the least window of the draft's cache.
const draftWindow = 256

// draftRows is the number of rows of a pass of the draft.
const draftRows = 64

// draftRoom is how many rows the draft's cache takes beyond its window before that
// moves. Snapshots hold a cache of that size.
const draftRoom = 256

// verifier is a model with a cache, as a level of speculation sees it.
type verifier struct {
	run   *seat
	cache kvcache.Cache
	vocab int // logits beyond it are cut off
	limit int // tokens that the cache takes
	rows  [][]float32

	states *states     // what passes find of them, or nil
	silent int         // tokens of the last pass before those that wanted logits
	given  [][]float32 // states for the tokens of a pass, or nil
}

func (v *verifier) Len() int     { return v.cache.Len() }
func (v *verifier) MaxRows() int { return min(v.run.MaxRows(), v.limit-v.Len()) }

func (v *verifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	base := v.cache.Len()
	if err := v.run.Forward(ctx, v.cache, model.Batch{Tokens: tokens, Parents: parents, Logits: want, States: v.given}); err != nil {
		return nil, err
	}
	if v.silent = len(tokens) - want; v.states != nil && parents == nil {
		for i := range want {
			v.states.put(base+v.silent+i, v.run.State(i))
		}
	}
	v.rows = v.rows[:0]
	for i := range want {
		logits := v.run.Logits(i)
		v.rows = append(v.rows, logits[:min(v.vocab, len(logits))])
	}
	return v.rows, nil
}

func (v *verifier) Truncate(n int) {
	if n < v.cache.Len() {
		v.cache.Rewind(n)
	}
	v.states.truncate(n)
}

func (v *verifier) Keep(base int, path []int32) {
	v.cache.Keep(base, path)
	if v.states == nil {
		return
	}
	v.states.truncate(base)
	for i, at := range path {
		if at := int(at) - v.silent; at >= 0 {
			v.states.put(base+i, v.run.State(at))
		}
	}
}

// Commit does nothing: these caches neither evict nor index what is final.
func (v *verifier) Commit(int) {}

// fullVerifier is the verifier over the full cache. From its passes over one row
// the session learns how fast memory is read.
type fullVerifier struct {
	verifier
	session *Session
}

func (v *fullVerifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	depth, start := v.cache.Len(), time.Now()
	rows, err := v.verifier.Forward(ctx, tokens, parents, want)
	if err == nil && len(tokens) == 1 && v.session.cache.PassBytes() == 0 {
		v.session.rates.observeOne(v.session.e, depth, time.Since(start).Seconds())
	}
	return rows, err
}

// viewVerifier is a verifier over a retrieved view, which takes over from the
// full cache what is final: when it is next used, since another drafter may be.
// While it is not in use, passes need not record what matters to it.
type viewVerifier struct {
	verifier
	view      *kvcache.View
	full      *kvcache.Full
	mass      *kvcache.Mass
	stale     bool
	final     int // tokens of the history that are, if stale
	idle      int // rounds in which it was not used
	slotBytes float64
	err       error // of the newest refresh
	refresh   func()
}

// newViewVerifier completes v.
func newViewVerifier(v viewVerifier) *viewVerifier {
	v.refresh = func() { v.err = v.view.Refresh() } // made once, so that a round allocates nothing
	return &v
}

// freshen brings the view up to date with the full cache.
func (v *viewVerifier) freshen() error {
	v.run.alone(v.refresh)
	return v.err
}

// idleRounds is how many rounds without use a view expects to be used again.
const idleRounds = 3

func (v *viewVerifier) Commit(n int) {
	v.stale, v.final = true, n
	if v.idle++; v.idle == idleRounds {
		v.full.Record(nil)
	}
}

// Len is that of the refreshed view.
func (v *viewVerifier) Len() int {
	if v.stale {
		return min(v.full.Len(), v.final)
	}
	return v.view.Len()
}

// Behind is the seconds that a refresh takes, more or less.
func (v *viewVerifier) Behind() float64 {
	if !v.stale {
		return 0
	}
	return float64(1+v.view.Lacks()) * v.slotBytes / refreshRate
}

// refreshRate is the bytes of keys and values a second that a refresh copies and
// averages.
const refreshRate = 1e9

func (v *viewVerifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	if err := v.CatchUp(); err != nil {
		return nil, err
	}
	return v.verifier.Forward(ctx, tokens, parents, want)
}

func (v *viewVerifier) Truncate(n int) {
	if v.stale {
		v.final = min(v.final, n)
		v.states.truncate(n)
	} else {
		v.verifier.Truncate(n)
	}
}

// CatchUp refreshes the view.
func (v *viewVerifier) CatchUp() error {
	if !v.stale {
		return nil
	}
	if err := v.freshen(); err != nil {
		return err
	}
	v.stale, v.idle = false, 0
	v.verifier.Truncate(v.final)
	v.full.Record(v.mass)
	return nil
}

// draftVerifier is a verifier over a streaming cache. Of a long history it feeds
// only what the cache shows: the sinks and the window. A draft that takes the
// target's states is fed again what it has drafted, once they are known; until
// then its own may stand in for them (verifier.states).
type draftVerifier struct {
	verifier
	stream *kvcache.Stream
	sinks  int
	final  int                        // tokens of the history that are
	known  *states                    // of the target, or nil
	told   int                        // tokens of the cache that will not be fed again
	expect func(rows float64) float64 // seconds of a pass
}

// Behind is the seconds that it takes to feed again what was drafted before the
// target's states were known, in a pass that is due anyway.
func (v *draftVerifier) Behind() float64 {
	if v.known == nil {
		return 0
	}
	v.told = min(max(v.told, v.known.from+1), v.stream.Len())
	if v.known.before(v.told) == nil {
		return 0
	}
	return v.expect(float64(1+v.stream.Len()-v.told)) - v.expect(1)
}

// CatchUp makes the cache forget it, so that the next pass is fed it again.
func (v *draftVerifier) CatchUp() error {
	v.stream.Rewind(v.told)
	v.states.truncate(v.told)
	return nil
}

// tell finds the states for tokens from position base on.
func (v *draftVerifier) tell(base, tokens int) {
	v.given = v.given[:0]
	for p := base; p < base+tokens; p++ {
		state := v.known.before(p)
		if state != nil && v.told == p {
			v.told++
		}
		if state == nil {
			state = v.states.before(p)
		}
		v.given = append(v.given, state)
	}
}

// Keep forgets the draft's own states: passes over trees leave none.
func (v *draftVerifier) Keep(base int, path []int32) {
	v.states.truncate(base)
	v.cache.Keep(base, path)
}

func (v *draftVerifier) Commit(n int) { v.final = n }

// skips is the token with which the window begins, if nothing of it is there.
func (v *draftVerifier) skips() (int, bool) {
	to := v.stream.Wants(v.final)
	return to, to > v.stream.Len()
}

func (v *draftVerifier) Len() int {
	if to, skips := v.skips(); skips && v.stream.Len() >= v.sinks {
		return to
	}
	return v.stream.Len()
}

func (v *draftVerifier) MaxRows() int {
	if _, skips := v.skips(); skips && v.stream.Len() < v.sinks {
		return v.sinks - v.stream.Len()
	}
	return v.verifier.MaxRows()
}

func (v *draftVerifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	if to, skips := v.skips(); skips && v.stream.Len() >= v.sinks {
		v.stream.Skip(to)
		v.told = max(v.told, to)
	}
	if v.known != nil {
		v.tell(v.stream.Len(), len(tokens))
	}
	return v.verifier.Forward(ctx, tokens, parents, want)
}

func (v *draftVerifier) Truncate(n int) {
	v.final, v.told = min(v.final, n), min(v.told, n)
	v.verifier.Truncate(n)
}

// hierarchy is the levels of a session: the part of it that depends on Spec.
type hierarchy struct {
	spec   Spec
	top    *speculate.Level
	levels []*speculate.Level // the topmost last
	mass   *kvcache.Mass      // or nil
	view   *viewVerifier      // or nil
	run    *seat              // of the target

	small  *speculate.Level // over the draft, or nil
	draft  *seat            // or nil
	stream *kvcache.Stream  // or nil
	known  *states          // of the target, if the draft takes them, or nil
}

// Chances that a token of a level is accepted, as long as that is not known:
// what was measured on novels.
const (
	viewMisses = 0.12 // of a view of viewBudget tokens; with four times as many it is half as much
	viewBudget = 512
	draftPrior = 0.6
)

// viewPrior is that of a view.
func viewPrior(budget int) float64 {
	return 1 - min(0.5, viewMisses*math.Sqrt(viewBudget/float64(budget)))
}

// build makes the levels that spec asks for over the session's full cache.
func (s *Session) build(spec Spec) *hierarchy {
	h := &hierarchy{spec: spec, run: s.run}
	start := time.Now()
	clock := func() time.Duration { return time.Since(start) }
	vocab := s.e.file.tokenizer.Vocab().Size()
	level := func(c speculate.Config) *speculate.Level {
		c.Clock = clock
		l := speculate.New(c)
		h.levels = append(h.levels, l)
		return l
	}
	newDraft := func() speculate.Drafter {
		if h.small == nil {
			d := s.e.draft
			if d.model.State > 0 {
				h.known = newStates(d.model.State)
			}
			var own *states
			window := max(draftWindow, spec.Window)
			h.draft = s.b.newSeat(s.b.lane(d), s, draftRows)
			if d.model.OwnState {
				h.draft.logits.States, own = true, newStates(d.model.State)
			}
			expect := s.expect(d, func() int { return min(s.cache.Len(), spec.Sinks+window) })
			h.stream = kvcache.NewStream(kvcache.NewStore(d.model.KVShape(d.kv), d.set), spec.Sinks, window, draftRoom)
			c := speculate.Config{Name: "draft", Origin: originDraft, Prior: draftPrior,
				Expect: expect,
				Verifier: &draftVerifier{stream: h.stream, sinks: spec.Sinks, known: h.known, expect: expect,
					verifier: verifier{run: h.draft, cache: h.stream, vocab: vocab, limit: maxContext, states: own}}}
			if spec.Tree {
				c.Branches = treeBranches
			}
			h.small = level(c)
		}
		return h.small
	}
	newView := func(below ...speculate.Drafter) speculate.Drafter {
		h.mass = kvcache.NewMass(s.cache.Shape(), s.e.model.Heads/s.e.model.KVHeads, massRows)
		view := spec.view()
		cache := kvcache.NewView(s.e.set, s.cache, s.b.team, view)
		h.view = newViewVerifier(viewVerifier{verifier: verifier{run: s.run, cache: cache, vocab: vocab, limit: maxContext, states: h.known},
			view: cache, full: s.cache, mass: h.mass, slotBytes: s.e.slotBytes()})
		name := "retrieved"
		if spec.Mode == SpecStream {
			name = "stream"
		}
		return level(speculate.Config{Name: name, Origin: originView, Below: below, Depth: spec.Inner, Prior: viewPrior(view.BudgetAt(0)),
			Expect:   s.expect(s.e, func() int { return view.Slots(s.cache.Len()) }),
			Verifier: h.view})
	}
	var below []speculate.Drafter
	switch spec.Mode {
	case SpecNGram:
		below = append(below, speculate.NewNGram(originNGram))
	case SpecDraft:
		below = append(below, newDraft())
	case SpecStream, SpecRetrieval:
		below = append(below, newView())
	case SpecTriForce:
		below = append(below, newView(newDraft()))
	case SpecAuto:
		ngram := speculate.NewNGram(originNGram)
		if s.e.draft != nil {
			below = append(below, ngram, newDraft(), newView(ngram, newDraft()))
		} else {
			below = append(below, ngram, newView(ngram))
		}
	}
	h.top = level(speculate.Config{Name: "target", Origin: originTarget, Below: below, Depth: spec.Outer,
		Expect: s.expectFull(),
		Verifier: &fullVerifier{session: s,
			verifier: verifier{run: s.run, cache: s.cache, vocab: vocab, limit: s.e.opt.Context, states: h.known}}})
	s.cache.Record(h.mass)
	return h
}

// treeBranches is how many candidates a draft tree has at its first positions.
var treeBranches = []int{3, 2}

const draftBranches = 2

// bytes is the memory of the caches below the target's.
func (h *hierarchy) bytes() int64 {
	n := int64(0)
	if h.view != nil {
		n += h.view.view.Bytes()
	}
	if h.stream != nil {
		n += h.stream.Bytes()
	}
	return n
}

// rewind makes the caches below the target's forget what follows n tokens.
func (h *hierarchy) rewind(n int) {
	if h.view != nil && h.view.view.Len() > n {
		h.view.view.Rewind(n)
	}
	if h.stream != nil && h.stream.Len() > n {
		h.stream.Rewind(n)
	}
	h.known.truncate(n)
}

// prime hands the history to the levels, and brings the caches below the
// target's to it: in SpecAuto those only whose levels may pay, as far as can be
// told beforehand.
func (h *hierarchy) prime(ctx context.Context, history []int32, sampling sample.Options) error {
	h.top.Reset(speculate.Request{History: history, Sampling: sampling, Rule: h.spec.rule()})
	for i, d := range h.top.Below {
		l, ok := d.(*speculate.Level)
		if !ok || h.spec.Mode == SpecAuto && !h.top.Promising(i) {
			continue
		}
		if l != h.small {
			if err := h.view.freshen(); err != nil {
				return err
			}
		}
		if h.small != nil {
			if err := h.small.Prepare(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}
