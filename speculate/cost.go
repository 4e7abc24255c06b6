package speculate

// curve estimates the cost, in seconds, of doing something of some size from
// what it cost before: a pass by its width, a draft by its length.
//
// Each size has a moving average. What is between two sizes seen is on the line
// between them; beyond the largest goes the mean slope. A single size is
// extended by the assumed share of its cost that does not depend on size.
type curve struct {
	fixed  float64               // share of the cost of size 1 that larger sizes do not pay again
	cost   [MaxDepth + 2]float64 // by size, 0 = not seen
	count  [MaxDepth + 2]int     // observations, by size
	lo, hi int                   // smallest and largest size seen
}

const (
	curveGain     = 0.2 // weight of an observation in the average of its size
	curveDrift    = 0.1 // part of a change that other sizes follow: load and context are common to all
	curveSettled  = 3   // observations of a size before its changes count as drift
	curveMaxRatio = 2   // a stall counts as at most this many times the expected cost
)

// known says whether anything was observed.
func (c *curve) known() bool { return c.lo > 0 }

// observe records a cost. Sizes beyond the table are not speculation but catching
// up, and teach nothing about it.
func (c *curve) observe(size int, seconds float64) {
	if seconds <= 0 || size >= len(c.cost) {
		return
	}
	if !c.known() {
		c.lo, c.hi = size, size
		c.cost[size], c.count[size] = seconds, 1
		return
	}
	expected := c.at(float64(size))
	ratio := min(max(seconds/expected, 1/float64(curveMaxRatio)), curveMaxRatio)
	c.count[size]++
	gain := max(curveGain, 1/float64(c.count[size]))
	c.cost[size] = expected * (1 + gain*(ratio-1))
	if c.count[size] > curveSettled {
		for i := range c.cost {
			if i != size {
				c.cost[i] *= 1 + gain*curveDrift*(ratio-1)
			}
		}
	}
	c.lo, c.hi = min(c.lo, size), max(c.hi, size)
}

// at is the estimated cost of a size. Before anything is known it is the assumed
// shape, 1 at size 1.
func (c *curve) at(size float64) float64 {
	if !c.known() {
		return c.shape(size)
	}
	if size <= float64(c.lo) {
		return c.cost[c.lo] * c.shape(size) / c.shape(float64(c.lo))
	}
	if hi := float64(c.hi); size >= hi {
		slope := c.cost[c.hi] * (1 - c.fixed) / c.shape(hi)
		if c.lo < c.hi {
			slope = max(0, c.cost[c.hi]-c.cost[c.lo]) / float64(c.hi-c.lo)
		}
		return c.cost[c.hi] + slope*(size-hi)
	}
	below := int(size)
	above := below + 1
	for c.cost[below] == 0 {
		below--
	}
	for c.cost[above] == 0 {
		above++
	}
	t := (size - float64(below)) / float64(above-below)
	return c.cost[below] + t*(c.cost[above]-c.cost[below])
}

func (c *curve) shape(size float64) float64 { return c.fixed + (1-c.fixed)*size }

// tally estimates, position by position, the chance of getting past a position
// once there. A position seldom reached leans on the mean of all.
type tally struct {
	past, tried       [MaxDepth]float64
	allPast, allTried float64
}

const (
	tallyDecay     = 0.96 // weight of an observation after the next one
	tallyMeanDecay = 0.99 // the same for the mean of all positions
	tallyPrior     = 0.9  // chance assumed before anything was seen: worth a try
	tallyWeight    = 2    // observations that an assumption counts for
	tallyCarry     = 0.25 // weight of what was seen in the request before
)

// observe records that the first reached of the tried positions were passed.
func (t *tally) observe(reached, tried int) {
	for i := range min(reached+1, tried) {
		pass := 0.0
		if i < reached {
			pass = 1
		}
		t.past[i] = tallyDecay*t.past[i] + pass
		t.tried[i] = tallyDecay*t.tried[i] + 1
		t.allPast = tallyMeanDecay*t.allPast + pass
		t.allTried = tallyMeanDecay*t.allTried + 1
	}
}

// at is the chance of getting past position i from the one before.
func (t *tally) at(i int) float64 {
	mean := (t.allPast + tallyWeight*tallyPrior) / (t.allTried + tallyWeight)
	return (t.past[i] + tallyWeight*mean) / (t.tried[i] + tallyWeight)
}

// fade lets what was seen count for less.
func (t *tally) fade() {
	for i := range t.past {
		t.past[i] *= tallyCarry
		t.tried[i] *= tallyCarry
	}
	t.allPast *= tallyCarry
	t.allTried *= tallyCarry
}
