package llama

import (
	"context"
	"fmt"
	"math"

	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
)

// Session is the scratch of forward passes: one sequence of passes at a time,
// on one team of workers.
type Session struct {
	m         *Model
	team      *par.Team
	maxRows   int
	maxLogits int
	attn      *model.Attention
	run       func(*par.Worker)

	x        []float32  // (rows, Dim): the residual stream
	h        model.Acts // (rows, Dim): normalized input of products
	q, k, v  model.Acts // (rows, heads·HeadDim)
	a        model.Acts // (rows, Heads·HeadDim): what attention found
	gate, up model.Acts // (rows, FFN)
	f        model.Acts // (rows, FFN): gate·up
	y        model.Acts // (rows, Dim): what attention and FFN add to x
	logits   model.Acts // (rows that wanted them so far, HeadRows)
	spread   []float32  // (the same rows, Vocab), of a trimmed head
	cos, sin []float32  // (rows, pairs)
	scos     []float32  // (rows, pairs): as the sinks see the rows
	ssin     []float32
	turned   []float32 // (workers, HeadDim): a query as the sinks see it

	ctx   context.Context
	batch model.Batch
	pass  *kvcache.Pass
	stop  bool
}

// NewSession makes scratch for passes of up to maxRows rows, of which up to
// maxLogits want logits, over caches that hold the given form of keys and
// values.
func (m *Model) NewSession(team *par.Team, kvType kernel.KVType, maxRows, maxLogits int) *Session {
	q, kv := m.Heads*m.HeadDim, m.KVHeads*m.HeadDim
	input := func(n int) model.Acts { return model.NewInput(m.set, maxRows, n) }
	output := func(n int) model.Acts { return model.NewActs(maxRows, n) }
	angles := func() []float32 { return make([]float32, maxRows*m.rope.Pairs()) }
	s := &Session{
		m: m, team: team, maxRows: maxRows, maxLogits: min(maxLogits, maxRows),
		attn: model.NewAttention(m.set, kvType, m.Heads, m.KVHeads, m.HeadDim, maxRows, team.Size()),
		x:    make([]float32, maxRows*m.Dim),
		h:    input(m.Dim), q: output(q), k: output(kv), v: output(kv), a: input(q),
		gate: output(m.FFN), up: output(m.FFN), f: input(m.FFN), y: output(m.Dim),
		cos: angles(), sin: angles(), scos: angles(), ssin: angles(),
	}
	s.makeLogits(1)
	s.turned = make([]float32, team.Size()*m.HeadDim)
	s.run = s.forward
	return s
}

// MaxRows is the number of rows that a pass may have.
func (s *Session) MaxRows() int { return s.maxRows }

// Forward appends the batch's tokens to the cache. Logits gives the scores of
// the last batch.Logits rows until the next call. If ctx ends first, the cache
// stays as it was.
func (s *Session) Forward(ctx context.Context, cache kvcache.Cache, batch model.Batch) error {
	rows := len(batch.Tokens)
	if rows == 0 || rows > s.maxRows || batch.Logits > min(rows, s.maxLogits) {
		panic(fmt.Sprintf("llama: pass of %d rows with %d logits; the session has room for %d", rows, batch.Logits, s.maxRows))
	}
	for _, t := range batch.Tokens {
		if t < 0 || int(t) >= s.m.Vocab {
			return fmt.Errorf("llama: token %d is outside the vocabulary of %d", t, s.m.Vocab)
		}
	}
	if batch.Logits*s.logits.Width > len(s.logits.F) {
		s.makeLogits(batch.Logits)
	}
	pass, err := cache.Begin(rows, batch.Parents)
	if err != nil {
		return err
	}
	s.ctx, s.batch, s.pass, s.stop = ctx, batch, pass, false
	s.attn.Begin(pass)
	s.team.Run(s.run)
	s.ctx, s.pass = nil, nil
	if s.stop {
		return ctx.Err()
	}
	cache.End()
	return nil
}

// Logits returns the scores (Vocab) of the i-th row that wanted them. Tokens that
// a trimmed head lacks have the score -Inf.
func (s *Session) Logits(i int) []float32 {
	if s.m.Head != nil {
		return s.spread[i*s.m.Vocab : (i+1)*s.m.Vocab]
	}
	return s.logits.Row(i, s.m.Vocab)
}

// makeLogits makes room for the logits of so many rows.
func (s *Session) makeLogits(rows int) {
	s.logits = model.NewActs(rows, s.m.HeadRows())
	if s.m.Head == nil {
		return
	}
	s.spread = make([]float32, rows*s.m.Vocab)
	none := float32(math.Inf(-1))
	for i := range s.spread {
		s.spread[i] = none
	}
}

