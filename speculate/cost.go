package speculate

// curve estimates the cost, in seconds, of doing something of some size from
// what it cost before: a pass by its width, a draft by its length.
//
// The cost is a line over what is expected of a size beyond that of size 1 (see
// beyond), and what is expected is its slope at first; then a Kalman filter follows
// what is observed. Its noise has the direction of the line itself, as load and
// context make all sizes dearer together, so that observations of one size do not
// change what is believed of how sizes compare. Where sizes near to it were
// observed, the cost is moved by what they were off the line: passes have steps.
//
// Beyond what was observed the line goes on. If it is too low there, that is soon
// seen; what is thought too dear is never tried.
//
// Whatever disturbs a measurement makes it longer, so shorter ones count for more.
type curve struct {
	expect func(size float64) float64 // seconds, or nil
	fixed  float64                    // without expect: share of the cost of size 1 that larger sizes do not pay again
	each   float64                    // without expect: seconds expected of a size more, 0 = not known
	hi     int                        // largest size seen, 0 = none
	seen   int                        // observations
	one    float64                    // what was expected of size 1 when last observed
	level  float64                    // of size 1, in what is expected of it
	slope  float64                    // for as much more as size 1 is expected to cost
	p      [3]float64                 // variances of level, of both, of slope
	off    [MaxDepth + 2]float64      // sum of ratios of cost to line near a size, older ones counting less
	near   [MaxDepth + 2]float64      // how many those are
}

const (
	curveNoise    = 0.15 // of an observation, relative to it
	curveStall    = 2    // times as much noise in one that is longer than expected
	curveDrift    = 0.02 // relative change of the line from one observation to the next
	curveBend     = 0.02 // the same of its slope alone
	curveHope     = 0.5  // part of the expected slope to begin with: what is too low is soon seen
	curveDoubt    = 0.7  // of the slope that is expected, relative to it
	curveMaxRatio = 2    // a stall counts as at most this many times the expected cost
	curveFlattest = 0.1  // part of the expected slope that is the least to believe in
	nearSizes     = 2    // sizes to both sides that an observation says something of
	nearDecay     = 0.9  // weight of an observation near a size after the next one
	nearWeight    = 2    // observations that the line counts for
)

// known says whether anything was observed.
func (c *curve) known() bool { return c.hi > 0 }

// observe records a cost. Sizes beyond the table are not speculation but catching
// up, and teach nothing about it.
func (c *curve) observe(size int, seconds float64) {
	if seconds <= 0 || size <= 0 || size >= len(c.off) {
		return
	}
	c.one = c.shape(1)
	y, x, steep := seconds/c.one, c.beyond(float64(size)), 1.0
	if c.expect != nil {
		steep = curveHope
	}
	line := c.level + c.slope*x
	switch {
	case !c.known():
		c.level = y / (1 + steep*x)
		c.slope = steep * c.level
		if c.expect == nil && c.each > 0 && c.each < c.slope {
			c.slope = c.each
			c.level = y - c.slope*x
		}
		doubt := curveDoubt * c.slope
		if c.expect == nil {
			doubt = curveDoubt * c.level / c.beyond(2) // anything between no cost and that of another size of 1
		}
		const noise = curveNoise * curveNoise
		c.p = [3]float64{noise * c.level * c.level, noise * c.level * c.slope, noise*c.slope*c.slope + doubt*doubt}
		line = y
	case y < line/curveMaxRatio: // what came before was a stall, or load that is over
		c.level *= y / line
		c.slope *= y / line
		line = y
	default:
		y = min(y, curveMaxRatio*line)
		c.p[0] += curveDrift * curveDrift * c.level * c.level
		c.p[1] += curveDrift * curveDrift * c.level * c.slope
		c.p[2] += (curveDrift*curveDrift + curveBend*curveBend) * c.slope * c.slope
		noise := curveNoise * line
		if y > line {
			noise *= curveStall
		}
		level, slope := c.p[0]+c.p[1]*x, c.p[1]+c.p[2]*x // covariances with the observation
		total := level + slope*x + noise*noise
		c.level += level / total * (y - line)
		c.slope += slope / total * (y - line)
		c.p[0] -= level * level / total
		c.p[1] -= level * slope / total
		c.p[2] -= slope * slope / total
		c.level = max(c.level, curveFlattest*line)
		c.slope = max(c.slope, curveFlattest*steep*c.level)
	}
	c.hi = max(c.hi, size)
	c.seen++
	for i := max(1, size-nearSizes); i <= min(size+nearSizes, len(c.off)-1); i++ {
		weight := 1 / float64(1+(i-size)*(i-size))
		keep := 1 - (1-nearDecay)*weight
		c.off[i] = keep*c.off[i] + weight*y/(c.level+c.slope*x)
		c.near[i] = keep*c.near[i] + weight
	}
}

// rescale makes all sizes so many times as dear.
func (c *curve) rescale(by float64) {
	c.level *= by
	c.slope *= by
	for i := range c.p {
		c.p[i] *= by * by
	}
}

// at is the estimated cost of a size. Before anything is known it is the shape.
func (c *curve) at(size float64) float64 {
	if !c.known() {
		return c.shape(size)
	}
	cost := c.one * (c.level + c.slope*c.beyond(size))
	if i := int(size + 0.5); i < len(c.off) {
		cost *= (nearWeight + c.off[i]) / (nearWeight + c.near[i])
	}
	return cost
}

// more is the estimated cost of one more than a size, but for steps.
func (c *curve) more(size float64) float64 {
	more := c.shape(size+1) - c.shape(size)
	if !c.known() {
		return more
	}
	return more * c.slope
}

// hoped is the cost of a size without a share of what it is above the shape.
func (c *curve) hoped(size, share float64) float64 {
	cost := c.at(size)
	if share == 0 {
		return cost
	}
	return cost - share*max(0, cost-c.shape(size)*c.scale())
}

// scale is how many times as dear as expected a size of 1 is, 1 before anything
// is known.
func (c *curve) scale() float64 {
	if !c.known() {
		return 1
	}
	return c.at(1) / c.one
}

// beyond is what is expected of a size more than of size 1, in terms of that.
func (c *curve) beyond(size float64) float64 { return c.shape(size)/c.one - 1 }

// shape is what is expected of a size.
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
	meanWeight     = 6    // the same where positions are not told apart
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

// mean is the chance of any position, if prior was assumed.
func (t *tally) mean(prior float64) float64 {
	return (t.allPast + meanWeight*prior) / (t.allTried + meanWeight)
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
