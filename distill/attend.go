package distill

import (
	"math"

	"triforce/internal/gemm"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// attention is the attention of one layer over excerpts, each seen as through
// the streaming cache: row i sees the sinks among the first tokens and the
// newest Window tokens after them. Sinks are as far away as the cache would
// have them: queries for them are turned by another angle.
type attention struct {
	Shape
	batch    int
	set      *kernel.Set
	cos, sin []float32   // (Length, HeadDim/2): a row's place
	scos     []float32   // (Length, HeadDim/2): as the sinks see it
	ssin     []float32   //
	weights  [][]float32 // by excerpt and head: softmax of blocks of rows
	scratch  []attentionScratch
}

type attentionScratch struct {
	local            *gemm.Local
	q, far, k        []float32 // (Length, HeadDim): turned
	dq, dfar, dk, dv []float32
	ds               []float32 // (blockRows, sinks and columns)
}

// blockRows is how many rows attend at a time.
const blockRows = 64

func newAttention(s Shape, batch int, set *kernel.Set, team *par.Team) *attention {
	a := &attention{Shape: s, batch: batch, set: set}
	rope := s.rope()
	pairs := rope.Pairs()
	angles := func() []float32 { return make([]float32, s.Length*pairs) }
	a.cos, a.sin, a.scos, a.ssin = angles(), angles(), angles(), angles()
	for i := range s.Length {
		rope.Angles(a.cos[i*pairs:][:pairs], a.sin[i*pairs:][:pairs], i)
		rope.Angles(a.scos[i*pairs:][:pairs], a.ssin[i*pairs:][:pairs], min(i, s.Sinks+s.Window-1))
	}
	size := 0
	for r := 0; r < s.Length; r += blockRows {
		size += a.block(r).size()
	}
	for range batch * s.Heads {
		a.weights = append(a.weights, make([]float32, size))
	}
	for range team.Size() {
		v := func() []float32 { return make([]float32, s.Length*s.HeadDim) }
		a.scratch = append(a.scratch, attentionScratch{
			local: gemm.NewLocal(set), q: v(), far: v(), k: v(), dq: v(), dfar: v(), dk: v(), dv: v(),
			ds: make([]float32, blockRows*(s.Sinks+s.Window+blockRows)),
		})
	}
	return a
}

// block is rows lo … hi-1 and what they see: the sinks, and columns from … hi-1.
type block struct{ lo, hi, from, sinks int }

func (a *attention) block(lo int) block {
	hi := min(lo+blockRows, a.Length)
	return block{lo, hi, min(max(lo-a.Window+1, a.Sinks), hi), min(a.Sinks, hi)}
}

func (b block) rows() int  { return b.hi - b.lo }
func (b block) width() int { return b.sinks + b.hi - b.from }
func (b block) size() int  { return b.rows() * b.width() }

// hide puts zero weight, by way of a score of -Inf, on what row i of a block
// does not see.
func (a *attention) hide(b block, i int, row []float32) {
	none := float32(math.Inf(-1))
	for j := i + 1; j < b.sinks; j++ {
		row[j] = none
	}
	for j := b.from; j < b.hi; j++ {
		if j > i || j <= i-a.Window {
			row[b.sinks+j-b.from] = none
		}
	}
}

// run calls f for every excerpt and KV head.
func (a *attention) run(team *par.Team, f func(s *attentionScratch, excerpt, kv int)) {
	team.Run(func(w *par.Worker) {
		for i := range w.Each(a.batch * a.KVHeads) {
			f(&a.scratch[w.ID], i/a.KVHeads, i%a.KVHeads)
		}
	})
}

// turn rotates a head's rows of src, which are stride apart, into dst.
func (a *attention) turn(dst, src []float32, stride int, cos, sin []float32) {
	d, pairs := a.HeadDim, a.HeadDim/2
	for i := range a.Length {
		row := dst[i*d : (i+1)*d]
		copy(row, src[i*stride:])
		a.set.Rope(row, cos[i*pairs:(i+1)*pairs], sin[i*pairs:(i+1)*pairs])
	}
}

// turnBack adds the rows of src, turned back, to a head's rows of dst.
func (a *attention) turnBack(dst []float32, stride int, src, cos, sin []float32) {
	d, pairs := a.HeadDim, a.HeadDim/2
	for i := range a.Length {
		to := dst[i*stride:][:d]
		c, s := cos[i*pairs:][:pairs], sin[i*pairs:][:pairs]
		x, y := src[i*d:][:pairs], src[i*d+pairs:][:pairs]
		for j := range c {
			to[j] += x[j]*c[j] + y[j]*s[j]
			to[pairs+j] += y[j]*c[j] - x[j]*s[j]
		}
	}
}

// view is a matrix of heads' rows.
func view(data []float32, stride int, trans bool) gemm.Matrix {
	return gemm.Matrix{Data: data, Stride: stride, Trans: trans}
}

// forward computes out (rows, Heads·HeadDim) from x (rows, qkv).
func (a *attention) forward(team *par.Team, out, x []float32) {
	d, in, width := a.HeadDim, a.qkv(), a.Heads*a.HeadDim
	group := a.Heads / a.KVHeads
	scale := 1 / float32(math.Sqrt(float64(d)))
	a.run(team, func(s *attentionScratch, e, kv int) {
		x, out := x[e*a.Length*in:], out[e*a.Length*width:]
		a.turn(s.k, x[(a.Heads+kv)*d:], in, a.cos, a.sin)
		v := x[(a.Heads+a.KVHeads+kv)*d:]
		for h := kv * group; h < (kv+1)*group; h++ {
			a.turn(s.q, x[h*d:], in, a.cos, a.sin)
			a.turn(s.far, x[h*d:], in, a.scos, a.ssin)
			weights := a.weights[e*a.Heads+h]
			for lo := 0; lo < a.Length; lo += blockRows {
				b := a.block(lo)
				rows, cols, wide := b.rows(), b.hi-b.from, b.width()
				p := weights[:b.size()]
				weights = weights[b.size():]
				if b.sinks > 0 {
					s.local.Multiply(rows, b.sinks, d, scale, view(s.far[lo*d:], d, false), view(s.k, d, true), 0, view(p, wide, false))
				}
				if cols > 0 {
					s.local.Multiply(rows, cols, d, scale, view(s.q[lo*d:], d, false), view(s.k[b.from*d:], d, true), 0, view(p[b.sinks:], wide, false))
				}
				for i := range rows {
					row := p[i*wide : (i+1)*wide]
					a.hide(b, lo+i, row)
					softmax(a.set, row)
				}
				to := view(out[lo*width+h*d:], width, false)
				beta := float32(0)
				if b.sinks > 0 {
					s.local.Multiply(rows, d, b.sinks, 1, view(p, wide, false), view(v, in, false), 0, to)
					beta = 1
				}
				if cols > 0 {
					s.local.Multiply(rows, d, cols, 1, view(p[b.sinks:], wide, false), view(v[b.from*in:], in, false), beta, to)
				}
			}
		}
	})
}

// backward computes the gradient dx (rows, qkv) of x from that of forward's
// output, which must have seen the same x last.
func (a *attention) backward(team *par.Team, dx, x, dout []float32) {
	d, in, width := a.HeadDim, a.qkv(), a.Heads*a.HeadDim
	group := a.Heads / a.KVHeads
	scale := 1 / float32(math.Sqrt(float64(d)))
	clear(dx)
	a.run(team, func(s *attentionScratch, e, kv int) {
		x, dx, dout := x[e*a.Length*in:], dx[e*a.Length*in:], dout[e*a.Length*width:]
		a.turn(s.k, x[(a.Heads+kv)*d:], in, a.cos, a.sin)
		v := x[(a.Heads+a.KVHeads+kv)*d:]
		clear(s.dk)
		clear(s.dv)
		for h := kv * group; h < (kv+1)*group; h++ {
			a.turn(s.q, x[h*d:], in, a.cos, a.sin)
			a.turn(s.far, x[h*d:], in, a.scos, a.ssin)
			clear(s.dq)
			clear(s.dfar)
			weights := a.weights[e*a.Heads+h]
			for lo := 0; lo < a.Length; lo += blockRows {
				b := a.block(lo)
				rows, cols, wide := b.rows(), b.hi-b.from, b.width()
				p := weights[:b.size()]
				weights = weights[b.size():]
				do := view(dout[lo*width+h*d:], width, false)
				ds := s.ds[:b.size()]
				// The parts of a block: its sinks, then its columns.
				parts := []struct {
					at, n, from int
					q, dq       []float32
				}{{0, b.sinks, 0, s.far, s.dfar}, {b.sinks, cols, b.from, s.q, s.dq}}
				for _, t := range parts {
					if t.n > 0 {
						s.local.Multiply(rows, t.n, d, 1, do, view(v[t.from*in:], in, true), 0, view(ds[t.at:], wide, false))
						s.local.Multiply(t.n, d, rows, 1, view(p[t.at:], wide, true), do, 1, view(s.dv[t.from*d:], d, false))
					}
				}
				for i := range rows {
					softmaxBack(ds[i*wide:(i+1)*wide], p[i*wide:(i+1)*wide], scale)
				}
				for _, t := range parts {
					if t.n > 0 {
						s.local.Multiply(rows, d, t.n, 1, view(ds[t.at:], wide, false), view(s.k[t.from*d:], d, false), 1, view(t.dq[lo*d:], d, false))
						s.local.Multiply(t.n, d, rows, 1, view(ds[t.at:], wide, true), view(t.q[lo*d:], d, false), 1, view(s.dk[t.from*d:], d, false))
					}
				}
			}
			a.turnBack(dx[h*d:], in, s.dq, a.cos, a.sin)
			a.turnBack(dx[h*d:], in, s.dfar, a.scos, a.ssin)
		}
		a.turnBack(dx[(a.Heads+kv)*d:], in, s.dk, a.cos, a.sin)
		for i := range a.Length {
			copy(dx[i*in+(a.Heads+a.KVHeads+kv)*d:][:d], s.dv[i*d:])
		}
	})
}

// softmaxBack makes the gradient of scores from that of their weights p.
func softmaxBack(dp, p []float32, scale float32) {
	along := float32(0)
	for i, v := range p {
		along += v * dp[i]
	}
	for i, v := range p {
		dp[i] = v * (dp[i] - along) * scale
	}
}