// forward is the model. Every worker runs it; phases end with Sync.
func (s *Session) forward(w *par.Worker) {
	m, rows := s.m, len(s.batch.Tokens)
	lo, hi := w.Share(rows, 1)
	for r := lo; r < hi; r++ {
		m.embed.Lookup(s.residual(r), s.batch.Tokens[r])
		s.angles(r)
	}
	for l := range m.layers {
		layer := &m.layers[l]
		for r := lo; r < hi; r++ {
			s.norm(r, layer.attnNorm)
		}
		if w.ID == 0 && s.ctx.Err() != nil {
			s.stop = true
		}
		w.Sync()
		if s.stop {
			return
		}
		model.Multiply(w, m.set, &s.h, rows,
			model.Product{W: layer.q, Dst: &s.q}, model.Product{W: layer.k, Dst: &s.k}, model.Product{W: layer.v, Dst: &s.v})
		w.Sync()
		s.rotateAndStore(w, l)
		w.Sync()
		s.attn.Attend(w, l)
		w.Sync()
		for r := lo; r < hi; r++ {
			s.attn.Finish(s.a.Row(r, m.Heads*m.HeadDim), r)
			s.quantize(&s.a, r, m.Heads*m.HeadDim)
		}
		w.Sync()
		if s.pass.Mass != nil {
			s.attn.Weigh(w, l)
		}
		model.Multiply(w, m.set, &s.a, rows, model.Product{W: layer.o, Dst: &s.y})
		w.Sync()
		for r := lo; r < hi; r++ {
			m.set.Add(s.residual(r), s.y.Row(r, m.Dim))
			s.norm(r, layer.ffnNorm)
		}
		w.Sync()
		model.Multiply(w, m.set, &s.h, rows, model.Product{W: layer.gate, Dst: &s.gate}, model.Product{W: layer.up, Dst: &s.up})
		w.Sync()
		for r := lo; r < hi; r++ {
			m.set.SwiGLU(s.f.Row(r, m.FFN), s.gate.Row(r, m.FFN), s.up.Row(r, m.FFN))
			s.quantize(&s.f, r, m.FFN)
		}
		w.Sync()
		model.Multiply(w, m.set, &s.f, rows, model.Product{W: layer.down, Dst: &s.y})
		w.Sync()
		for r := lo; r < hi; r++ {
			m.set.Add(s.residual(r), s.y.Row(r, m.Dim))
		}
	}
	w.Sync()
	s.head(w)
}

// head computes the logits of the last rows.
func (s *Session) head(w *par.Worker) {
	n := s.batch.Logits
	lo, hi := w.Share(n, 1)
	for i := lo; i < hi; i++ {
		x := s.residual(len(s.batch.Tokens) - n + i)
		s.m.set.RMSNorm(s.h.Row(i, s.m.Dim), x, s.m.norm, s.m.Eps)
		s.quantize(&s.h, i, s.m.Dim)
	}
	w.Sync()
	if n > 0 {
		model.Multiply(w, s.m.set, &s.h, n, model.Product{W: s.m.output, Dst: &s.logits})
	}
	if s.m.Head == nil {
		return
	}
	w.Sync()
	for i := lo; i < hi; i++ {
		row, all := s.logits.Row(i, len(s.m.Head)), s.Logits(i)
		for j, token := range s.m.Head {
			all[token] = row[j]
		}
	}
}

// rotateAndStore rotates queries and keys to their positions, puts keys and
// values into the cache and prepares the queries, shared by row and KV head.
func (s *Session) rotateAndStore(w *par.Worker, l int) {
	m, d, pairs := s.m, s.m.HeadDim, s.m.rope.Pairs()
	group := m.Heads / m.KVHeads
	lo, hi := w.Share(len(s.batch.Tokens)*m.KVHeads, 1)
	for i := lo; i < hi; i++ {
		r, kv := i/m.KVHeads, i%m.KVHeads
		cos, sin := s.cos[r*pairs:(r+1)*pairs], s.sin[r*pairs:(r+1)*pairs]
		k, v := s.k.Row(r, m.KVHeads*d)[kv*d:(kv+1)*d], s.v.Row(r, m.KVHeads*d)[kv*d:(kv+1)*d]
		m.set.Rope(k, cos, sin)
		s.pass.Put(l, kv, int(s.pass.Rows[r].Slot), k, v)
		for h := kv * group; h < (kv+1)*group; h++ {
			q := s.q.Row(r, m.Heads*d)[h*d : (h+1)*d]
			var sinks []float32
			if s.pass.Sinks {
				sinks = s.turned[w.ID*d : (w.ID+1)*d]
				copy(sinks, q)
				m.set.Rope(sinks, s.scos[r*pairs:(r+1)*pairs], s.ssin[r*pairs:(r+1)*pairs])
			}
			m.set.Rope(q, cos, sin)
			s.attn.SetQuery(r, h, q, sinks)
			if s.pass.Mass != nil && r == len(s.batch.Tokens)-1 {
				s.pass.Mass.SetQuery(l, h, q)
			}
		}
	}
}

// angles computes the rotation of a row, and as the sinks see it.
func (s *Session) angles(r int) {
	n := s.m.rope.Pairs()
	row := s.pass.Rows[r]
	s.m.rope.Angles(s.cos[r*n:(r+1)*n], s.sin[r*n:(r+1)*n], int(row.Pos))
	if s.pass.Sinks {
		s.m.rope.Angles(s.scos[r*n:(r+1)*n], s.ssin[r*n:(r+1)*n], int(row.SinkPos))
	}
}

func (s *Session) residual(r int) []float32 { return s.x[r*s.m.Dim : (r+1)*s.m.Dim] }

// norm prepares the normalized row r as input of products.
func (s *Session) norm(r int, weight []float32) {
	s.m.set.RMSNorm(s.h.Row(r, s.m.Dim), s.residual(r), weight, s.m.Eps)
	s.quantize(&s.h, r, s.m.Dim)
}

func (s *Session) quantize(a *model.Acts, r, n int) {
	if s.m.quant {
		a.Quantize(s.m.set, r, n)
	}
}
