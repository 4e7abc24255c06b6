package engine

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
	"unsafe"

	"triforce/internal/kernel"
	"triforce/internal/mem"
	"triforce/internal/par"
	"triforce/model"
)

// Roofline is how much a machine can do in a second: what limits every pass.
type Roofline struct {
	// ReadOne and Read are the bytes that one worker, and all of them together,
	// read from memory: of more than most caches hold.
	ReadOne, Read float64
	// Products and Attention are the multiply-accumulates that all workers could
	// do at most, in products with a matrix and in attention: those of a bare loop
	// of the instructions that they are made of, or where there is none, of the
	// kernels over cached data, in the shape that suits them best. That of a model
	// counts as one however many instructions of the machine it takes.
	Products, Attention float64
	// Loop is the rate of that bare loop, or of such a kernel: what Timing.Loop
	// has beside each pass.
	Loop float64
}

// Work is what a pass has to do at least.
type Work struct {
	Weights, KV         int64 // bytes to read
	Products, Attention int64 // multiply-accumulates
}

func (w Work) bytes() int { return int(w.Weights + w.KV) }

// Multiply is the least time for the multiply-accumulates of a pass, in seconds.
func (m *Roofline) Multiply(w Work) float64 {
	return float64(w.Products)/m.Products + float64(w.Attention)/m.Attention
}

// Work is that of a pass of rows over a cache of depth tokens, all of which
// want logits. Every weight and every visible key and value is read once.
func (e *Engine) Work(depth, rows int) Work {
	m := e.model
	q, kv := m.Heads*m.HeadDim, m.KVHeads*m.HeadDim
	weights := m.Layers*m.Dim*(2*q+2*kv+3*m.FFN) + m.HeadRows()*m.Dim
	seen, slots := 0, depth+rows
	for r := range rows {
		n := depth + r + 1
		if m.Window > 0 {
			n = min(n, m.Window)
		}
		seen += n
	}
	if m.Window > 0 {
		slots = min(slots, m.Window+rows-1)
	}
	return Work{
		Weights:   e.WeightBytes(),
		KV:        m.KVShape(e.kv).PageBytes(e.set) * int64(slots) / kernel.Tile,
		Products:  int64(rows) * int64(weights),
		Attention: 2 * int64(m.Layers) * int64(q) * int64(seen),
	}
}

// Roofline measures this machine with the engine's kernels and workers. It
// takes about a second.
func (e *Engine) Roofline() Roofline {
	team := par.NewTeam(e.opt.Threads)
	defer team.Close()
	one := par.NewTeam(1)
	defer one.Close()
	all, alone := newMeter(e.set, team, readBytes), newMeter(e.set, one, readBytes)
	m := Roofline{
		Loop:     e.loop().peak(team),
		Products: max(e.products(kernel.Q8).peak(team), e.products(kernel.Q4).peak(team)), Attention: e.attention().peak(team),
		ReadOne: alone.bandwidth(), Read: all.bandwidth(),
	}
	if e.set.Peak != nil {
		m.Products = max(m.Products, m.Loop)
		if e.kv == kernel.KVQ8 {
			m.Attention = max(m.Attention, m.Loop)
		}
	}
	return m
}

// ReadBandwidth is Roofline.Read alone.
func (e *Engine) ReadBandwidth() float64 {
	team := par.NewTeam(e.opt.Threads)
	defer team.Close()
	return newMeter(e.set, team, readBytes).bandwidth()
}

// ReadBandwidth is the bytes a second that an engine with these options reads
// from memory.
func ReadBandwidth(o Options) (float64, error) {
	tier, err := o.tier()
	if err != nil {
		return 0, err
	}
	e := Engine{opt: o, set: kernel.For(tier)}
	return e.ReadBandwidth(), nil
}

const (
	readBytes   = 256 << 20 // several times the caches of most machines
	readPasses  = 15
	peakSeconds = 0.05
	peakTries   = 5
	loopSeconds = 0.004 // beside a pass
	peakRows    = 32
	peakInputs  = 256 // rows of them and a panel fit into a first-level cache
)

// meter reads memory for the sake of the time that it takes.
type meter struct {
	set   *kernel.Set
	team  *par.Team
	words []uint64
	sums  [][8]uint64 // keeps the reading from being left out
}

