package kvcache

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// viewer is a full cache and a view of it, both of tags.
type viewer struct {
	tagger // of the full cache
	full   *Full
	view   *View
	mass   *Mass
}

func newViewer(t testing.TB, shape Shape, opt ViewOptions, window int) *viewer {
	team := par.NewTeam(2)
	t.Cleanup(team.Close)
	store := NewStore(shape, portable)
	full := NewFull(store, 1<<20, window)
	x := &viewer{tagger: tagger{t: t, cache: full, store: store}, full: full, mass: NewMass(shape, 2, 1)}
	full.Record(x.mass)
	x.view = NewView(portable, full, team, opt)
	return x
}

// feed appends rows to the full cache, whose attention is random numbers of a
// few values, so that some are the same.
func (x *viewer) feed(rng *rand.Rand, rows int, parents []int32) {
	x.t.Helper()
	base := len(x.seq)
	p, tags, _ := x.begin(rows, parents)
	for l := range p.shape.Layers {
		for h := range p.shape.Heads {
			for i := range p.Mass.Chunks(l, h) {
				p.Mass.Chunks(l, h)[i] = float32(rng.IntN(40))
			}
		}
	}
	x.full.End()
	x.seq = append(x.seq, tags...)
	if parents != nil {
		path := randomPath(rng, parents)
		x.full.Keep(base, path)
		x.seq = x.seq[:base]
		for _, r := range path {
			x.seq = append(x.seq, tags[r])
		}
	}
}

// best is the specification of what is chosen: all chunks before the window if
// there is room, else the groups of the sinks and those of the largest sums, of
// equal ones the newest.
func (x *viewer) best(l, h int) []int {
	v, per := x.view, x.view.opt.Chunk/kernel.Chunk
	var all []int
	if v.chosen == v.start {
		for c := range v.start {
			all = append(all, c)
		}
		return all
	}
	mass := x.mass.Chunks(l, h)
	groups := make([]int, v.start/per)
	sums := make([]float32, len(groups))
	for g := range groups {
		groups[g] = g
		for c := g * per; c < (g+1)*per; c++ {
			if c < len(mass) {
				sums[g] += mass[c]
			}
		}
		if g*v.opt.Chunk < v.opt.Sinks {
			sums[g] = float32(math.Inf(1))
		}
	}
	slices.SortFunc(groups, func(a, b int) int { return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(b, a)) })
	for _, g := range groups[:v.chosen/per] {
		for c := g * per; c < (g+1)*per; c++ {
			all = append(all, c)
		}
	}
	slices.Sort(all)
	return all
}

// check judges the view after Refresh: it shows the best chunks and the window,
// all as in the full cache.
func (x *viewer) check() {
	x.t.Helper()
	v, n := x.view, len(x.seq)
	if v.Len() != n {
		x.t.Fatalf("the view stands for %d tokens, expected %d", v.Len(), n)
	}
	budget := max(v.opt.BudgetAt(n), v.budget)
	most := v.opt.windowAt(max(v.budget, 1))
	room := (v.budget - most) / v.opt.Chunk * v.opt.Chunk / kernel.Chunk
	window := n - v.start*kernel.Chunk
	switch {
	case n+spare <= budget:
		if v.chosen != 0 || v.start != 0 {
			x.t.Fatalf("%d chunks before the window, though %d tokens fit", v.chosen, n)
		}
	case v.chosen != min(room, v.start) || window > v.opt.windowAt(budget)+spare:
		x.t.Fatalf("%d chunks of %d and a window of %d tokens; the budget is %+v", v.chosen, v.start, window, v.opt)
	}
	for l := range v.shape.Layers {
		for h := range v.shape.Heads {
			var have []int
			for i := range v.chosen {
				slot := i * kernel.Chunk
				at := slices.Index(x.seq, get(v.Store, l, h, slot))
				if at < 0 || at%kernel.Chunk != 0 {
					x.t.Fatalf("layer %d, head %d: slot %d shows no chunk's first token but %d", l, h, slot, at)
				}
				for j := range kernel.Chunk {
					if got := get(v.Store, l, h, slot+j); got != x.seq[at+j] {
						x.t.Fatalf("layer %d, head %d: slot %d shows %d, expected %d", l, h, slot+j, got, x.seq[at+j])
					}
				}
				have = append(have, at/kernel.Chunk)
			}
			slices.Sort(have)
			if want := x.best(l, h); v.chosen > 0 && !slices.Equal(have, want) {
				x.t.Fatalf("layer %d, head %d: chunks %v of %d tokens, expected %v", l, h, have, n, want)
			}
			for i := v.start * kernel.Chunk; i < n; i++ {
				if got := get(v.Store, l, h, v.slot(i)); got != x.seq[i] {
					x.t.Fatalf("layer %d, head %d: token %d is %d, expected %d", l, h, i, got, x.seq[i])
				}
			}
		}
	}
}

