package distill

import (
	"math"
	"slices"

	"triforce/internal/gemm"
	"triforce/internal/par"
)

// topK is how many of the target's most probable tokens a label has.
const topK = 32

// label is what the target says about one place: its most probable tokens, of
// which those that the head has carry an index into it, and the probability of
// all tokens that are not listed. Probabilities sum to 1, or a row counts
// nothing: there is no label.
type label struct {
	index []int32
	probs []float32
	tail  float32
}

// head is the output head with the loss: the cross entropy of the student's
// distribution against the labels, the tokens that a label does not list being
// one outcome. It goes over the rows of a batch in pieces, so that logits take
// little memory, and computes both gradients on the way.
type head struct {
	*network
	labels   []label // of every row of the batch
	logits   []float32
	labelled []int     // the rows that have labels
	x        []float32 // (headRows, Dim): what the head is given of some of them, then its gradient
	dx, dw   []float32
	losses   []float64   // of these rows
	down     gemm.Packed // W
	up       gemm.Packed // Wᵀ
	// scores, if not nil, is told what the student makes of a label instead of
	// computing gradients. probs is the student's distribution.
	scores func(row int, probs []float32)
}

// headRows is how many rows have logits at a time.
const headRows = 256

func newHead(n *network) *head {
	return &head{
		network: n, labels: make([]label, n.rows()), logits: make([]float32, headRows*n.Head),
		x: make([]float32, headRows*n.Dim), dx: make([]float32, n.rows()*n.Dim), dw: make([]float32, n.Dim*n.Head), losses: make([]float64, n.rows()),
	}
}

// run computes the mean loss of the rows that have labels.
func (h *head) run(x, w []float32) float32 {
	d, v := h.Dim, h.Head
	matrix := func(data []float32, stride int, trans bool) gemm.Matrix {
		return gemm.Matrix{Data: data, Stride: stride, Trans: trans}
	}
	h.mul.Pack(&h.down, d, v, matrix(w, v, false))
	if h.scores == nil {
		h.mul.Pack(&h.up, v, d, matrix(w, v, true))
	}
	h.labelled = h.labelled[:0]
	for r := range h.labels {
		if len(h.labels[r].index) > 0 {
			h.labelled = append(h.labelled, r)
		}
	}
	scale := 1 / float32(max(len(h.labelled), 1))
	clear(h.dx)
	clear(h.dw)
	losses := h.losses
	for rows := range slices.Chunk(h.labelled, headRows) {
		n := len(rows)
		for i, r := range rows {
			copy(h.x[i*d:(i+1)*d], x[r*d:(r+1)*d])
		}
		h.mul.MultiplyPacked(n, 1, matrix(h.x, d, false), &h.down, 0, matrix(h.logits, v, false))
		h.team.Run(func(wk *par.Worker) {
			for i := range wk.Each(n) {
				losses[i] = h.row(rows[i], h.logits[i*v:(i+1)*v], scale)
			}
		})
		losses = losses[n:]
		if h.scores != nil {
			continue
		}
		h.mul.Multiply(d, v, n, 1, matrix(h.x, d, true), matrix(h.logits, v, false), 1, matrix(h.dw, v, false))
		h.mul.MultiplyPacked(n, 1, matrix(h.logits, v, false), &h.up, 0, matrix(h.x, d, false))
		for i, r := range rows {
			copy(h.dx[r*d:(r+1)*d], h.x[i*d:(i+1)*d])
		}
	}
	total := 0.0
	for _, l := range h.losses[:len(h.labelled)] {
		total += l
	}
	return float32(total * float64(scale))
}

// row turns a labelled row's logits into their gradient and returns its loss.
func (h *head) row(r int, z []float32, scale float32) float64 {
	l := &h.labels[r]
	listed, cross := float64(0), float64(0)
	first := make([]float32, len(l.index))
	for i, at := range l.index {
		first[i] = z[at]
	}
	norm, logSum := powers(h.set, z)
	if h.scores != nil {
		times(z, norm)
		norm = 1
		h.scores(r, z)
	}
	for i, at := range l.index {
		cross -= float64(l.probs[i]) * (float64(first[i]) - float64(logSum))
		listed += float64(z[at] * norm)
	}
	// What is not listed: sum, never less than rounding leaves.
	rest := max(1-listed, 1e-6)
	if l.tail > 0 {
		cross -= float64(l.tail) * math.Log(rest)
	}
	// dz = q - p for the listed, q·(1 - tail/rest) for the others.
	others := scale * (1 - l.tail/float32(rest))
	for i, at := range l.index {
		first[i] = (z[at]*norm - l.probs[i]) * scale
	}
	times(z, norm*others)
	for i, at := range l.index {
		z[at] = first[i]
	}
	return cross
}
