package distill

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gorgonia.org/gorgonia"
)

// exact is the loss with less rounding than the graph's number has.
func (r *rig) exact(t testing.TB) float64 {
	t.Helper()
	if _, err := r.run(); err != nil {
		t.Fatal(err)
	}
	total, n := 0.0, 0
	for _, l := range r.head.labels {
		if len(l.index) > 0 {
			total += r.head.losses[n]
			n++
		}
	}
	return total / float64(n)
}

func (r *rig) clear(t testing.TB) {
	t.Helper()
	for _, n := range append([]*gorgonia.Node{r.input}, r.nodes...) {
		g, err := grad(n)
		if err != nil {
			t.Fatal(err)
		}
		clear(g)
	}
}

// The graph's loss is that of the judge's logits.
func TestLoss(t *testing.T) {
	for _, l := range layouts {
		s := tinyShape(l.heads, l.kvHeads)
		r := newRig(t, s, 3, 2, 5)
		got := r.exact(t)
		want, n := 0.0, 0
		for e := range 3 {
			for i, z := range judge(t, s, r.params, r.tokens[e*s.Length:(e+1)*s.Length], r.given[e*s.Length*s.State:(e+1)*s.Length*s.State]) {
				lab := r.head.labels[e*s.Length+i]
				if len(lab.index) == 0 {
					continue
				}
				n++
				sum, rest := 0.0, 1.0
				for _, v := range z {
					sum += math.Exp(float64(v))
				}
				for j, at := range lab.index {
					q := math.Exp(float64(z[at])) / sum
					want -= float64(lab.probs[j]) * math.Log(q)
					rest -= q
				}
				if lab.tail > 0 {
					want -= float64(lab.tail) * math.Log(rest)
				}
			}
		}
		if want /= float64(n); math.Abs(got-want) > 1e-4 {
			t.Errorf("%s: loss %v, expected %v", l.name, got, want)
		}
	}
}

// Gradients are those of finite differences, in directions that a gradient's own
// size makes easy to tell from rounding: along itself, and along one part of it.
func TestGradients(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			s := tinyShape(l.heads, l.kvHeads)
			r := newRig(t, s, 2, 2, 7)
			random := rand.New(rand.NewPCG(1, 0))
			r.exact(t) // gradients exist after a run
			for _, node := range append([]*gorgonia.Node{r.input}, r.nodes...) {
				x := node.Value().Data().([]float32)
				r.clear(t)
				r.exact(t)
				g, err := grad(node)
				if err != nil {
					t.Fatal(err)
				}
				g = slices.Clone(g)
				before := slices.Clone(x)
				for part := range 3 {
					// A direction: the gradient where the coin says so.
					along, size := make([]float32, len(g)), 0.0
					for i, v := range g {
						if part == 0 || random.IntN(4) == 0 {
							along[i] = v
							size += float64(v) * float64(v)
						}
					}
					size = math.Sqrt(size)
					if size < 1e-6 {
						t.Fatalf("%s: no gradient", node.Name())
					}
					const step = 0.01
					at := func(sign float64) float64 {
						for i := range x {
							x[i] = before[i] + float32(sign*step/size)*along[i]
						}
						defer copy(x, before)
						return r.exact(t)
					}
					got := (at(1) - at(-1)) / (2 * step)
					if math.Abs(got-size) > 2e-3*size+1e-4 {
						t.Errorf("%s: the loss changes by %v, expected %v", node.Name(), got, size)
					}
				}
			}
		})
	}
}

// Results do not depend on the number of threads, nor on what ran before.
func TestThreads(t *testing.T) {
	s := tinyShape(4, 2)
	var first [][]float32
	for _, threads := range []int{1, 3} {
		r := newRig(t, s, 3, threads, 9)
		for range 3 {
			r.exact(t)
			var all [][]float32
			for _, n := range append([]*gorgonia.Node{r.input}, r.nodes...) {
				g, err := grad(n)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, slices.Clone(g))
			}
			r.clear(t)
			if first == nil {
				first = all
			}
			for i := range all {
				if !slices.Equal(all[i], first[i]) {
					t.Fatalf("%d threads: gradient %d differs", threads, i)
				}
			}
		}
	}
}

// What a student finds of itself ahead is what its head is given then.
func TestOwnStates(t *testing.T) {
	s := tinyShape(4, 2)
	s.State = s.Dim
	r := newRig(t, s, 2, 2, 3)
	for range 2 {
		ahead, err := r.network.look()
		if err != nil {
			t.Fatal(err)
		}
		ahead = slices.Clone(ahead)
		r.exact(t)
		if !slices.Equal(ahead, r.hidden.Value().Data().([]float32)) {
			t.Error("not the same")
		}
		r.states.Value().Data().([]float32)[5] += 3
	}
}

// BenchmarkStep is a step of a wide student and of a narrow one.
func BenchmarkStep(b *testing.B) {
	for _, o := range []Options{{Layers: 1, Dim: 576, Head: 6144}, {Layers: 2, Dim: 128, Head: 8192}} {
		b.Run(fmt.Sprintf("%dx%d", o.Layers, o.Dim), func(b *testing.B) {
			o.Sinks, o.Window, o.Length, o.Random = 16, 256, 512, true
			s, _ := newShape(&o, nil, 8192, 576)
			r := newRig(b, s, 8, 2, 1)
			opt := newOptimizer(r.params, r.set, r.team)
			opt.rate = 1e-3
			grads := gorgonia.NodesToValueGrads(r.nodes)
			for b.Loop() {
				if _, err := r.run(); err != nil {
					b.Fatal(err)
				}
				if err := opt.Step(grads); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(r.rows()*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
