package kvcache

import (
	"math"

	"triforce/internal/kernel"
)

// choice is the chunks that a layer's head has in the view.
type choice struct {
	*ranking           // of the worker that makes the choice
	at       []int32   // the chunk of the full cache at each place, or -1
	chosen   []bool    // by chunk of the full cache: whether it is in at
	key      []float32 // of one slot
	value    []float32
	keys     []float32 // (chunks, dim): mean keys, for ByMean

	threshold float32 // of the last choice

	// Of a full cache on disk:
	likely  []int32 // chunks that the next choice may want, by place in stage
	brought []bool  // whether stage has them
	hoped   []int32 // likely, in the making
	hand    []bool  // by chunk: whether it need not be read
	missing []lack
}

// ranking is a worker's scratch for making choices.
type ranking struct {
	wanted []bool  // by chunk of the full cache; all false between choices
	wants  []int32 // the chunks that are wanted
	free   []int32 // places for them
	scores []float32
	groups []int32   // of best
	values []float32 // of best
	// For ByMean:
	means   []float32 // the rank of each chunk
	weights []float64 // by one query
}

// choose brings the chosen chunks of a layer's head up to date.
func (v *View) choose(layer, head int, c *choice) {
	for len(c.at) < v.chosen {
		c.at = append(c.at, -1)
	}
	if len(c.chosen) < v.start {
		c.chosen = append(c.chosen, make([]bool, 2*v.start-len(c.chosen))...)
	}
	if len(c.wanted) < v.start {
		c.wanted = make([]bool, 2*v.start)
	}
	v.want(layer, head, c)
	c.free = c.free[:0]
	for i, chunk := range c.at {
		switch {
		case chunk < 0:
			c.free = append(c.free, int32(i))
		case !c.wanted[chunk]:
			c.chosen[chunk] = false
			c.free = append(c.free, int32(i))
		}
	}
	for _, chunk := range c.wants {
		c.wanted[chunk] = false
		if c.chosen[chunk] {
			continue
		}
		i := c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.at[i] = chunk
		c.chosen[chunk] = true
		v.get(layer, head, c, int(i), int(chunk))
	}
	c.likely, c.hoped = c.hoped, c.likely[:0]
	c.brought = append(c.brought[:0], make([]bool, len(c.likely))...)
}

// want lists and marks the v.chosen chunks that the view should show of those
// before the window.
func (v *View) want(layer, head int, c *choice) {
	per := v.opt.Chunk / kernel.Chunk
	groups := v.start / per
	scores := v.scores(layer, head, c, per, groups)
	for g := range min((chunks(v.opt.Sinks)+per-1)/per, groups) {
		scores[g] = float32(math.Inf(1))
	}
	if v.stage != nil {
		v.atHand(c, scores, per)
	}
	c.wants = c.wants[:0]
	want := func(g int) {
		for i := g * per; i < min((g+1)*per, v.start) && len(c.wants) < v.chosen; i++ {
			if !c.wanted[i] {
				c.wanted[i] = true
				c.wants = append(c.wants, int32(i))
			}
		}
	}
	best, threshold := c.best(scores, min(v.chosen/per, groups))
	for _, g := range best {
		if scores[g] > threshold {
			want(int(g))
		}
	}
	// Ties, and what does not make a group, the newest first.
	for i := len(best) - 1; i >= 0 && len(c.wants) < v.chosen; i-- {
		if scores[best[i]] == threshold {
			want(int(best[i]))
		}
	}
	for g := groups; g >= 0 && len(c.wants) < v.chosen; g-- {
		want(g)
	}
}

// best returns the n-th largest score, or +Inf for n = 0, and the groups that
// have as much or more, among others, in ascending order. Scores change little
// from one choice to the next: those below half of the last threshold hardly
// count.
func (c *choice) best(scores []float32, n int) (groups []int32, threshold float32) {
	if n == 0 {
		return nil, float32(math.Inf(1))
	}
	if cap(c.groups) < len(scores) {
		c.groups, c.values = make([]int32, 2*len(scores)), make([]float32, 2*len(scores))
	}
	for _, least := range [...]float32{c.threshold / 2, float32(math.Inf(-1))} {
		groups, values := c.groups[:len(scores)], c.values[:len(scores)]
		k := 0
		for g, s := range scores {
			groups[k], values[k] = int32(g), s
			if s >= least {
				k++
			}
		}
		if k >= n {
			c.threshold = nth(values[:k], n)
			return groups[:k], c.threshold
		}
	}
	return nil, float32(math.Inf(1)) // scores are not numbers
}

// scores returns the rank of groups of per chunks.
func (v *View) scores(layer, head int, c *choice, per, groups int) []float32 {
	if cap(c.scores) < groups {
		c.scores = make([]float32, 2*groups)
	}
	scores := c.scores[:groups]
	var of []float32 // none: the newest chunks
	switch {
	case v.mass == nil:
	case v.opt.Rule == ByMean:
		of = v.meanScores(layer, head, c)
	default:
		of = v.mass.Chunks(layer, head)
	}
	if per == 1 {
		clear(scores[copy(scores, of):])
		return scores
	}
	clear(scores)
	for i := range min(groups*per, len(of)) {
		scores[i/per] += of[i]
	}
	return scores
}

// nth returns the n-th largest of x, n ≥ 1, whose order it destroys.
func nth(x []float32, n int) float32 {
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
	if cap(c.means) < v.start {
		c.means, c.weights = make([]float32, 2*v.start), make([]float64, 2*v.start)
	}
	out, one := c.means[:v.start], c.weights[:v.start]
	clear(out)
	for _, q := range v.mass.queriesOf(layer, head) {
		sum, largest := 0.0, math.Inf(-1)
		for i := range one {
			dot := float32(0)
			for j, k := range c.keys[i*len(q) : (i+1)*len(q)] {
				dot += float32(k * q[j])
			}
			one[i] = float64(dot) / math.Sqrt(float64(len(q)))
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
