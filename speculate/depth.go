package speculate

// controller chooses, before each round of a level, which drafter to ask and for
// how many tokens, so that the expected number of tokens per second is largest:
//
//	       1 + sum over i<=depth of P(positions 1..i offered and accepted)
//	rate = ---------------------------------------------------------------
//	             cost of the draft + cost of the pass over its rows
//
// Depth 0, plain decoding, is one of the choices. It is arithmetic on what it is
// told, without a clock and without chance. Levels choose one by one: the tokens
// of a level have the same distribution however they were drafted, so the best a
// lower level can do for the ones above is to be fast.
//
// What it has not tried lately it probes now and then, and pays for it from an
// account that receives a fiftieth of the time: so probing can never cost much
// more than that, and what failed a probe dearly waits longer for the next.
type controller struct {
	fixed   int  // depth asked for in every round, 0 = choose
	timed   bool // costs are observed
	pass    curve
	arms    []arm
	rate    float64 // tokens per second expected of the best choice
	plain   bool    // a plain round was observed
	account float64 // seconds that may be lost to probing
	probe   choice
	probing int  // rounds of the probe still to come
	paying  bool // the coming round is a probe
	turn    int  // which probe is next
}

// choice is a drafter and the number of tokens to ask of it; 0 is plain decoding.
type choice struct{ arm, depth int }

// arm is what is known of one drafter.
type arm struct {
	draft    curve   // cost of asking, by tokens asked for
	offers   tally   // positions it had tokens for
	accepts  tally   // positions accepted of those
	extra    float64 // proposed tokens beyond one a position: a tree's
	frontier int     // largest depth that may be asked for next: it grows by doubling
	idle     int     // rounds since it was asked
}

// outcome is what a round came to.
type outcome struct {
	choice
	nodes    int // tokens proposed
	offered  int // positions they covered
	accepted int
	width    int     // tokens in the pass
	drafting float64 // seconds
	total    float64 // seconds, drafting included
}

const (
	passFixed   = 0.9  // assumed share of a pass that does not grow with its rows
	draftShare  = 0.1  // assumed cost of a drafted token in passes
	probeShare  = 0.02 // of the time, for probing
	probeRounds = 2    // rounds of a probe of another drafter: the first catches up
	idleRounds  = 4    // a drafter left out for longer has to catch up
)

func newController(drafters, fixed int, timed bool) controller {
	c := controller{fixed: fixed, timed: timed, arms: make([]arm, drafters)}
	c.pass.fixed = passFixed
	for i := range c.arms {
		c.arms[i] = arm{frontier: 2, idle: idleRounds + 1}
	}
	return c
}

// reset begins a new request. Costs stay, acceptance counts for less.
func (c *controller) reset() {
	c.probing = 0
	for i := range c.arms {
		c.arms[i].offers.fade()
		c.arms[i].accepts.fade()
		c.arms[i].idle = idleRounds + 1
	}
}

// next is the choice for the coming round, which has room for most tokens.
func (c *controller) next(most int) choice {
	c.paying = false
	if len(c.arms) == 0 || most <= 0 || c.fixed == 0 && c.timed && !c.plain {
		return choice{}
	}
	best := c.best(most)
	if c.probing > 0 {
		c.probing--
		c.paying = true
		return choice{c.probe.arm, min(c.probe.depth, most)}
	}
	if probe, rounds, ok := c.candidate(best, most); ok && c.account > float64(rounds)*c.loss(probe) {
		c.turn++
		c.probe, c.probing, c.paying = probe, rounds-1, true
		return probe
	}
	return best
}

// best is the choice with the largest rate, which it notes.
func (c *controller) best(most int) choice {
	var best choice
	c.rate = 0
	if c.fixed == 0 {
		c.rate = 1 / c.pass.at(1)
	}
	for i := range c.arms {
		if depth, rate := c.depth(i, most); rate > c.rate {
			best, c.rate = choice{i, depth}, rate
		}
	}
	return best
}

// depth is the best number of tokens to ask of a drafter, and the rate.
func (c *controller) depth(i, most int) (best int, rate float64) {
	a := &c.arms[i]
	from, to := 1, min(a.frontier, most)
	if c.fixed > 0 {
		from, to = min(c.fixed, most), min(c.fixed, most)
	}
	offered, accepted := 1.0, 1.0
	tokens, width := 1.0, 1+a.extra
	for d := 1; d <= to; d++ {
		offered *= a.offers.at(d - 1)
		accepted *= a.accepts.at(d - 1)
		tokens += offered * accepted
		width += offered
		if d < from {
			continue
		}
		if r := tokens / (c.pass.at(width) + c.drafting(a, d)); r > rate {
			best, rate = d, r
		}
	}
	return best, rate
}

// drafting is the expected cost of asking for depth tokens.
func (c *controller) drafting(a *arm, depth int) float64 {
	if !a.draft.known() {
		return draftShare * float64(depth) * c.pass.at(1)
	}
	return a.draft.at(float64(depth))
}

// candidate is what to probe next, and for how many rounds: by turns each other
// drafter, plain decoding, and a greater depth of the drafter in use.
func (c *controller) candidate(best choice, most int) (choice, int, bool) {
	turn := c.turn % (len(c.arms) + 1)
	switch {
	case turn < len(c.arms) && (best.depth == 0 || turn != best.arm):
		depth, _ := c.depth(turn, most)
		return choice{turn, depth}, probeRounds, true
	case c.fixed > 0 || best.depth == 0: // nothing to try: pass the turn on
		c.turn++
		return choice{}, 0, false
	case turn == len(c.arms):
		return choice{}, 1, true
	}
	return choice{turn, min(best.depth+1+best.depth/2, c.arms[turn].frontier, most)}, 1, true
}

// loss is what a round by choice costs beyond the best at worst, in seconds.
func (c *controller) loss(ch choice) float64 {
	cost := c.pass.at(float64(1 + ch.depth))
	if ch.depth > 0 {
		cost += c.drafting(&c.arms[ch.arm], ch.depth)
	}
	return max(0, cost-1/c.rate)
}

// observe records a round. Without a clock it is taken to cost what is assumed.
func (c *controller) observe(o outcome) {
	if c.timed {
		c.pass.observe(o.width, o.total-o.drafting)
	} else {
		o.total = c.pass.at(float64(o.width))
		if o.depth > 0 {
			o.total += c.drafting(&c.arms[o.arm], o.depth)
		}
	}
	c.plain = c.plain || o.depth == 0
	if c.paying {
		c.account -= max(0, o.total-float64(1+o.accepted)/c.rate)
	}
	c.account += probeShare * o.total
	for i := range c.arms {
		c.arms[i].idle++
	}
	if o.depth > 0 {
		a := &c.arms[o.arm]
		if c.timed && a.idle <= idleRounds {
			a.draft.observe(o.depth, o.drafting)
		}
		a.idle = 0
		a.offers.observe(o.offered, o.depth)
		a.accepts.observe(o.accepted, o.offered)
		if o.offered > 0 {
			a.extra += curveGain * (float64(o.nodes-o.offered) - a.extra)
		}
		if o.offered >= a.frontier {
			a.frontier = min(2*a.frontier, MaxDepth)
		}
	}
}
