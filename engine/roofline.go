package engine

import (
	"context"
	"fmt"
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
	// read from memory.
	ReadOne, Read float64
	// Products and Attention are the multiply-accumulates that all workers could
	// do at most, in products with a matrix and in attention: those of a bare loop
	// of the instructions that they are made of, or where there is none, of the
	// kernels over cached data, in the shape that suits them best. That of a model
	// counts as one however many instructions of the machine it takes.
	Products, Attention float64
}

// Work is what a pass has to do at least.
type Work struct {
	Weights, KV         int64 // bytes to read
	Products, Attention int64 // multiply-accumulates
}

// Limit is the least time in which the machine can do the work, in seconds, and
// whether that is the time to read rather than to multiply.
func (m *Roofline) Limit(w Work) (seconds float64, reading bool) {
	read := float64(w.Weights+w.KV) / m.Read
	multiply := float64(w.Products)/m.Products + float64(w.Attention)/m.Attention
	return max(read, multiply), read >= multiply
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
	memory := mem.Alloc(readBytes)
	touch(team, memory)
	multiply := e.multiplyPeak(team)
	products := max(e.productPeak(team, kernel.Q8), e.productPeak(team, kernel.Q4))
	attention := e.attentionPeak(team)
	if e.kv == kernel.KVQ8 {
		attention = max(attention, multiply)
	}
	return Roofline{
		ReadOne: bandwidth(one, memory), Read: bandwidth(team, memory),
		Products: max(products, multiply), Attention: attention,
	}
}

// ReadBandwidth is Roofline.Read alone.
func (e *Engine) ReadBandwidth() float64 { return ReadBandwidth(e.opt.Threads) }

// ReadBandwidth is the bytes a second that so many workers read from memory.
func ReadBandwidth(threads int) float64 {
	team := par.NewTeam(threads)
	defer team.Close()
	memory := mem.Alloc(readBytes)
	touch(team, memory)
	return bandwidth(team, memory)
}

const (
	readBytes   = 256 << 20 // several times the caches of most machines
	readPasses  = 15
	peakSeconds = 0.05
	peakTries   = 5
	peakRows    = 32
	peakInputs  = 256 // rows of them and a panel fit into a first-level cache
)

// touch writes to the memory: until then it is not there.
func touch(team *par.Team, b []byte) {
	team.Run(func(w *par.Worker) {
		lo, hi := w.Share(len(b), 4096)
		for i := lo; i < hi; i += 64 {
			b[i] = 1
		}
	})
}

// bandwidth is the best of some readings of b, in bytes a second.
func bandwidth(team *par.Team, b []byte) float64 {
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/8)
	sums := make([][8]uint64, team.Size()) // keeps the reading from being left out
	best := 0.0
	for range readPasses {
		start := time.Now()
		team.Run(func(w *par.Worker) {
			lo, hi := w.Share(len(words), 512)
			sums[w.ID][0] += sum(words[lo:hi])
		})
		best = max(best, float64(len(b))/time.Since(start).Seconds())
	}
	return best
}

// sum adds up words, a multiple of 8 of them, as fast as memory gives them.
func sum(x []uint64) uint64 {
	var a, b, c, d uint64
	for ; len(x) >= 8; x = x[8:] {
		a += x[0] + x[4]
		b += x[1] + x[5]
		c += x[2] + x[6]
		d += x[3] + x[7]
	}
	return a + b + c + d
}

// peak is how much all workers do in a second, the best of some tries. work
// makes a worker's own function, which does amount at each call.
func peak(team *par.Team, amount float64, work func() func()) float64 {
	done, best := make([][8]float64, team.Size()), 0.0
	for range peakTries {
		team.Run(func(w *par.Worker) {
			run, n := work(), 0
			began := time.Now()
			for n == 0 || time.Since(began).Seconds() < peakSeconds {
				run()
				n++
			}
			done[w.ID][0] = float64(n) * amount / time.Since(began).Seconds()
		})
		all := 0.0
		for _, d := range done {
			all += d[0]
		}
		best = max(best, all)
	}
	return best
}

// multiplyPeak is that of the instructions of integer products, or 0.
func (e *Engine) multiplyPeak(team *par.Team) float64 {
	const turns = 1 << 12 // some microseconds
	if e.set.Peak == nil {
		return 0
	}
	return peak(team, turns*kernel.PeakTurn, func() func() {
		return func() { e.set.Peak(turns) }
	})
}

// productPeak is that of products of 32 rows with a panel.
func (e *Engine) productPeak(team *par.Team, f kernel.Format) float64 {
	return peak(team, peakRows*peakInputs*kernel.Panel, func() func() {
		m := kernel.NewMatrix(f, kernel.Panel, peakInputs, mem.Alloc)
		in, out := model.NewInput(e.set, peakRows, peakInputs), model.NewActs(peakRows, kernel.Panel)
		for r := range peakRows {
			in.Quantize(e.set, r, peakInputs)
		}
		return func() {
			e.set.MatMul[f](out.F, out.Width, m.Data, 1, in.Q, in.Stride, peakRows, peakInputs)
		}
	})
}

// attentionPeak is that of attention of 32 rows over a tile.
func (e *Engine) attentionPeak(team *par.Team) float64 {
	kv, dim := &e.set.KV[e.kv], e.model.HeadDim
	return peak(team, float64(2*peakRows*kernel.Tile*dim), func() func() {
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
	})
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

// TimePasses measures passes of each number of rows, at most 130, all of which
// want logits, over a cache of depth tokens of noise: samples times, in
// seconds, by number of rows. progress, if not nil, is told how many passes are
// done.
func (e *Engine) TimePasses(ctx context.Context, depth int, rows []int, samples int, progress func(done, total int)) ([][]float64, error) {
	s := e.NewSession()
	defer s.Close()
	for _, n := range rows {
		if n < 1 || n > maxLogits {
			return nil, fmt.Errorf("%w: --rows %d: expected 1 to %d", ErrUsage, n, maxLogits)
		}
		if depth+n > e.opt.Context {
			return nil, contextError("depth with the rows", depth+n, e.opt.Context)
		}
	}
	if err := s.fill(ctx, depth); err != nil {
		return nil, err
	}
	times := make([][]float64, len(rows))
	for i, n := range rows {
		batch := model.Batch{Tokens: make([]int32, n), Logits: n}
		for j := range batch.Tokens {
			batch.Tokens[j] = int32(j % e.model.Vocab)
		}
		for j := range samples + 1 { // the first warms up
			start := time.Now()
			if err := s.run.Forward(ctx, s.cache, batch); err != nil {
				return nil, err
			}
			if j > 0 {
				times[i] = append(times[i], time.Since(start).Seconds())
			}
			s.cache.Rewind(depth)
		}
		if progress != nil {
			progress((i+1)*samples, len(rows)*samples)
		}
	}
	return times, nil
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
