package distill

import (
	"math"

	"gorgonia.org/gorgonia"

	"triforce/internal/gemm"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// optimizer is a Gorgonia solver: AdamW for embedding and head (Loshchilov and
// Hutter 2019), Muon for the matrices between. The gradient of all matrices
// together is clipped to length 1. Rows of the embedding that a batch does not
// have stay as they are, momentum included.
type optimizer struct {
	team   *par.Team
	muon   muon
	params []param     // in the order of the network's nodes, the embedding last
	m, v   [][]float32 // v of AdamW only
	seen   []float32   // updates of each row of the embedding
	step   int
	rate   float32
}

// The customary numbers.
const (
	beta1     = 0.9
	beta2     = 0.98
	smallest  = 1e-8
	decay     = 0.02
	clipAt    = 1
	chunkSize = 1 << 15
)

func newOptimizer(params []param, set *kernel.Set, team *par.Team) *optimizer {
	a := &optimizer{team: team, muon: muon{mul: gemm.New(set, team)}, params: params}
	for _, p := range params {
		a.m = append(a.m, make([]float32, len(p.data)))
		var v []float32
		if !p.inner() {
			v = make([]float32, len(p.data))
		}
		a.v = append(a.v, v)
	}
	a.seen = make([]float32, params[len(params)-1].rows)
	return a
}

// rowGrads are gradients of some of the embedding's rows.
type rowGrads struct {
	tokens []int32
	grads  []float32 // (tokens, Dim)
}

// Step updates the graph's matrices, as a gorgonia.Solver, and clears their
// gradients.
func (a *optimizer) Step(nodes []gorgonia.ValueGrad) error { return a.update(nodes, rowGrads{}) }

// update is Step, and for rows of the embedding.
func (a *optimizer) update(nodes []gorgonia.ValueGrad, rows rowGrads) error {
	a.step++
	var grads [][]float32
	for _, n := range nodes {
		g, err := n.Grad()
		if err != nil {
			return err
		}
		grads = append(grads, g.Data().([]float32))
	}
	length := 0.0
	for _, g := range append(grads, rows.grads) {
		length += a.square(g)
	}
	scale := float32(1)
	if length = math.Sqrt(length); length > clipAt {
		scale = float32(clipAt / length)
	}
	c1, c2 := corrections(a.step)
	for i, g := range grads {
		p, x, m, v := a.params[i], a.params[i].data, a.m[i], a.v[i]
		if p.inner() {
			a.orthogonal(p, m, g, scale)
			continue
		}
		a.team.Run(func(w *par.Worker) {
			for c := range w.Each((len(g) + chunkSize - 1) / chunkSize) {
				lo := c * chunkSize
				hi := min(lo+chunkSize, len(g))
				adam(x[lo:hi], m[lo:hi], v[lo:hi], g[lo:hi], scale, a.rate, c1, c2, decay)
				clear(g[lo:hi])
			}
		})
	}
	last := len(a.params) - 1
	x, m, v, d := a.params[last].data, a.m[last], a.v[last], a.params[last].cols
	a.team.Run(func(w *par.Worker) {
		lo, hi := w.Share(len(rows.tokens), 1)
		for i := lo; i < hi; i++ {
			t := int(rows.tokens[i])
			a.seen[t]++
			c1, c2 := corrections(int(a.seen[t]))
			adam(x[t*d:(t+1)*d], m[t*d:(t+1)*d], v[t*d:(t+1)*d], rows.grads[i*d:(i+1)*d], scale, a.rate, c1, c2, 0)
		}
	})
	return nil
}

// orthogonal is Muon's update of a matrix.
func (a *optimizer) orthogonal(p param, m, g []float32, scale float32) {
	for i, d := range g {
		d *= scale
		m[i] = muonBeta*m[i] + d
		g[i] = muonBeta*m[i] + d // Nesterov's look ahead
	}
	for i, d := range a.muon.step(g, p.rows, p.cols) {
		p.data[i] -= a.rate * (d + decay*p.data[i])
	}
	clear(g)
}

// corrections make up for averages that began at zero.
func corrections(step int) (c1, c2 float32) {
	return float32(1 / (1 - math.Pow(beta1, float64(step)))), float32(1 / (1 - math.Pow(beta2, float64(step))))
}

func adam(x, m, v, g []float32, scale, rate, c1, c2, decay float32) {
	for i, d := range g {
		d *= scale
		m[i] = beta1*m[i] + (1-beta1)*d
		v[i] = beta2*v[i] + (1-beta2)*d*d
		step := m[i] * c1 / (float32(math.Sqrt(float64(v[i]*c2))) + smallest)
		x[i] -= rate * (step + decay*x[i])
	}
}

// square is the sum of squares, in an order that threads do not change.
func (a *optimizer) square(g []float32) float64 {
	parts := make([]float64, (len(g)+chunkSize-1)/chunkSize)
	a.team.Run(func(w *par.Worker) {
		for c := range w.Each(len(parts)) {
			sum := 0.0
			for _, v := range g[c*chunkSize : min((c+1)*chunkSize, len(g))] {
				sum += float64(v) * float64(v)
			}
			parts[c] = sum
		}
	})
	total := 0.0
	for _, p := range parts {
		total += p
	}
	return total
}
