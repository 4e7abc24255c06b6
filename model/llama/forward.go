package llama

import (
	"context"
	"fmt"

	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
)

// Session is the scratch of forward passes: one pass at a time, over one or
// several sequences, on one team of workers. Begin alone may be called while a
// pass runs.
type Session struct {
	m         *Model
	team      *par.Team
	maxRows   int
	maxLogits int
	attn      []*model.Attention // by sequence of the pass
	spare     []*model.Attention // for more of them
	run       func(*par.Worker)

	x        []float32  // (rows, Dim): the residual stream
	h        model.Acts // (rows, Dim): normalized input of products
	q, k, v  model.Acts // (rows, heads·HeadDim)
	a        model.Acts // (rows, Heads·HeadDim): what attention found
	f, up    model.Acts // (rows, FFN): gate, which becomes gate·up, and up
	y        model.Acts // (rows, Dim): what attention and FFN add to x
	logits   Logits     // of several sequences
	own      Logits     // of Forward
	cos, sin []float32  // (rows, pairs)
	scos     []float32  // (rows, pairs): as the sinks see the rows
	ssin     []float32
	turned   []float32 // (workers, HeadDim): a query as the sinks see it

	parts  []Part
	places []place // (rows)
	wanted []int   // rows that want logits
	scores *model.Acts
	stop   bool
	one    [1]Part
}

// Part is the rows of one sequence in a pass.
type Part struct {
	Ctx   context.Context
	Batch model.Batch
	Pass  *kvcache.Pass
	// Logits receives the scores of the rows that want them.
	Logits *Logits
}

// place is where a row of the pass belongs.
type place struct{ part, row int32 }

// NewSession makes scratch for passes of up to maxRows rows, of which up to
// maxLogits of a sequence want logits, over caches that hold the given form of
// keys and values.
func (m *Model) NewSession(team *par.Team, kvType kernel.KVType, maxRows, maxLogits int) *Session {
	q, kv := m.Heads*m.HeadDim, m.KVHeads*m.HeadDim
	input := func(n int) model.Acts { return model.NewInput(m.set, maxRows, n) }
	output := func(n int) model.Acts { return model.NewActs(maxRows, n) }
	angles := func() []float32 { return make([]float32, maxRows*m.rope.Pairs()) }
	s := &Session{
		m: m, team: team, maxRows: maxRows, maxLogits: min(maxLogits, maxRows),
		attn: []*model.Attention{model.NewAttention(m.set, kvType, m.Heads, m.KVHeads, m.HeadDim, team.Size())},
		x:    make([]float32, maxRows*m.Dim),
		h:    input(m.Dim), q: output(q), k: output(kv), v: output(kv), a: input(q),
		up: output(m.FFN), f: input(m.FFN), y: output(m.Dim),
		cos: angles(), sin: angles(), scos: angles(), ssin: angles(),
	}
	s.spare = s.attn
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
	part, err := s.Begin(ctx, cache, batch, &s.own)
	if err != nil {
		return err
	}
	s.one[0] = part
	ok := s.Run(s.one[:])
	if err := part.Pass.Err(); err != nil {
		return err
	}
	if !ok {
		return ctx.Err()
	}
	cache.End()
	return nil
}

// Begin makes room in the cache for a batch that Run is to run, and in logits
// for the scores. The cache's End follows a Run that returns true. What Begin
// gets belongs to the pass until then.
func (s *Session) Begin(ctx context.Context, cache kvcache.Cache, batch model.Batch, logits *Logits) (Part, error) {
	rows := len(batch.Tokens)
	if rows == 0 || rows > s.maxRows || batch.Logits > min(rows, s.maxLogits) {
		panic(fmt.Sprintf("llama: pass of %d rows with %d logits; the session has room for %d", rows, batch.Logits, s.maxRows))
	}
	for _, t := range batch.Tokens {
		if t < 0 || int(t) >= s.m.Vocab {
			return Part{}, fmt.Errorf("llama: token %d is outside the vocabulary of %d", t, s.m.Vocab)
		}
	}
	logits.fit(s.m, batch.Logits)
	pass, err := cache.Begin(rows, batch.Parents)
	return Part{Ctx: ctx, Batch: batch, Pass: pass, Logits: logits}, err
}

// Run runs one pass over all parts, which are of different sequences and have at
// most MaxRows rows together. It gives up, and returns false, when the contexts
// of all of them have ended.
func (s *Session) Run(parts []Part) bool {
	s.parts, s.places, s.wanted, s.stop = parts, s.places[:0], s.wanted[:0], false
	for len(s.spare) < len(parts) {
		s.spare = append(s.spare, s.spare[0].Twin())
	}
	s.attn = s.spare[:len(parts)]
	for p := range parts {
		batch := &parts[p].Batch
		for r := range batch.Tokens {
			if r >= len(batch.Tokens)-batch.Logits {
				s.wanted = append(s.wanted, len(s.places))
			}
			s.places = append(s.places, place{int32(p), int32(r)})
		}
		s.attn[p].Begin(parts[p].Pass)
	}
	if len(s.places) > s.maxRows {
		panic(fmt.Sprintf("llama: pass of %d rows; the session has room for %d", len(s.places), s.maxRows))
	}
	s.scores = &parts[0].Logits.scores
	if len(parts) > 1 {
		s.logits.fit(s.m, len(s.wanted))
		s.scores = &s.logits.scores
	}
	s.team.Run(s.run)
	s.parts, s.scores = nil, nil
	s.one[0] = Part{}
	return !s.stop
}

