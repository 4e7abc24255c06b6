package engine

import (
	"context"

	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
	"triforce/model/llama"
)

// readerRows is how many rows want logits in a pass of a Reader.
const readerRows = 64

// Reader tells what a model makes of texts, instead of going on with one. It
// belongs to one goroutine.
type Reader struct {
	e     *Engine
	team  *par.Team
	run   *llama.Session
	cache *kvcache.Full
	rows  [][]float32
}

// NewReader makes a Reader. Close it after use.
func (e *Engine) NewReader() *Reader {
	team := par.NewTeam(e.opt.Threads)
	return &Reader{e: e, team: team, run: e.model.NewSession(team, e.kv, readerRows, readerRows), cache: e.newCache()}
}

// KeepStates makes Read keep the model's states, too.
func (r *Reader) KeepStates() { r.run.KeepStates() }

// State is the state of the model (see llama.Logits) of the i-th row that f was
// given, during the call.
func (r *Reader) State(i int) []float32 { return r.run.State(i) }

// Close ends the reader's workers and gives its cache back.
func (r *Reader) Close() {
	r.team.Close()
	_ = r.cache.Close()
}

// Read calls f with the logits after each token of a text, given all before it:
// some rows at a time, in order, which are valid during the call.
func (r *Reader) Read(ctx context.Context, tokens []int32, f func(logits [][]float32) error) error {
	if len(tokens) > r.e.opt.Context {
		return contextError("text", len(tokens), r.e.opt.Context)
	}
	if err := r.e.checkTokens(tokens); err != nil {
		return err
	}
	r.cache.Rewind(0)
	for len(tokens) > 0 {
		n := min(readerRows, len(tokens))
		if err := r.run.Forward(ctx, r.cache, model.Batch{Tokens: tokens[:n], Logits: n}); err != nil {
			return err
		}
		r.rows = r.rows[:0]
		for i := range n {
			r.rows = append(r.rows, r.run.Logits(i))
		}
		if err := f(r.rows); err != nil {
			return err
		}
		tokens = tokens[n:]
	}
	return nil
}
