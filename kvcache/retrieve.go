package kvcache

import (
	"fmt"
	"math"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// Rule says how chunks of a full cache are ranked for retrieval.
type Rule uint8

// The rules. ByMass ranks chunks by the attention that the newest rows of the
// last pass over the full cache gave them; ByMean by the dot product of the
// newest query with the mean of a chunk's keys (Sun et al. 2024, section 4.1).
const (
	ByMass Rule = iota
	ByMean
)

// View is a slice of a full cache, small enough to be read quickly: the sinks,
// the chunks that matter most, by layer and KV head, and the newest window,
// with the tokens that a level of speculation appends to it. Refresh brings it
// up to date after each pass over the full cache; only chunks that changed are
// copied.
//
// The view's slots hold the chosen chunks, in no particular order, and after
// them the window; keys are rotated by their place in the sequence, and
// softmax does not mind the order. While the whole sequence fits the budget,
// slot i holds token i, as in the full cache: then the view gives the same
// bits.
type View struct {
	*Store
	full *Full
	opt  ViewOptions
	team *par.Team
	pass Pass

	choices []choice // (layers·heads)
	chosen  int      // chunks before the window
	start   int      // the chunk of the full cache with which the window begins
	synced  int      // tokens that are as in the full cache
	length  int
	refresh func(*par.Worker)
}

// ViewOptions says what a view shows. All numbers are in tokens.
type ViewOptions struct {
	// Budget is what the view may show, the rows that are appended to it not
	// counted.
	Budget int
	// Chunk is how many consecutive tokens are chosen together, a multiple of
	// kernel.Chunk.
	Chunk int
	// Sinks and Window are the first and the newest tokens, always shown.
	Sinks, Window int
	Rule          Rule
}

// Minimum is the smallest budget that leaves room for a chosen chunk.
func (o ViewOptions) Minimum() int { return chunks(o.Sinks)*kernel.Chunk + o.Window + o.Chunk }

// choice is the chunks that a layer's head has in the view.
type choice struct {
	at     []int32 // the chunk of the full cache at each place, or -1
	wanted []uint32
	stamp  uint32
	scores []float32
	means  []float32 // (chunks, dim): mean keys, for ByMean
	free   []int32
}

// NewView makes a view of full, whose passes must record mass.
func NewView(store *Store, full *Full, team *par.Team, opt ViewOptions) *View {
	v := &View{Store: store, full: full, opt: opt, team: team, pass: Pass{Store: store}}
	v.choices = make([]choice, store.shape.Layers*store.shape.Heads)
	v.refresh = v.refreshShare
	return v
}

func chunks(tokens int) int { return (tokens + kernel.Chunk - 1) / kernel.Chunk }

// Len is the number of tokens that the view stands for.
func (v *View) Len() int { return v.length }

// slot is where token i of the window is.
func (v *View) slot(i int) int { return (v.chosen-v.start)*kernel.Chunk + i }

// Begin makes room for rows after the newest token.
func (v *View) Begin(rows int, parents []int32) (*Pass, error) {
	checkParents(rows, parents)
	base := v.slot(v.length)
	v.reserve(base + rows)
	v.pass.plan(rows, parents, v.length, base, 0, 0)
	return &v.pass, nil
}

// End makes the rows of the pass part of the view.
func (v *View) End() {
	v.length += len(v.pass.Rows)
	v.pass.Rows = v.pass.Rows[:0]
}

// Rewind forgets all tokens from the n-th on. If that reaches behind the
// window, the view is empty until Refresh.
func (v *View) Rewind(n int) {
	if n < 0 || n > v.length {
		panic(fmt.Sprintf("kvcache: rewind to %d of %d tokens", n, v.length))
	}
	v.length, v.synced = n, min(v.synced, n)
	if n < v.start*kernel.Chunk {
		v.chosen, v.start, v.length, v.synced = 0, 0, 0, 0
		for i := range v.choices {
			v.choices[i].at, v.choices[i].means = v.choices[i].at[:0], v.choices[i].means[:0]
		}
	}
}

// Keep forgets all rows from the base-th token on but those in path.
func (v *View) Keep(base int, path []int32) {
	v.keep(v.slot(base), path)
	v.length = base + len(path)
	v.synced = min(v.synced, base)
}

// Refresh makes the view stand for all tokens of the full cache: it chooses
// chunks anew and copies what it lacks.
func (v *View) Refresh() {
	n := v.full.Len()
	if n+spare <= v.opt.Budget {
		if v.chosen > 0 || v.start > 0 {
			v.Rewind(0)
		}
	} else if window := v.opt.Window; v.chosen == 0 || n-v.start*kernel.Chunk > window+spare || n < v.start*kernel.Chunk {
		v.start = max(0, n-window) / kernel.Chunk
		v.chosen = min((v.opt.Budget-window)/v.opt.Chunk*(v.opt.Chunk/kernel.Chunk), v.start)
		v.synced = v.start * kernel.Chunk
	}
	v.synced = min(v.synced, n)
	v.reserve(v.slot(n))
	v.team.Run(v.refresh)
	v.length, v.synced = n, n
}

// refreshShare does the layers and heads that fall to a worker.
func (v *View) refreshShare(w *par.Worker) {
	for i := range w.Each(len(v.choices)) {
		layer, head := i/v.shape.Heads, i%v.shape.Heads
		if v.chosen > 0 {
			v.choose(layer, head, &v.choices[i])
		}
		for c := v.synced / kernel.Chunk; c < chunks(v.full.Len()); c++ {
			v.copyChunk(layer, head, v.chosen-v.start+c, v.full.Store, c)
		}
	}
}

// choose brings the chosen chunks of a layer's head up to date.
func (v *View) choose(layer, head int, c *choice) {
	for len(c.at) < v.chosen {
		c.at = append(c.at, -1)
	}
	c.at = c.at[:v.chosen]
	if len(c.wanted) < v.start {
		c.wanted = append(c.wanted, make([]uint32, 2*v.start-len(c.wanted))...)
	}
	c.stamp += 2
	want, have := c.stamp, c.stamp+1
	v.want(layer, head, c)
	c.free = c.free[:0]
	for place, chunk := range c.at {
		if chunk >= 0 && int(chunk) < v.start && c.wanted[chunk] == want {
			c.wanted[chunk] = have
		} else {
			c.free = append(c.free, int32(place))
		}
	}
	for chunk := 0; chunk < v.start && len(c.free) > 0; chunk++ {
		if c.wanted[chunk] != want {
			continue
		}
		place := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.at[place] = int32(chunk)
		v.copyChunk(layer, head, int(place), v.full.Store, chunk)
	}
}

// want stamps the v.chosen chunks that the view should show of those before
// the window.
func (v *View) want(layer, head int, c *choice) {
	per := v.opt.Chunk / kernel.Chunk
	groups := v.start / per // a rest at the end is too near to matter
	scores := v.scores(layer, head, c, per, groups)
	sinks := chunks(v.opt.Sinks)
	for g := range min((sinks+per-1)/per, groups) {
		scores[g] = float32(math.Inf(1))
	}
	left := v.chosen
	threshold := nth(append(c.scores[groups:groups], scores...), min(v.chosen/per, groups))
	stamp := func(g int) {
		for i := g * per; i < (g+1)*per && left > 0; i++ {
			c.wanted[i] = c.stamp
			left--
		}
	}
	for g, s := range scores {
		if s > threshold {
			stamp(g)
		}
	}
	// Ties, and chunks that fill up what is left, the newest first.
	for g := groups - 1; g >= 0 && left > 0; g-- {
		if c.wanted[g*per] != c.stamp {
			if scores[g] == threshold {
				stamp(g)
			}
		}
	}
	for i := v.start - 1; i >= 0 && left > 0; i-- {
		if c.wanted[i] != c.stamp {
			c.wanted[i] = c.stamp
			left--
		}
	}
}

// scores returns the rank of groups of per chunks; the memory behind them, as
// long again, is free for use.
func (v *View) scores(layer, head int, c *choice, per, groups int) []float32 {
	if cap(c.scores) < 2*groups {
		c.scores = make([]float32, 4*groups)
	}
	scores := c.scores[:groups]
	clear(scores)
	of := v.full.pass.Mass.Chunks(layer, head)
	if v.opt.Rule == ByMean {
		of = v.meanScores(layer, head, c)
	}
	for i := range min(groups*per, len(of)) {
		scores[i/per] += of[i]
	}
	return scores
}

// nth returns the n-th largest of x, n ≥ 1, whose order it destroys; for n = 0
// it returns +Inf.
func nth(x []float32, n int) float32 {
	if n == 0 {
		return float32(math.Inf(1))
	}
	lo, hi := 0, len(x)-1
	for lo < hi {
		pivot := x[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for x[i] > pivot {
				i++
			}
			for x[j] < pivot {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case n-1 <= j:
			hi = j
		case n-1 >= i:
			lo = i
		default:
			return x[n-1]
		}
	}
	return x[lo]
}

// meanScores ranks chunks by the softmax of the newest query with their mean
// keys, summed over the heads of the group.
func (v *View) meanScores(layer, head int, c *choice) []float32 {
	dim := v.shape.Dim
	key, value := make([]float32, dim), make([]float32, dim)
	for at := len(c.means) / dim; at < v.start; at++ {
		c.means = append(c.means, make([]float32, dim)...)
		mean := c.means[at*dim:]
		for s := range kernel.Chunk {
			v.full.Get(layer, head, at*kernel.Chunk+s, key, value)
			for i, k := range key {
				mean[i] += k / kernel.Chunk
			}
		}
	}
	out := make([]float32, v.start)
	one := make([]float64, v.start)
	for _, q := range v.full.pass.Mass.queriesOf(layer, head) {
		sum, largest := 0.0, math.Inf(-1)
		for i := range one {
			dot := float32(0)
			for j, k := range c.means[i*dim : (i+1)*dim] {
				dot += float32(k * q[j])
			}
			one[i] = float64(dot) / math.Sqrt(float64(dim))
			largest = max(largest, one[i])
		}
		for i := range one {
			one[i] = math.Exp(one[i] - largest)
			sum += one[i]
		}
		for i := range one {
			out[i] += float32(one[i] / sum)
		}
	}
	return out
}
