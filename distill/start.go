package distill

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/mat"

	"triforce/internal/gemm"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/tensor"
	"triforce/weights"
)

// initialize fills the student's matrices: the embedding and the head with the
// target's, projected to the student's width; the layers with the target's first,
// if they have their shape; all others at random.
func initialize(params []param, s Shape, src weights.Source, tokens []int32, counts []float64, o *Options, set *kernel.Set, team *par.Team) error {
	r := rand.New(rand.NewPCG(o.Seed, 3))
	normal := func(x []float32, size float64) {
		for i := range x {
			x[i] = float32(size * r.NormFloat64())
		}
	}
	for _, p := range params {
		normal(p.data, startSize(p, s.Layers))
	}
	if o.Random {
		return nil
	}
	embed, _ := src.Tensor("token_embd.weight")
	output, ok := src.Tensor("output.weight")
	if !ok {
		output = embed
	}
	last := len(params) - 1
	d, wide := params[last].cols, embed.Cols
	if wide < d {
		return nil // there is nothing to take away
	}
	directions := project(embed, counts, d, r, set, team)
	local := gemm.NewLocal(set)
	// look computes row t of a stored matrix, projected.
	row, small := make([]float32, wide), make([]float32, d)
	look := func(t *tensor.Tensor, i int) []float32 {
		tensor.Dequantize(row, t.DType, t.Row(i))
		local.Multiply(1, d, wide, 1, gemm.Matrix{Data: row, Stride: wide}, gemm.Matrix{Data: directions, Stride: d}, 0, gemm.Matrix{Data: small, Stride: d})
		return small
	}
	for i := range params[last].rows {
		copy(params[last].data[i*d:], look(&embed, i))
	}
	scale := rescale(params[last].data, embedSize)
	head := params[last-1]
	for j, t := range tokens {
		for i, v := range look(&output, int(t)) {
			head.data[i*head.cols+j] = v
		}
	}
	rescale(head.data, headSize)
	if _, ok := o.like(src, s.Vocab); !ok {
		return nil
	}
	m := newMatrices(src, params)
	for i := range s.Layers {
		m.layer(s, i)
	}
	for _, p := range params {
		if p.intoStream() {
			times(p.data, layerGain*scale)
		}
	}
	return m.err
}

// startSize is the root mean square of a matrix's elements at the start.
func startSize(p param, layers int) float64 {
	size := 0.6 / math.Sqrt(float64(p.rows))
	switch {
	case p.name == embedName:
		return embedSize
	case p.name == headName:
		return headSize
	case p.name == stateName:
		return size * stateGain
	case p.intoStream():
		return size / math.Sqrt(float64(2*layers))
	}
	return size
}

// Sizes of an element of embedding and head at the start.
const (
	embedSize = 0.5
	headSize  = 0.04
	stateGain = 0.3 // of what states add
	layerGain = 0.2 // of what a layer of the target's adds, in proportion to the embedding
)

// rescale gives the elements that root mean square, and returns by what it
// multiplied them.
func rescale(x []float32, size float64) float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	if sum == 0 {
		return 1
	}
	scale := float32(size / math.Sqrt(sum/float64(len(x))))
	times(x, scale)
	return scale
}

// Of the target's embedding the rows of the most frequent tokens say which
// directions matter, found by so many rounds of subspace iteration.
const (
	projectRows   = 12288
	projectRounds = 6
)

// project returns the directions (columns of embed, dim) in which the rows of
// the most frequent tokens differ most, orthonormal, as columns; all directions are
// the coordinates' own.
func project(embed tensor.Tensor, counts []float64, dim int, r *rand.Rand, set *kernel.Set, team *par.Team) []float32 {
	if dim == embed.Cols {
		own := make([]float32, dim*dim)
		for i := range dim {
			own[i*dim+i] = 1
		}
		return own
	}
	frequent := make([]int, embed.Rows)
	for i := range frequent {
		frequent[i] = i
	}
	count := func(i int) float64 {
		if i < len(counts) {
			return counts[i]
		}
		return 0
	}
	slices.SortStableFunc(frequent, func(a, b int) int { return cmp.Compare(count(b), count(a)) })
	frequent = frequent[:min(len(frequent), projectRows)]
	n, wide := len(frequent), embed.Cols
	rows := make([]float32, n*wide)
	for i, t := range frequent {
		tensor.Dequantize(rows[i*wide:(i+1)*wide], embed.DType, embed.Row(t))
	}
	mul := gemm.New(set, team)
	x := gemm.Matrix{Data: rows, Stride: wide}
	q, y := make([]float32, wide*dim), make([]float32, n*dim)
	for i := range q {
		q[i] = float32(r.NormFloat64())
	}
	for range projectRounds {
		orthonormalize(q, wide, dim)
		mul.Multiply(n, dim, wide, 1, x, gemm.Matrix{Data: q, Stride: dim}, 0, gemm.Matrix{Data: y, Stride: dim})
		mul.Multiply(wide, dim, n, 1, gemm.Matrix{Data: rows, Stride: wide, Trans: true}, gemm.Matrix{Data: y, Stride: dim}, 0, gemm.Matrix{Data: q, Stride: dim})
	}
	orthonormalize(q, wide, dim)
	return q
}

// orthonormalize makes the columns of q orthonormal.
func orthonormalize(q []float32, rows, cols int) {
	wide := make([]float64, len(q))
	for i, v := range q {
		wide[i] = float64(v)
	}
	var qr mat.QR
	qr.Factorize(mat.NewDense(rows, cols, wide))
	var full mat.Dense
	qr.QTo(&full)
	for i := range rows {
		for j := range cols {
			q[i*cols+j] = float32(full.At(i, j))
		}
	}
}
