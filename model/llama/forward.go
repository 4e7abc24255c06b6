package llama

import (
	"context"
	"fmt"
	"math/bits"

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
	crew      crew
	maxRows   int
	maxLogits int
	attn      []*model.Attention // by sequence of the pass
	spare     []*model.Attention // for more of them
	run       func(*par.Worker)

	stream              // of all workers
	alone    []stream   // of each worker, for small passes
	q, k, v  model.Acts // (rows, heads·HeadDim)
	known    model.Acts // (rows, State): what a target had, or zero
	up       model.Acts // (rows, FFN); in the memory of q, k, v and a, which nobody needs by then
	y        model.Acts // (rows, Dim): what attention and FFN add to x; in the memory of h, which products have read by then
	logits   Logits     // of several sequences
	own      Logits     // of Forward
	cos, sin []float32  // (rows, pairs)
	scos     []float32  // (rows, pairs): as the sinks see the rows
	ssin     []float32
	turned   []float32 // (workers, HeadDim): a query as the sinks see it

	parts  []Part
	places []place // (rows)
	told   bool    // some rows come with a target's state
	wanted []int   // rows that want logits
	scores *model.Acts
	heads  bool // each worker goes through attention with heads of its own
	stop   bool
	one    [1]Part
}

// stream is what rows carry from layer to layer, and what is made of it for
// products.
type stream struct {
	x []float32  // (rows, Dim): the residual stream
	h model.Acts // (rows, Dim): normalized
	f model.Acts // (rows, FFN): gate, if of all workers, and then gate·up
	a model.Acts // (rows, Heads·HeadDim): what attention found
}

// smallPass is up to how many elements of the feed-forward layer each worker
// computes all norms and activations of a pass itself: sooner done than a
// barrier is passed behind which to find them. One row is not worth sharing
// however long it is.
const smallPass = 2048

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
	angles := func() []float32 { return make([]float32, maxRows*m.rope.Pairs()) }
	s := &Session{
		m: m, crew: crew{all: team, one: par.NewTeam(1)}, maxRows: maxRows, maxLogits: min(maxLogits, maxRows),
		attn:   []*model.Attention{model.NewAttention(m.set, kvType, m.Heads, m.KVHeads, m.HeadDim, team.Size())},
		stream: m.newStream(maxRows),
		q:      model.NewActs(0, q), k: model.NewActs(0, kv), v: model.NewActs(0, kv),
		cos: angles(), sin: angles(), scos: angles(), ssin: angles(),
	}
	s.y = model.Acts{F: s.h.F, Width: s.h.Width}
	s.a = model.NewActs(0, q)
	s.up = model.Overlay(maxRows, m.FFN, &s.q, &s.k, &s.v, &s.a)
	s.a.MakeInput(m.set, maxRows, q)
	for range team.Size() {
		rows := min(maxRows, m.smallRows())
		t := m.newStream(rows)
		t.a = model.NewInput(m.set, rows, q)
		s.alone = append(s.alone, t)
	}
	if m.State > 0 {
		s.known = model.NewInput(m.set, maxRows, m.State)
	}
	s.spare = s.attn
	s.turned = make([]float32, team.Size()*m.HeadDim)
	s.run = s.forward
	return s
}

func (m *Model) newStream(rows int) stream {
	return stream{
		x: make([]float32, rows*m.Dim),
		h: model.NewInput(m.set, rows, m.Dim), f: model.NewInput(m.set, rows, m.FFN),
	}
}

// smallRows is the number of rows of the largest small pass.
func (m *Model) smallRows() int { return max(1, smallPass/m.FFN) }

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
	logits.fit(s.m, batch.Logits, s.maxLogits)
	pass, err := cache.Begin(rows, batch.Parents)
	return Part{Ctx: ctx, Batch: batch, Pass: pass, Logits: logits}, err
}

// Run runs one pass over all parts, which are of different sequences and have at
// most MaxRows rows together. It gives up, and returns false, when the contexts
// of all of them have ended.
func (s *Session) Run(parts []Part) bool {
	s.parts, s.places, s.wanted, s.stop, s.told = parts, s.places[:0], s.wanted[:0], false, false
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
			s.told = s.told || batch.States != nil && batch.States[r] != nil
		}
	}
	work := s.work()
	s.heads = s.byHeads(work)
	for p := range parts {
		s.attn[p].Begin(parts[p].Pass, s.heads)
	}
	if len(s.places) > s.maxRows {
		panic(fmt.Sprintf("llama: pass of %d rows; the session has room for %d", len(s.places), s.maxRows))
	}
	s.scores = &parts[0].Logits.scores
	if len(parts) > 1 {
		s.logits.fit(s.m, len(s.wanted), 4*len(s.wanted)) // if more come, room for as many again
		s.scores = &s.logits.scores
	}
	s.crew.run(work, s.run)
	s.parts, s.scores = nil, nil
	s.one[0] = Part{}
	return !s.stop
}