// propose appends tokens to the view alone, as a level of speculation does, and
// takes some or all of them back.
func (x *viewer) propose(rng *rand.Rand) {
	x.t.Helper()
	v := x.view
	g := &tagger{t: x.t, cache: v, store: v.Store, seq: slices.Clone(x.seq[:v.Len()]), next: x.next + 1<<14}
	start := v.start * kernel.Chunk
	check := func(what string, p *Pass, paths [][]int) {
		for r, path := range paths {
			want := append(slices.Clone(g.seq[start:]), path...)
			got := everywhereAfter(x.t, p, r, p.Base-(len(g.seq)-start))
			if p.Rows[r].Lo != 0 || !slices.Equal(got, want) {
				x.t.Fatalf("%s: row %d of a view sees %v after its chunks, expected %v", what, r, got, want)
			}
		}
	}
	for range rng.IntN(4) {
		rows := 1 + rng.IntN(12)
		var parents []int32
		if rng.IntN(2) == 0 {
			parents = randomTree(rng, rows)
		}
		p, tags, paths := g.begin(rows, parents)
		check("a proposal", p, paths)
		base := len(g.seq)
		v.End()
		g.seq = append(g.seq, tags...)
		if parents != nil {
			path := randomPath(rng, parents)
			v.Keep(base, path)
			g.seq = g.seq[:base]
			for _, r := range path {
				g.seq = append(g.seq, tags[r])
			}
		} else if rng.IntN(2) == 0 {
			v.Rewind(base + rng.IntN(rows+1))
			g.seq = g.seq[:v.Len()]
		}
	}
}

// everywhereAfter is everywhere for the slots from one on.
func everywhereAfter(t testing.TB, p *Pass, r, slot int) []int {
	t.Helper()
	tags := sees(p, r, 0, 0)[slot:]
	for l := range p.shape.Layers {
		for h := range p.shape.Heads {
			if other := sees(p, r, l, h)[slot:]; !slices.Equal(other, tags) {
				t.Fatalf("row %d sees %v in layer %d, head %d, and %v in layer 0", r, other, l, h, tags)
			}
		}
	}
	return tags
}

// Whatever is fed, kept and rewound, a view that is brought up to date shows
// what it should, and what is appended to it comes after that.
func TestView(t *testing.T) {
	for name, opt := range map[string]ViewOptions{
		"chunks of 16":     {Budget: 512, Chunk: 16, Sinks: 4, Window: 64},
		"chunks of 48":     {Budget: 400, Chunk: 48, Sinks: 17, Window: 100},
		"the least budget": {Budget: 16 + 70 + 32, Chunk: 32, Sinks: 16, Window: 70},
		"no sinks":         {Budget: 300, Chunk: 16, Window: 16},
		"the newest":       {Budget: 300, Chunk: 16, Sinks: 20},
		"no budget given":  {Chunk: 32, Sinks: 4, Window: 500},
	} {
		t.Run(name, func(t *testing.T) {
			seeds(t, 3, func(t *testing.T, rng *rand.Rand) {
				shape := Shape{Layers: 1, Heads: 2, Dim: 3, Type: kernel.KVF32}
				x := newViewer(t, shape, opt, 0)
				for range 60 {
					x.propose(rng)
					// Back to what both caches have in common, and perhaps
					// further.
					n := len(x.seq)
					switch rng.IntN(12) {
					case 0:
						n = rng.IntN(n + 1)
					case 1, 2, 3:
						n = max(0, n-rng.IntN(40))
					}
					x.view.Rewind(min(n, x.view.Len()))
					x.full.Rewind(n)
					x.seq = x.seq[:n]
					switch rng.IntN(4) {
					case 0:
						x.feed(rng, 1+rng.IntN(700), nil)
					case 1:
						x.feed(rng, 10, randomTree(rng, 10))
					default:
						x.feed(rng, 1+rng.IntN(20), nil)
					}
					x.view.Refresh()
					x.check()
				}
			})
		})
	}
}

// Where no budget is given, it doubles as the text does, and what is shown is
// right all along, also after the text became shorter again.
func TestViewGrows(t *testing.T) {
	for _, opt := range []ViewOptions{{Chunk: 16, Sinks: 16, Window: 64}, {Chunk: 16, Sinks: 16}} {
		rng := rand.New(rand.NewPCG(5, 6))
		x := newViewer(t, Shape{Layers: 1, Heads: 1, Dim: 3, Type: kernel.KVF32}, opt, 0)
		var budgets []int
		see := func() {
			x.view.Refresh()
			x.check()
			if b := x.view.budget; len(budgets) == 0 || budgets[len(budgets)-1] != b {
				budgets = append(budgets, b)
			}
		}
		for _, n := range []int{600, 15500, 270, 60, 300, 700} {
			for ; n > 0; n -= 500 {
				x.feed(rng, min(n, 500), nil)
			}
			see()
		}
		for _, n := range []int{17000, 5000} {
			x.view.Rewind(min(n, x.view.Len()))
			x.full.Rewind(n)
			x.seq = x.seq[:n]
			x.feed(rng, 1, nil)
			see()
		}
		if want := []int{512, 1024, 512}; !slices.Equal(budgets, want) {
			t.Errorf("%+v: budgets %v, expected %v", opt, budgets, want)
		}
	}
}