// Logits returns the scores (Vocab) of the i-th row that wanted them, of the
// last Forward.
func (s *Session) Logits(i int) []float32 { return s.own.Row(i) }

// ended reports whether nobody waits for the pass any more.
func (s *Session) ended() bool {
	for i := range s.parts {
		if s.parts[i].Ctx.Err() == nil && s.parts[i].Pass.Err() == nil {
			return false
		}
	}
	return true
}

// forward is the model. Every worker runs it; phases end with Sync.
func (s *Session) forward(w *par.Worker) {
	m, rows := s.m, len(s.places)
	lo, hi := w.Share(rows, 1)
	for r := lo; r < hi; r++ {
		p := s.places[r]
		m.embed.Lookup(s.residual(r), s.parts[p.part].Batch.Tokens[p.row])
		s.angles(r)
	}
	for l := range m.layers {
		layer := &m.layers[l]
		for r := lo; r < hi; r++ {
			s.norm(r, layer.attnNorm)
		}
		if w.ID == 0 && s.ended() {
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
		model.Attend(w, l, s.attn)
		w.Sync()
		for r := lo; r < hi; r++ {
			p := s.places[r]
			s.attn[p.part].Finish(s.a.Row(r, m.Heads*m.HeadDim), int(p.row))
			s.quantize(&s.a, r, m.Heads*m.HeadDim)
		}
		w.Sync()
		for p := range s.parts {
			if s.parts[p].Pass.Mass != nil {
				s.attn[p].Weigh(w, l)
			}
		}
		model.Multiply(w, m.set, &s.a, rows, model.Product{W: layer.o, Dst: &s.y})
		w.Sync()
		for r := lo; r < hi; r++ {
			m.set.Add(s.residual(r), s.y.Row(r, m.Dim))
			s.norm(r, layer.ffnNorm)
		}
		w.Sync()
		model.Multiply(w, m.set, &s.h, rows, model.Product{W: layer.gate, Dst: &s.f}, model.Product{W: layer.up, Dst: &s.up})
		w.Sync()
		for r := lo; r < hi; r++ {
			gate := s.f.Row(r, m.FFN)
			m.set.SwiGLU(gate, gate, s.up.Row(r, m.FFN))
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

// head computes the logits of the rows that want them.
func (s *Session) head(w *par.Worker) {
	n := len(s.wanted)
	lo, hi := w.Share(n, 1)
	for i := lo; i < hi; i++ {
		s.m.set.RMSNorm(s.h.Row(i, s.m.Dim), s.residual(s.wanted[i]), s.m.norm, s.m.Eps)
		s.quantize(&s.h, i, s.m.Dim)
	}
	w.Sync()
	if n == 0 {
		return
	}
	model.Multiply(w, s.m.set, &s.h, n, model.Product{W: s.m.output, Dst: s.scores})
	if len(s.parts) == 1 && s.m.Head == nil {
		return
	}
	w.Sync()
	for i := lo; i < hi; i++ {
		p := s.places[s.wanted[i]]
		part := &s.parts[p.part]
		row := part.Logits.Row(int(p.row) - (len(part.Batch.Tokens) - part.Batch.Logits))
		from := s.scores.Row(i, s.m.HeadRows())
		if s.m.Head == nil {
			copy(row, from)
		}
		for j, token := range s.m.Head {
			row[token] = from[j]
		}
	}
}

// rotateAndStore rotates queries and keys to their positions, puts keys and
// values into the cache and prepares the queries, shared by row and KV head.
func (s *Session) rotateAndStore(w *par.Worker, l int) {
	m, d, pairs := s.m, s.m.HeadDim, s.m.rope.Pairs()
	group := m.Heads / m.KVHeads
	lo, hi := w.Share(len(s.places)*m.KVHeads, 1)
	for i := lo; i < hi; i++ {
		r, kv := i/m.KVHeads, i%m.KVHeads
		p := s.places[r]
		pass, attn, at := s.parts[p.part].Pass, s.attn[p.part], int(p.row)
		cos, sin := s.cos[r*pairs:(r+1)*pairs], s.sin[r*pairs:(r+1)*pairs]
		k, v := s.k.Row(r, m.KVHeads*d)[kv*d:(kv+1)*d], s.v.Row(r, m.KVHeads*d)[kv*d:(kv+1)*d]
		m.set.Rope(k, cos, sin)
		pass.Put(l, kv, int(pass.Rows[at].Slot), k, v)
		for h := kv * group; h < (kv+1)*group; h++ {
			q := s.q.Row(r, m.Heads*d)[h*d : (h+1)*d]
			var sinks []float32
			if pass.Sinks {
				sinks = s.turned[w.ID*d : (w.ID+1)*d]
				copy(sinks, q)
				m.set.Rope(sinks, s.scos[r*pairs:(r+1)*pairs], s.ssin[r*pairs:(r+1)*pairs])
			}
			m.set.Rope(q, cos, sin)
			attn.SetQuery(at, h, q, sinks)
			if pass.Mass != nil && at == len(pass.Rows)-1 {
				pass.Mass.SetQuery(l, h, q)
			}
		}
	}
}

// angles computes the rotation of a row, and as the sinks see it.
func (s *Session) angles(r int) {
	n, p := s.m.rope.Pairs(), s.places[r]
	pass := s.parts[p.part].Pass
	row := pass.Rows[p.row]
	s.m.rope.Angles(s.cos[r*n:(r+1)*n], s.sin[r*n:(r+1)*n], int(row.Pos))
	if pass.Sinks {
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