// byHeads reports whether each worker is to go through attention with heads of its
// own: in small passes sharing them more evenly is not worth the barriers.
func (s *Session) byHeads(work int) bool {
	m := s.m
	if len(s.places) > m.smallRows() || bits.Len(uint(work)) > smallWork || m.KVHeads%s.crew.all.Size() > 0 || m.HeadDim%kernel.Panel > 0 {
		return false
	}
	for p := range s.parts {
		if s.parts[p].Pass.Offloaded() {
			return false
		}
	}
	return true
}

// work is the multiply-accumulates of the pass.
func (s *Session) work() int {
	m := s.m
	q, kv := m.Heads*m.HeadDim, m.KVHeads*m.HeadDim
	n := len(s.places)*m.Layers*m.Dim*(2*q+2*kv+3*m.FFN) + len(s.wanted)*m.Dim*m.HeadRows()
	for p := range s.parts {
		for _, row := range s.parts[p].Pass.Rows {
			n += 2 * m.Layers * q * int(row.Hi-row.Lo)
		}
	}
	return n
}

// Logits returns the scores (Vocab) of the i-th row that wanted them, of the
// last Forward.
func (s *Session) Logits(i int) []float32 { return s.own.Row(i) }

// State returns the state (Dim) of that row, if the session keeps them.
func (s *Session) State(i int) []float32 { return s.own.State(i) }

// KeepStates makes the session keep the states of rows that want logits.
func (s *Session) KeepStates() { s.own.States = true }

// ended reports whether nobody waits for the pass any more.
func (s *Session) ended() bool {
	for i := range s.parts {
		if s.parts[i].Ctx.Err() == nil && s.parts[i].Pass.Err() == nil {
			return false
		}
	}
	return true
}

// forward is the model. Every worker runs it; phases end with Sync. In a small
// pass each worker has a stream of its own, with all rows, and need not wait
// for others before it reads it.
func (s *Session) forward(w *par.Worker) {
	m, rows := s.m, len(s.places)
	lo, hi := w.Share(rows, 1)
	for r := lo; r < hi; r++ {
		s.angles(r)
	}
	t, sync, from, to := &s.stream, w.Sync, lo, hi
	if rows <= m.smallRows() {
		t, sync, from, to = &s.alone[w.ID], func() {}, 0, rows
	}
	for r := from; r < to; r++ {
		p := s.places[r]
		m.embed.Lookup(t.residual(m, r), s.parts[p.part].Batch.Tokens[p.row])
	}
	if s.told {
		s.tell(w, t, from, to)
	}
	if s.heads { // which all want all angles, and no barrier before
		w.Sync()
	}
	for l := range m.layers {
		layer := &m.layers[l]
		for r := from; r < to; r++ {
			t.norm(m, r, layer.attnNorm)
		}
		sync()
		a, first, last, meet := &s.a, lo, hi, w.Sync
		if s.heads {
			s.ownHeads(w, t, l)
			a, first, last, meet = &t.a, from, to, sync
		} else {
			model.Multiply(w, m.set, &t.h, rows,
				model.Product{W: layer.q, Dst: &s.q}, model.Product{W: layer.k, Dst: &s.k}, model.Product{W: layer.v, Dst: &s.v})
			w.Sync()
			s.rotateAndStore(w, l)
			w.Sync()
			model.Attend(w, l, s.attn)
		}
		if w.ID == 0 && s.ended() {
			s.stop = true
		}
		w.Sync()
		if s.stop {
			return
		}
		for r := first; r < last; r++ {
			p := s.places[r]
			s.attn[p.part].Finish(a.Row(r, m.Heads*m.HeadDim), int(p.row))
			m.quantize(a, r, m.Heads*m.HeadDim)
		}
		meet()
		for p := range s.parts {
			if s.parts[p].Pass.Mass != nil {
				s.attn[p].Weigh(w, l)
			}
		}
		model.Multiply(w, m.set, a, rows, model.Product{W: layer.o, Dst: &s.y})
		w.Sync()
		for r := from; r < to; r++ {
			m.set.Add(t.residual(m, r), s.y.Row(r, m.Dim))
			t.norm(m, r, layer.ffnNorm)
		}
		sync()
		model.Multiply(w, m.set, &t.h, rows, model.Product{W: layer.gate, Dst: &s.f}, model.Product{W: layer.up, Dst: &s.up})
		w.Sync()
		for r := from; r < to; r++ {
			m.set.SwiGLU(t.f.Row(r, m.FFN), s.f.Row(r, m.FFN), s.up.Row(r, m.FFN))
			m.quantize(&t.f, r, m.FFN)
		}
		sync()
		model.Multiply(w, m.set, &t.f, rows, model.Product{W: layer.down, Dst: &s.y})
		w.Sync()
		for r := from; r < to; r++ {
			m.set.Add(t.residual(m, r), s.y.Row(r, m.Dim))
		}
	}
	sync()
	s.head(w, t, sync)
}

