package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// matrix makes a view of random numbers with a margin right of the columns.
func matrix(r *rand.Rand, rows, cols int, trans bool) Matrix {
	if trans {
		rows, cols = cols, rows
	}
	m := Matrix{Stride: cols + r.IntN(3), Trans: trans}
	m.Data = make([]float32, rows*m.Stride)
	for i := range m.Data {
		m.Data[i] = float32(r.NormFloat64())
	}
	return m
}

func (m Matrix) at(i, j int) float64 {
	if m.Trans {
		i, j = j, i
	}
	return float64(m.Data[i*m.Stride+j])
}

// check compares c with the definition of the product.
func check(t *testing.T, what string, m, n, k int, alpha float32, a, b Matrix, beta float32, before, c Matrix) {
	t.Helper()
	for i := range m {
		for j := range c.Stride {
			got := float64(c.Data[i*c.Stride+j])
			if j >= n {
				if got != float64(before.Data[i*c.Stride+j]) {
					t.Fatalf("%s: wrote beyond column %d of row %d", what, n, i)
				}
				continue
			}
			sum, size := 0.0, 1.0
			for x := range k {
				sum += a.at(i, x) * b.at(x, j)
				size += math.Abs(a.at(i, x) * b.at(x, j))
			}
			want := float64(alpha)*sum + float64(beta)*before.at(i, j)
			if math.Abs(got-want) > 1e-5*size {
				t.Fatalf("%s: element (%d, %d) is %v, expected %v", what, i, j, got, want)
			}
		}
	}
}

func TestMultiply(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	sizes := []int{1, 3, 15, 16, 17, 64, 65, 130}
	times := 40
	if testing.Short() {
		times = 8
	}
	for _, tier := range cpu.Tiers() {
		set := kernel.For(tier)
		var first Matrix
		for _, threads := range []int{1, 3} {
			team := par.NewTeam(threads)
			g := New(set, team)
			for range times {
				pick := func() int { return sizes[r.IntN(len(sizes))] }
				m, n, k := pick(), pick(), pick()
				if r.IntN(8) == 0 {
					k = blockK + pick()
				}
				a, b, c := matrix(r, m, k, r.IntN(2) == 0), matrix(r, k, n, r.IntN(2) == 0), matrix(r, m, n, false)
				alpha, beta := float32(r.IntN(2)+1), float32(r.IntN(3))/2
				before := Matrix{Data: slices.Clone(c.Data), Stride: c.Stride}
				what := fmt.Sprintf("tier %s, %d threads, (%d, %d, %d), %v·A%v·B%v + %v", tier, threads, m, n, k, alpha, a.Trans, b.Trans, beta)
				g.Multiply(m, n, k, alpha, a, b, beta, c)
				check(t, what, m, n, k, alpha, a, b, beta, before, c)
				local := Matrix{Data: slices.Clone(before.Data), Stride: c.Stride}
				NewLocal(set).Multiply(m, n, k, alpha, a, b, beta, local)
				if !slices.Equal(local.Data, c.Data) {
					t.Fatalf("%s: one goroutine gives other bits than the team", what)
				}
			}
			same := rand.New(rand.NewPCG(7, 0))
			a, b, c := matrix(same, 200, 2000, true), matrix(same, 2000, 100, false), matrix(same, 200, 100, false)
			g.Multiply(200, 100, 2000, 1, a, b, 0, c)
			if first.Data != nil && !slices.Equal(first.Data, c.Data) {
				t.Fatalf("tier %s: %d threads give other bits than one", tier, threads)
			}
			first = c
			team.Close()
		}
	}
}

// BenchmarkMultiply has the shapes of a draft's training: a product, its two
// gradients, and the head's.
func BenchmarkMultiply(b *testing.B) {
	team := par.NewTeam(2)
	defer team.Close()
	set := kernel.For(cpu.Best())
	g := New(set, team)
	r := rand.New(rand.NewPCG(1, 0))
	for _, s := range []struct {
		name    string
		m, n, k int
		ta, tb  bool
	}{
		{"wide", 4096, 1152, 576, false, false},
		{"wide-input", 4096, 576, 1152, false, true},
		{"wide-weights", 576, 1152, 4096, true, false},
		{"wide-head", 256, 6144, 576, false, false},
		{"forward", 4096, 384, 128, false, false},
		{"input", 4096, 128, 384, false, true},
		{"weights", 128, 384, 4096, true, false},
		{"head", 256, 8192, 128, false, false},
		{"head-input", 256, 128, 8192, false, true},
		{"head-weights", 128, 8192, 256, true, false},
	} {
		x, y, c := matrix(r, s.m, s.k, s.ta), matrix(r, s.k, s.n, s.tb), matrix(r, s.m, s.n, false)
		b.Run(fmt.Sprintf("%s/tier=%s", s.name, set.Tier), func(b *testing.B) {
			for b.Loop() {
				g.Multiply(s.m, s.n, s.k, 1, x, y, 0, c)
			}
			b.ReportMetric(2*float64(s.m)*float64(s.n)*float64(s.k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
		})
	}
}
