package speculate

// curve estimates the cost, in seconds, of doing something of some size from
// what it cost before: a pass by its width, a draft by its length.
//
// It knows a shape: what each size is expected to cost, or, without that, that a
// share of the cost of size 1 does not depend on size. Each size seen has a moving
// average of the ratio of its cost to that. Sizes between two seen have a ratio
// between theirs; beyond the largest, cost rises as the shape does, times how much
// steeper than it the cost was so far.
//
// Whatever disturbs a measurement makes it longer, so shorter ones count for more.
type curve struct {
	expect func(size float64) float64 // or nil
	fixed  float64                    // without expect: share of the cost of size 1 that larger sizes do not pay again
	ratio  [MaxDepth + 2]float64      // of cost to shape, by size, 0 = not seen
	count  [MaxDepth + 2]int          // observations, by size
	lo, hi int                        // smallest and largest size seen
}

const (
	curveGain     = 0.25 // weight of an observation in the average of its size
	curveStall    = 0.4  // weight of a longer one in that of a shorter
	curveDrift    = 0.1  // part of a change that other sizes follow: load and context are common to all
	curveSettled  = 3    // observations of a size before its changes count as drift
	curveMaxRatio = 2    // a stall counts as at most this many times the expected cost
	curveSteepest = 3    // times the shape's slope that the cost may rise by beyond the largest size seen
)

// known says whether anything was observed.
func (c *curve) known() bool { return c.lo > 0 }

// observe records a cost. Sizes beyond the table are not speculation but catching
// up, and teach nothing about it.
func (c *curve) observe(size int, seconds float64) {
	if seconds <= 0 || size <= 0 || size >= len(c.ratio) {
		return
	}
	shape := c.shape(float64(size))
	if !c.known() {
		c.lo, c.hi = size, size
		c.ratio[size], c.count[size] = seconds/shape, 1
		return
	}
	expected := c.at(float64(size))
	change := min(max(seconds/expected, 1/float64(curveMaxRatio)), curveMaxRatio) - 1
	c.count[size]++
	gain := max(curveGain, 1/float64(c.count[size]))
	switch {
	case change > 0:
		gain *= curveStall
	case c.count[size] <= curveSettled: // whatever came before was a stall, and others built on it
		gain, change = 1, seconds/expected-1
		for i := c.lo; i <= c.hi; i++ {
			if i != size && c.count[i] <= curveSettled {
				c.ratio[i] *= 1 + change
			}
		}
	}
	c.ratio[size] = expected / shape * (1 + gain*change)
	if c.count[size] > curveSettled {
		for i := c.lo; i <= c.hi; i++ {
			if i != size {
				c.ratio[i] *= 1 + gain*curveDrift*change
			}
		}
	}
	c.lo, c.hi = min(c.lo, size), max(c.hi, size)
}

// at is the estimated cost of a size. Before anything is known it is the shape.
func (c *curve) at(size float64) float64 {
	shape := c.shape(size)
	switch {
	case !c.known():
		return shape
	case size <= float64(c.lo):
		return shape * c.ratio[c.lo]
	case size >= float64(c.hi):
		return c.beyond(shape)
	}
	below := int(size)
	above := below + 1
	for c.ratio[below] == 0 {
		below--
	}
	for c.ratio[above] == 0 {
		above++
	}
	t := (size - float64(below)) / float64(above-below)
	return shape * (c.ratio[below] + t*(c.ratio[above]-c.ratio[below]))
}

// hoped is the cost of a size without a share of what it is above the shape.
func (c *curve) hoped(size, share float64) float64 {
	cost := c.at(size)
	return cost - share*max(0, cost-c.shape(size)*c.scale())
}

// beyond is the cost of a size with the given shape, larger than all seen.
func (c *curve) beyond(shape float64) float64 {
	hi := c.shape(float64(c.hi))
	ratio := c.ratio[c.hi]
	steep := ratio
	if lo := c.shape(float64(c.lo)); lo < hi {
		slope := (ratio*hi - c.ratio[c.lo]*lo) / (hi - lo)
		if c.expect != nil {
			// Where the two are expected to cost nearly the same, what they did
			// says little of wider ones.
			slope = ratio + (slope-ratio)*(hi-lo)/hi
		}
		steep = min(max(slope, steep/curveSteepest), steep*curveSteepest)
	}
	return ratio*hi + steep*(shape-hi)
}

// scale is how many times as dear as expected a size of 1 is, 1 before anything
// is known.
func (c *curve) scale() float64 { return c.at(1) / c.shape(1) }

func (c *curve) shape(size float64) float64 {
	if c.expect != nil {
		return c.expect(size)
	}
	return c.fixed + (1-c.fixed)*size
}

// tally estimates, position by position, the chance of getting past a position
// once there. A position seldom reached leans on the mean of all.
type tally struct {
	past, tried       [MaxDepth]float64
	allPast, allTried float64
	deep              int // positions that may have been tried
}

const (
	tallyDecay     = 0.96 // weight of an observation after the next one
	tallyMeanDecay = 0.99 // the same for the mean of all positions
	tallyForget    = 0.99 // weight of a position that was not reached, a round later
	tallyPrior     = 0.9  // chance assumed before anything was seen: worth a try
	tallyWeight    = 2    // observations that an assumption counts for
	tallyCarry     = 0.25 // weight of what was seen in the request before
	probeHope      = 0.5  // part of the doubt that a probe may dispel
)

// observe records that the first reached of the tried positions were passed.
// What is known of those beyond fades, so that they get another chance.
func (t *tally) observe(reached, tried int) {
	judged := min(reached+1, tried)
	for i := range judged {
		pass := 0.0
		if i < reached {
			pass = 1
		}
		t.past[i] = tallyDecay*t.past[i] + pass
		t.tried[i] = tallyDecay*t.tried[i] + 1
		t.allPast = tallyMeanDecay*t.allPast + pass
		t.allTried = tallyMeanDecay*t.allTried + 1
	}
	for i := max(judged, tried); i < t.deep; i++ {
		t.past[i] *= tallyForget
		t.tried[i] *= tallyForget
	}
	t.deep = max(t.deep, judged)
}

// at is the chance of getting past position i from the one before, if prior was
// assumed of all.
func (t *tally) at(i int, prior float64) float64 {
	mean := (t.allPast + tallyWeight*prior) / (t.allTried + tallyWeight)
	return (t.past[i] + tallyWeight*mean) / (t.tried[i] + tallyWeight)
}

// alone is the same for a position that has nothing to do with the others.
func (t *tally) alone(i int) float64 {
	return (t.past[i] + tallyWeight*tallyPrior) / (t.tried[i] + tallyWeight)
}

// seen is how many rounds it knows, the older counting less.
func (t *tally) seen() float64 { return t.tried[0] }

// fade lets what was seen count for less.
func (t *tally) fade() {
	for i := range t.past {
		t.past[i] *= tallyCarry
		t.tried[i] *= tallyCarry
	}
	t.allPast *= tallyCarry
	t.allTried *= tallyCarry
}