// head computes the logits of the rows that want them.
func (s *Session) head(w *par.Worker, t *stream, sync func()) {
	n := len(s.wanted)
	lo, hi := w.Share(n, 1)
	from, to := lo, hi
	if t != &s.stream {
		from, to = 0, n
	}
	for i := from; i < to; i++ {
		s.m.set.RMSNorm(t.h.Row(i, s.m.Dim), t.residual(s.m, s.wanted[i]), s.m.norm, s.m.Eps)
		s.m.quantize(&t.h, i, s.m.Dim)
	}
	sync()
	if n == 0 {
		return
	}
	for i := lo; i < hi; i++ {
		if part, row := s.wantedBy(i); part.Logits.States {
			copy(part.Logits.State(row), t.h.Row(i, s.m.Dim))
		}
	}
	model.Multiply(w, s.m.set, &t.h, n, model.Product{W: s.m.output, Dst: s.scores})
	if len(s.parts) == 1 && s.m.Head == nil {
		return
	}
	w.Sync()
	for i := lo; i < hi; i++ {
		part, at := s.wantedBy(i)
		row := part.Logits.Row(at)
		from := s.scores.Row(i, s.m.HeadRows())
		if s.m.Head == nil {
			copy(row, from)
		}
		for j, token := range s.m.Head {
			row[token] = from[j]
		}
	}
}

// wantedBy is the part whose row the i-th that wants logits is, and which of those
// that want them it is there.
func (s *Session) wantedBy(i int) (*Part, int) {
	p := s.places[s.wanted[i]]
	part := &s.parts[p.part]
	return part, int(p.row) - (len(part.Batch.Tokens) - part.Batch.Logits)
}

// tell adds to rows from … to-1 of t what the model makes of a target's states.
func (s *Session) tell(w *par.Worker, t *stream, from, to int) {
	m, rows := s.m, len(s.places)
	state := func(r int) []float32 {
		p := s.places[r]
		if batch := &s.parts[p.part].Batch; batch.States != nil {
			return batch.States[p.row]
		}
		return nil
	}
	lo, hi := w.Share(rows, 1)
	for r := lo; r < hi; r++ {
		in := s.known.Row(r, m.State)
		if given := state(r); given != nil {
			m.set.RMSNorm(in, given, m.ones, m.Eps)
		} else {
			clear(in)
		}
		m.quantize(&s.known, r, m.State)
	}
	w.Sync()
	model.Multiply(w, m.set, &s.known, rows, model.Product{W: m.state, Dst: &s.y})
	w.Sync()
	for r := from; r < to; r++ {
		if state(r) != nil {
			m.set.Add(t.residual(m, r), s.y.Row(r, m.Dim))
		}
	}
}

// ownHeads computes queries, keys and values of a worker's own KV heads and goes
// on to attention with them.
func (s *Session) ownHeads(w *par.Worker, t *stream, l int) {
	m, layer, rows := s.m, &s.m.layers[l], len(s.places)
	lo, hi := w.Share(m.KVHeads, 1)
	panels := m.HeadDim / kernel.Panel // of a head
	group := m.Heads / m.KVHeads * panels
	model.Product{W: layer.q, Dst: &s.q}.Panels(m.set, &t.h, rows, lo*group, hi*group)
	model.Product{W: layer.k, Dst: &s.k}.Panels(m.set, &t.h, rows, lo*panels, hi*panels)
	model.Product{W: layer.v, Dst: &s.v}.Panels(m.set, &t.h, rows, lo*panels, hi*panels)
	for kv := lo; kv < hi; kv++ {
		for r := range rows {
			s.rotate(w, l, r, kv)
		}
		for _, attn := range s.attn {
			attn.AttendHead(w.ID, l, kv)
		}
	}
}

// rotateAndStore rotates queries and keys to their positions, puts keys and
// values into the cache and prepares the queries, shared by row and KV head.
func (s *Session) rotateAndStore(w *par.Worker, l int) {
	kvHeads := s.m.KVHeads
	lo, hi := w.Share(len(s.places)*kvHeads, 1)
	for i := lo; i < hi; i++ {
		s.rotate(w, l, i/kvHeads, i%kvHeads)
	}
}

// rotate does it for a KV head of a row.
func (s *Session) rotate(w *par.Worker, l, r, kv int) {
	m, d, pairs := s.m, s.m.HeadDim, s.m.rope.Pairs()
	group := m.Heads / m.KVHeads
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

func (t *stream) residual(m *Model, r int) []float32 { return t.x[r*m.Dim : (r+1)*m.Dim] }

// norm prepares the normalized row r as input of products.
func (t *stream) norm(m *Model, r int, weight []float32) {
	m.set.RMSNorm(t.h.Row(r, m.Dim), t.residual(m, r), weight, m.Eps)
	m.quantize(&t.h, r, m.Dim)
}

func (m *Model) quantize(a *model.Acts, r, n int) {
	if m.quant {
		a.Quantize(m.set, r, n)
	}
}