// Refresh copies only chunks that it did not show before.
func TestViewCopiesChanges(t *testing.T) {
	for _, kv := range []kernel.KVType{kernel.KVQ8, kernel.KVF16, kernel.KVF32} {
		rng := rand.New(rand.NewPCG(2, 0))
		shape := Shape{Layers: 1, Heads: 1, Dim: 3, Type: kv}
		x := newViewer(t, shape, ViewOptions{Budget: 256, Chunk: 16, Sinks: 16, Window: 64}, 0)
		x.feed(rng, 1000, nil)
		x.view.Refresh()
		old := x.best(0, 0)
		// The full cache is poisoned, and the order of chunks changes.
		for slot := range 1000 {
			put(x.store, slot, 7)
		}
		sums := x.mass.Chunks(0, 0)
		for i := range sums {
			sums[i] = float32(rng.IntN(40))
		}
		x.view.Refresh()
		for i, chunk := range x.view.choices[0].at {
			tag := loose(x.view.Store, i*kernel.Chunk)
			if kept := slices.Contains(old, int(chunk)); kept == (tag == 7) {
				t.Errorf("%v: chunk %d, shown before: %v, has tag %d, the poison is 7", kv, chunk, kept, tag)
			}
		}
		if slices.Equal(old, x.best(0, 0)) {
			t.Error("no chunk changed: the test sees nothing")
		}
	}
}

// loose is the tag in a slot of layer 0 and head 0, whatever the rounding.
func loose(s *Store, slot int) int {
	k, v := make([]float32, s.shape.Dim), make([]float32, s.shape.Dim)
	s.Get(0, 0, slot, k, v)
	return int(math.Round(float64(-v[0]) / 8))
}

// By the mean rule, chunks are ranked by the softmax of queries with mean keys.
func TestViewByMean(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	const n, d = 700, 5
	shape := Shape{Layers: 1, Heads: 1, Dim: d, Type: kernel.KVF32}
	opt := ViewOptions{Budget: 256, Chunk: 32, Sinks: 4, Window: 40, Rule: ByMean}
	x := newViewer(t, shape, opt, 0)
	queries := [][]float32{{1, -2, 0, 0, 3}, {0, 2, 2, -1, 0}}
	if _, err := x.full.Begin(n, nil); err != nil {
		t.Fatal(err)
	}
	means := make([][]float64, n/16)
	for i := range n {
		k := make([]float32, d)
		for j := range k {
			k[j] = float32(rng.NormFloat64())
		}
		x.full.Put(0, 0, i, k, k)
		if c := i / 16; c < len(means) {
			if means[c] == nil {
				means[c] = make([]float64, d)
			}
			for j := range k {
				means[c][j] += float64(k[j]) / 16
			}
		}
	}
	for h, q := range queries {
		x.mass.SetQuery(0, h, q)
	}
	x.full.End()
	x.view.Refresh()

	v := x.view
	rank := make([]float64, v.start)
	for _, q := range queries {
		sum, one := 0.0, make([]float64, v.start)
		for c := range one {
			dot := 0.0
			for j := range q {
				dot += float64(q[j]) * means[c][j]
			}
			one[c] = math.Exp(dot / math.Sqrt(d))
			sum += one[c]
		}
		for c := range one {
			rank[c] += one[c] / sum
		}
	}
	groups := make([]int, 0, v.start/2)
	for g := 1; g < v.start/2; g++ {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b int) int { return cmp.Compare(rank[2*b]+rank[2*b+1], rank[2*a]+rank[2*a+1]) })
	want := []int{0, 1}
	for _, g := range groups[:v.chosen/2-1] {
		want = append(want, 2*g, 2*g+1)
	}
	var got []int
	for _, c := range v.choices[0].at {
		got = append(got, int(c))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("chunks %v, expected %v", got, want)
	}
}

func TestNth(t *testing.T) {
	seeds(t, 20, func(t *testing.T, rng *rand.Rand) {
		x := make([]float32, 1+rng.IntN(50))
		for i := range x {
			x[i] = float32(rng.IntN(20))
		}
		sorted := slices.Clone(x)
		slices.Sort(sorted)
		for n := 1; n <= len(x); n++ {
			if got, want := nth(slices.Clone(x), n), sorted[len(x)-n]; got != want {
				t.Errorf("the largest but %d of %v is %v, expected %v", n-1, x, got, want)
			}
		}
	})
}

func TestMinimum(t *testing.T) {
	o := ViewOptions{Chunk: 32, Sinks: 17, Window: 40}
	if got, want := o.Minimum(), 32+40+32; got != want {
		t.Errorf("the least budget is %d, expected %d", got, want)
	}
}