func newMeter(set *kernel.Set, team *par.Team, n int) *meter {
	b := mem.Alloc(n)
	m := &meter{set: set, team: team, words: unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), n/8), sums: make([][8]uint64, team.Size())}
	team.Run(func(w *par.Worker) { // memory that nobody wrote to is not there
		lo, hi := w.Share(len(m.words), 512)
		for i := lo; i < hi; i += 8 {
			m.words[i] = 1
		}
	})
	return m
}

// read reads n bytes once, at most what there are, and returns the seconds that
// as many as n would take.
func (m *meter) read(n int) float64 {
	words := m.words[:min(max(1, n/8), len(m.words))]
	start := time.Now()
	m.team.Run(func(w *par.Worker) {
		lo, hi := w.Share(len(words), 512)
		m.sums[w.ID][0] += m.set.Sum(words[lo:hi])
	})
	return time.Since(start).Seconds() * float64(n) / float64(8*len(words))
}

// bandwidth is the best of some readings of all, in bytes a second.
func (m *meter) bandwidth() float64 {
	best := math.Inf(1)
	for range readPasses {
		best = min(best, m.read(8*len(m.words)))
	}
	return float64(8*len(m.words)) / best
}

// multiplying is something that does amount multiply-accumulates at a time. Each
// worker makes one of its own.
type multiplying struct {
	amount float64
	work   func() func()
}

// rate is how many all workers do in a second, for about so many seconds.
func (m multiplying) rate(team *par.Team, seconds float64) float64 {
	done := make([][8]float64, team.Size())
	team.Run(func(w *par.Worker) {
		run, n := m.work(), 0
		began := time.Now()
		for n == 0 || time.Since(began).Seconds() < seconds {
			run()
			n++
		}
		done[w.ID][0] = float64(n) * m.amount / time.Since(began).Seconds()
	})
	all := 0.0
	for _, d := range done {
		all += d[0]
	}
	return all
}

// peak is the best rate of some tries.
func (m multiplying) peak(team *par.Team) float64 {
	best := 0.0
	for range peakTries {
		best = max(best, m.rate(team, peakSeconds))
	}
	return best
}

// loop is the bare instructions of integer products, or where there are none apart,
// products.
func (e *Engine) loop() multiplying {
	const turns = 1 << 12 // some microseconds
	if e.set.Peak == nil {
		return e.products(kernel.Q8)
	}
	return multiplying{turns * kernel.PeakTurn, func() func() {
		return func() { e.set.Peak(turns) }
	}}
}

// products are those of 32 rows with a panel.
func (e *Engine) products(f kernel.Format) multiplying {
	return multiplying{peakRows * peakInputs * kernel.Panel, func() func() {
		m := kernel.NewMatrix(f, kernel.Panel, peakInputs, mem.Alloc)
		in, out := model.NewInput(e.set, peakRows, peakInputs), model.NewActs(peakRows, kernel.Panel)
		for r := range peakRows {
			in.Quantize(e.set, r, peakInputs)
		}
		return func() {
			e.set.MatMul[f](out.F, out.Width, m.Data, 1, in.Q, in.Stride, peakRows, peakInputs)
		}
	}}
}

// attention is that of 32 rows over a tile.
func (e *Engine) attention() multiplying {
	kv, dim := &e.set.KV[e.kv], e.model.HeadDim
	return multiplying{float64(2 * peakRows * kernel.Tile * dim), func() func() {
		noise := noise(dim)
		tile := mem.Alloc(kv.TileBytes(dim))
		for slot := range kernel.Tile {
			kv.Store(tile, slot, noise(), noise())
		}
		args := kernel.AttendArgs{
			Dim: dim, Rows: peakRows,
			State: make([]float32, peakRows*kernel.StateLen(dim)),
			Query: mem.Alloc(peakRows * kv.QueryBytes(dim)),
			Spans: make([]kernel.Span, peakRows),
		}
		for r := range peakRows {
			kv.Query(args.Query[r*kv.QueryBytes(dim):(r+1)*kv.QueryBytes(dim)], noise(), 0.01)
			args.Spans[r] = kernel.Span{Lo: 0, Hi: kernel.Tile}
		}
		e.set.Reset(args.State, dim, peakRows)
		scratch := mem.Alloc(kv.ScratchBytes(dim, peakRows))
		return func() { kv.Attend(&args, tile, scratch) }
	}}
}

