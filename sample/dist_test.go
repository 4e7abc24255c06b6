package sample

import (
	"math"
	"math/rand/v2"
	"testing"
)

// dense is a distribution as an array, to check by.
func dense(d *Dist, n int) []float64 {
	p := make([]float64, n)
	for i := range d.Len() {
		id, v := d.At(i)
		p[id] = v
	}
	return p
}

func randomDist(rng *rand.Rand, n int) *Dist {
	d := &Dist{}
	for id := range n {
		if rng.IntN(3) > 0 || id == n-1 && d.Len() == 0 {
			d.push(int32(id), rng.Float64())
		}
	}
	d.normalize()
	return d
}

func TestResidual(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 2))
		n := 1 + rng.IntN(10)
		p, q := randomDist(rng, n), randomDist(rng, n)
		want := make([]float64, n)
		var sum float64
		for id := range want {
			want[id] = max(0, dense(p, n)[id]-dense(q, n)[id])
			sum += want[id]
		}
		var r Dist
		r.Set(p)
		r.Subtract(q)
		for id, v := range want {
			if sum == 0 {
				v = p.P(int32(id)) // equal: left as it was
			} else {
				v /= sum
			}
			if math.Abs(r.P(int32(id))-v) > 1e-12 {
				t.Fatalf("seed %d: token %d has %v, want %v", seed, id, r.P(int32(id)), v)
			}
		}
	}
}

// TestTinyResidual: a residual of a few last bits is still a distribution.
func TestTinyResidual(t *testing.T) {
	var p, q Dist
	p.push(1, 0.5)
	p.push(2, 0.5)
	q.push(1, math.Nextafter(0.5, 1))
	q.push(2, math.Nextafter(0.5, 0))
	p.Subtract(&q)
	if p.P(1) != 0 || p.P(2) != 1 {
		t.Errorf("residual %v", p)
	}
}

func TestRemove(t *testing.T) {
	var d Dist
	for id, p := range []float64{0.5, 0.2, 0.3} {
		d.push(int32(id*2), p)
	}
	if !d.Remove(0) || d.P(0) != 0 || math.Abs(d.P(2)-0.4) > 1e-15 || math.Abs(d.P(4)-0.6) > 1e-15 {
		t.Errorf("%v", d)
	}
	if !d.Remove(7) || d.Len() != 2 {
		t.Errorf("%v after removing what is not there", d)
	}
	if !d.Remove(4) || d.P(2) != 1 {
		t.Errorf("%v", d)
	}
	if d.Remove(2) {
		t.Errorf("%v has tokens left", d)
	}
}

func TestDistDraw(t *testing.T) {
	var d Dist
	for id, p := range []float64{0, 0.25, 0, 0.5, 0.25, 0} {
		d.push(int32(id), p)
	}
	for _, c := range []struct {
		u    float64
		want int32
	}{{0x1p-53, 1}, {0.2499, 1}, {0.2501, 3}, {0.7499, 3}, {0.7501, 4}, {1 - 0x1p-53, 4}} {
		if got := d.Draw(c.u); got != c.want {
			t.Errorf("%v drew %d, want %d", c.u, got, c.want)
		}
	}
	d.SetPoint(9)
	if d.Len() != 1 || d.Draw(0.999) != 9 || d.P(9) != 1 {
		t.Errorf("%v", d)
	}
}
