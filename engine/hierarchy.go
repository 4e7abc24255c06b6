package engine

import (
	"context"
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
const draftRows = 256

// verifier is a model with a cache, as a level of speculation sees it.
type verifier struct {
	run   *seat
	cache kvcache.Cache
	vocab int // logits beyond it are cut off
	limit int // tokens that the cache takes
	rows  [][]float32
}

func (v *verifier) Len() int     { return v.cache.Len() }
func (v *verifier) MaxRows() int { return min(v.run.MaxRows(), v.limit-v.Len()) }

func (v *verifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	if err := v.run.Forward(ctx, v.cache, model.Batch{Tokens: tokens, Parents: parents, Logits: want}); err != nil {
		return nil, err
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
}

func (v *verifier) Keep(base int, path []int32) { v.cache.Keep(base, path) }

// Commit does nothing: these caches neither evict nor index what is final.
func (v *verifier) Commit(int) {}

// viewVerifier is a verifier over a retrieved view, which takes over from the
// full cache what is final: when it is next used, since another drafter may be.
type viewVerifier struct {
	verifier
	view  *kvcache.View
	full  *kvcache.Full
	stale bool
	err   error // of a refresh that the next pass reports
}

func (v *viewVerifier) Commit(int) { v.stale = true }

// Len is that of the refreshed view.
func (v *viewVerifier) Len() int {
	if v.stale {
		return v.full.Len()
	}
	return v.view.Len()
}

func (v *viewVerifier) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	if v.err == nil {
		v.refresh()
	}
	if err := v.err; err != nil {
		v.err = nil
		return nil, err
	}
	return v.verifier.Forward(ctx, tokens, parents, want)
}

func (v *viewVerifier) Truncate(n int) {
	if n < v.Len() {
		v.refresh()
		v.view.Rewind(min(n, v.view.Len()))
	}
}

func (v *viewVerifier) refresh() {
	if v.stale {
		v.run.alone(func() { v.err = v.view.Refresh() })
		v.stale = v.err != nil
	}
}

// hierarchy is the levels of a session: the part of it that depends on Spec.
type hierarchy struct {
	spec   Spec
	top    *speculate.Level
	levels []*speculate.Level // the topmost last
	view   *kvcache.View      // or nil
	run    *seat              // of the target

	draft  *seat           // or nil
	stream *kvcache.Stream // or nil
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
	var draft *speculate.Level
	var mass *kvcache.Mass
	newDraft := func() speculate.Drafter {
		if draft == nil {
			d := s.e.draft
			window := max(draftWindow, spec.Window)
			h.draft = s.b.newSeat(s.b.lane(d), s, draftRows)
			h.stream = kvcache.NewStream(kvcache.NewStore(d.model.KVShape(d.kv), d.set), spec.Sinks, window, draftRows)
			c := speculate.Config{Name: "draft", Origin: originDraft,
				Verifier: &verifier{run: h.draft, cache: h.stream, vocab: vocab, limit: maxContext}}
			if spec.Tree {
				c.Branches = treeBranches
			}
			draft = level(c)
		}
		return draft
	}
	newView := func(below ...speculate.Drafter) speculate.Drafter {
		mass = kvcache.NewMass(s.cache.Shape(), s.e.model.Heads/s.e.model.KVHeads, massRows)
		h.view = kvcache.NewView(s.e.set, s.cache, s.b.team, spec.view(s.e.file.standIn()))
		name := "retrieved"
		if spec.Mode == SpecStream {
			name = "stream"
		}
		return level(speculate.Config{Name: name, Origin: originView, Below: below, Depth: spec.Inner, Verifier: &viewVerifier{
			verifier: verifier{run: s.run, cache: h.view, vocab: vocab, limit: maxContext}, view: h.view, full: s.cache}})
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
			below = append(below, ngram, newDraft(), newView(speculate.FirstOf{ngram, newDraft()}))
		} else {
			below = append(below, ngram, newView(ngram))
		}
	}
	h.top = level(speculate.Config{Name: "target", Origin: originTarget, Below: below, Depth: spec.Outer,
		Verifier: &verifier{run: s.run, cache: s.cache, vocab: vocab, limit: s.e.opt.Context}})
	s.cache.Record(mass)
	return h
}

// treeBranches is how many candidates a draft tree has at its first positions.
var treeBranches = []int{3, 2}

const draftBranches = 2

// bytes is the memory of the caches below the target's.
func (h *hierarchy) bytes() int64 {
	n := int64(0)
	if h.view != nil {
		n += h.view.Bytes()
	}
	if h.stream != nil {
		n += h.stream.Bytes()
	}
	return n
}

// rewind makes the caches below the target's forget what follows n tokens.
func (h *hierarchy) rewind(n int) {
	if h.view != nil && h.view.Len() > n {
		h.view.Rewind(n)
	}
	if h.stream != nil && h.stream.Len() > n {
		h.stream.Rewind(n)
	}
}

// prime brings the caches below the target's to the history, of which the
// draft's needs the sinks and the window only, and hands it to the levels.
func (h *hierarchy) prime(ctx context.Context, history []int32, sampling sample.Options) error {
	if h.stream != nil {
		if err := h.primeDraft(ctx, history[:len(history)-1]); err != nil {
			return err
		}
	}
	if h.view != nil {
		var err error
		h.run.alone(func() { err = h.view.Refresh() })
		if err != nil {
			return err
		}
	}
	h.top.Reset(speculate.Request{History: history, Sampling: sampling, Rule: h.spec.rule()})
	return nil
}

func (h *hierarchy) primeDraft(ctx context.Context, tokens []int32) error {
	n := len(tokens)
	c := h.stream
	feed := func(end int) error {
		for at := c.Len(); at < end; at = c.Len() {
			batch := model.Batch{Tokens: tokens[at:min(at+draftRows, end)]}
			if err := h.draft.Forward(ctx, c, batch); err != nil {
				return err
			}
		}
		return nil
	}
	if want := c.Wants(n); want > c.Len() {
		if err := feed(min(h.spec.Sinks, n)); err != nil {
			return err
		}
		if want > c.Len() {
			c.Skip(want)
		}
	}
	return feed(n)
}