// noise returns a source of vectors of n numbers, the same in every run.
func noise(n int) func() []float32 {
	const vectors = 61 // a prime: keys and values of all layers differ
	rng := rand.New(rand.NewPCG(1, 2))
	x, at := make([]float32, vectors*n), 0
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return func() []float32 {
		at = (at + 1) % vectors
		return x[at*n : (at+1)*n]
	}
}

// Timing is samples of passes of one kind, in seconds; beside each the time in
// which all workers read as many bytes from a block as large, up to readBytes:
// from caches, if they hold that many; and how many multiply-accumulates a second
// the bare loop did, as others may use the same cores.
type Timing struct{ Pass, Read, Loop []float64 }

// TimePasses measures passes of each number of rows, at most 130, all of which
// want logits, after the first depth tokens of text, samples times each, in turn
// with reading memory and multiplying. Of two in a row the second counts: the first
// finds in caches what was there before. Without a text the cache holds noise, of
// which next to nothing is left out. Later calls of the session, with greater depths, go
// on from what is there. progress, if not nil, is told what is being done, and how
// much of that is.
func (s *Session) TimePasses(ctx context.Context, text []int32, depth int, rows []int, samples int, progress func(stage string, done, total int)) ([]Timing, error) {
	e := s.e
	most, bytes := 0, 0
	for _, n := range rows {
		if n < 1 || n > maxLogits {
			return nil, fmt.Errorf("%w: --rows %d: expected 1 to %d", ErrUsage, n, maxLogits)
		}
		most, bytes = max(most, n), max(bytes, e.Work(depth, n).bytes())
	}
	if depth+most > e.opt.Context {
		return nil, contextError("depth with the rows", depth+most, e.opt.Context)
	}
	if progress == nil {
		progress = func(string, int, int) {}
	}
	tokens := make([]int32, most)
	for i := range tokens {
		tokens[i] = int32(i % e.model.Vocab)
	}
	if text == nil {
		if err := s.fill(ctx, depth); err != nil {
			return nil, err
		}
	} else {
		if len(text) < depth+most {
			return nil, fmt.Errorf("%w: a text of %d tokens; the depth with the rows is %d", ErrUsage, len(text), depth+most)
		}
		tokens = text[depth:]
		if err := s.read(ctx, text[:depth+1], func(done, total int) { progress("reading", done, total) }); err != nil {
			return nil, err
		}
	}
	team := par.NewTeam(e.opt.Threads)
	defer team.Close()
	meter, loop := newMeter(e.set, team, min(bytes, readBytes)), e.loop()
	times := make([]Timing, len(rows))
	for i, n := range rows {
		batch, bytes := model.Batch{Tokens: tokens[:n], Logits: n}, e.Work(depth, n).bytes()
		pass := func() (float64, error) {
			start := time.Now()
			err := s.run.Forward(ctx, s.cache, batch)
			took := time.Since(start).Seconds()
			s.cache.Rewind(depth)
			return took, err
		}
		for j := range samples + 1 { // the first warms up
			meter.read(bytes)
			read, rate := meter.read(bytes), loop.rate(team, loopSeconds)
			if _, err := pass(); err != nil {
				return nil, err
			}
			took, err := pass()
			if err != nil {
				return nil, err
			}
			if j > 0 {
				t := &times[i]
				t.Pass, t.Read, t.Loop = append(t.Pass, took), append(t.Read, read), append(t.Loop, rate)
			}
		}
		progress("passes", (i+1)*samples, len(rows)*samples)
	}
	return times, nil
}

// read makes the cache hold the text but for its last token, for plain passes.
func (s *Session) read(ctx context.Context, text []int32, progress func(done, total int)) error {
	plain := GenDefaults().Spec
	plain.Mode = SpecPlain
	if err := s.speculate(plain); err != nil {
		return err
	}
	_, err := s.prefill(ctx, text, progress)
	return err
}

// fill puts n tokens of noise into the cache.
func (s *Session) fill(ctx context.Context, n int) error {
	shape := s.cache.Shape()
	noise := noise(shape.Dim)
	for s.cache.Len() < n {
		if err := ctx.Err(); err != nil {
			return err
		}
		pass, err := s.cache.Begin(min(kernel.Tile, n-s.cache.Len()), nil)
		if err != nil {
			return err
		}
		for _, row := range pass.Rows {
			for l := range shape.Layers {
				for h := range shape.Heads {
					pass.Put(l, h, int(row.Slot), noise(), noise())
				}
			}
		}
		s.cache.End()
	}
	return nil
}
