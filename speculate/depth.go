package speculate

import "math"

// controller chooses, before each round of a level, which drafter to ask and for
// how many tokens. Costs are counted in passes over one row, the cost of a token
// by plain decoding, and what counts is the pace: the tokens expected for one of
// them.
//
//	       1 + sum over i<=depth of P(positions 1..i offered and accepted)
//	pace = ---------------------------------------------------------------
//	       (cost of the draft + cost of the pass over its rows) / plain pass
//
// Depth 0, plain decoding, is one of the choices, with pace 1. A level that drafts
// knows better than its positions do which of its tokens are in doubt (see trust):
// it may go as far as the bank allows, and is told the chance of acceptance below
// which a further token would bring less than the pace. The controller is
// arithmetic on what it is told, without a clock and without chance. Levels
// choose one by one: the tokens of a level have the same distribution however
// they were drafted, so the best a lower level can do for the ones above is to be
// fast.
//
// It starts from what is expected of passes and drafters (see Config), and then
// believes what it observes. So that learning is never dear, there is a bank:
// what drafting saves is paid in, what it loses is taken out, and no round may
// risk more than there is. It begins with the cost of one plain pass and receives
// a small share of the time, a larger one the more there seems to be to win. A
// drafter that ends drafts where it is in doubt has credit beyond that, as long as
// it is promising, and once it is known well: one rejected token says little. A
// drafter that does not look worth while is tried again if it could be, after a wait
// that doubles with each try.
type controller struct {
	fixed  int  // depth asked for in every round, 0 = choose
	timed  bool // costs are observed
	inner  bool // of a level below another: its passes cost little beside that one's, and may be risked
	pass   curve
	arms   []arm
	pace   float64 // of the best choice, and at least 1
	yield  float64 // tokens expected of it
	could  float64 // the best pace if the bank were full
	bank   float64 // plain passes that may be lost
	since  int     // rounds since the last of them
	wait   int     // rounds from one plain round to the next
	probe  choice
	again  int     // rounds of the probe still to come
	turn   int     // the arm whose turn to be probed comes first
	spent  float64 // plain passes in recent rounds
	gained float64 // tokens of those rounds
}

// choice is a drafter and the number of tokens to ask of it, 0 for plain
// decoding, and the bar for each.
type choice struct {
	arm, depth int
	bar        Bar
}

// plan is a choice and what is expected of it.
type plan struct {
	choice
	tokens, cost float64
	could        float64 // the best pace of those that the bank does not allow
}

// arm is what is known of one drafter.
type arm struct {
	draft   curve                // cost of asking, by tokens asked for
	level   float64              // that of passes when it was observed, 0 = never
	offers  tally                // positions it had tokens for
	accepts [Confidences]tally   // positions accepted of those, by confidence
	prior   [Confidences]float64 // chance of acceptance assumed at first
	varying bool                 // its confidence is not always the same
	graded  bool                 // it ends a draft where its tokens are doubtful
	rounds  float64              // recent ones of more than one token, if graded
	tokens  float64              // of those rounds
	cost    float64              // of those rounds, in plain passes
	extra   float64              // proposed tokens beyond one a position: a tree's
	idle    int                  // rounds since it was asked
	wait    int                  // rounds from one try to the next
	later   int                  // rounds before it is looked at again for a try, 0 = as soon as it has waited

	// Of the coming round:
	sure   int     // its confidence, 0 = it has nothing to say
	most   int     // tokens that it can offer
	unit   float64 // seconds a token that it expects to take, 0 = not known
	behind float64 // seconds to catch up with the history
}

// outcome is what a round came to.
type outcome struct {
	choice
	drafted  int // positions for which there was a token
	nodes    int // tokens proposed
	offered  int // positions they covered
	accepted int
	width    int     // tokens in the pass
	drafting float64 // seconds
	total    float64 // seconds, drafting included
}

const (
	passFixed    = 0.9   // assumed share of a pass that does not grow with its rows
	draftShare   = 0.1   // assumed cost of a drafted token in passes
	bankStart    = 1.0   // plain passes that a request may lose at first
	bankCredit   = 2.0   // as many more if a pace of 2 is expected of a drafter that knows when to end
	bankProven   = 1.0   // as many more once such a drafter is known well
	bankShare    = 0.015 // of the time, that it may lose later
	bankTrust    = 5.0   // times as much again if a pace of 2 is expected: then there is more to win
	bankMost     = 6.0   // what is saved beyond is not there to be lost
	bankLeast    = -0.5  // what is lost beyond was a stall, and no reason never to try again
	bankInner    = 6.0   // times as much for a level below another
	bankBelief   = 4.0   // observations that make the worst less likely than what is expected
	sureWin      = 4.0   // pace for which plain decoding need not be timed first
	margin       = 1.02  // pace that a choice needs for not being plain decoding
	promise      = 1.1   // pace that makes a drafter promising
	promiseHope  = 0.25  // part of the doubt about its acceptance that is left out for that
	probeRounds  = 2     // rounds of a probe: in the first the drafter may catch up
	firstWait    = 16.0  // rounds before a drafter that looks hopeless is tried, if no more may be lost
	unlikely     = 8     // rounds before one that is not worth a try is looked at again
	lossWait     = 250   // rounds between such tries at most, for each plain pass that one may lose
	firstPlain   = 2     // rounds before plain decoding is timed again
	longestPlain = 128   // rounds between such rounds
	idleRounds   = 4     // a drafter left out for longer has to catch up
	catchRounds  = 16.0  // rounds for which it is taken to stay once it has
	paceDecay    = 0.97  // weight of a round in the recent pace after the next one
	patience     = 8     // depths that may look worse before deeper ones are not looked at
	hopeless     = 0.01  // chance of getting somewhere below which one looks no further
	loadChange   = 1.25  // times as dear or cheap plain passes are, to count as a change of load
	coldDrafts   = 4     // first drafts that may take longer than later ones
	armDecay     = 0.95  // weight of a round of a drafter after its next one
	armWeight    = 3     // rounds that a plan counts for
	singleGain   = 1.05  // times as much as its own ends come to, that one token at a time must promise
	extraGain    = 0.25  // weight of a round in the mean of tokens beyond one a position
)

func newController(drafters, fixed int, timed bool) controller {
	c := controller{fixed: fixed, timed: timed, arms: make([]arm, drafters)}
	c.pass.fixed = passFixed
	for i := range c.arms {
		a := &c.arms[i]
		a.sure, a.most = 1, MaxDepth
		for j := range a.prior {
			a.prior[j] = tallyPrior
		}
	}
	c.reset()
	return c
}

// reset begins a new request. Costs stay, acceptance counts for less.
func (c *controller) reset() {
	c.again, c.bank, c.pace, c.yield, c.could, c.since, c.wait = 0, c.daring()*bankStart, 1, 1, 1, 0, firstPlain
	c.spent, c.gained = 4, 4
	c.pass.one = c.pass.shape(1) // the history may be much longer than it was
	for i := range c.arms {
		a := &c.arms[i]
		a.offers.fade()
		for j := range a.accepts {
			a.accepts[j].fade()
		}
		a.idle, a.wait, a.later = idleRounds+1, c.firstWait(), 0
		a.rounds, a.tokens, a.cost = tallyCarry*a.rounds, tallyCarry*a.tokens, tallyCarry*a.cost
	}
}

// daring is how much more than the topmost level this one may lose.
func (c *controller) daring() float64 {
	if c.inner {
		return bankInner
	}
	return 1
}

// firstWait is the rounds before a drafter that looks hopeless is tried.
func (c *controller) firstWait() int { return int(firstWait / c.daring()) }

// next is the choice for the coming round, which has room for most tokens.
func (c *controller) next(most int) choice {
	if len(c.arms) == 0 || most <= 0 {
		return choice{}
	}
	untimed := c.fixed == 0 && c.timed && c.pass.seen == 0
	if untimed && c.pass.expect == nil {
		return choice{}
	}
	best := c.best(most)
	c.yield = best.tokens
	if untimed && best.tokens < sureWin*best.cost {
		c.pace, c.yield, c.could = 1, 1, 1 // nothing is known yet
		return choice{}
	}
	if c.again > 0 {
		c.again--
		if c.arms[c.probe.arm].sure > 0 {
			return choice{c.probe.arm, min(c.probe.depth, most), c.probe.bar}
		}
	}
	if best.depth > 0 {
		c.arms[best.arm].wait = c.firstWait()
		if c.fixed == 0 && float64(c.since) > float64(c.wait)*c.pace*c.pace && c.bank > 1 {
			c.wait = min(2*c.wait, longestPlain)
			return choice{}
		}
	}
	if probe, ok := c.candidate(best.choice, most); ok {
		a := &c.arms[probe.arm]
		a.wait = min(2*a.wait, c.firstWait()+int(lossWait*max(0, probe.cost-1)/c.daring()))
		c.probe, c.again = probe.choice, probeRounds-1
		return c.probe
	}
	return best.choice
}

// best is the choice that saves most, compared with the present pace, of those
// that the bank allows. It brings the pace up to date.
func (c *controller) best(most int) plan {
	best := plan{tokens: 1, cost: 1}
	saves := math.Inf(-1)
	if c.fixed == 0 {
		saves = margin - c.pace
	}
	pace, varying := 1.0, false
	c.could = 1
	for i := range c.arms {
		a := &c.arms[i]
		if a.sure == 0 && c.fixed == 0 {
			continue
		}
		p := c.plan(i, most, 0)
		c.could = max(c.could, p.could)
		if p.depth == 0 {
			continue
		}
		c.could = max(c.could, p.tokens/p.cost)
		varying = varying || a.varying
		if !a.varying {
			pace = max(pace, p.tokens/p.cost)
		}
		if s := p.tokens - c.pace*p.cost; s > saves {
			best, saves = p, s
		}
	}
	if varying {
		pace = max(pace, c.gained/c.spent)
	}
	c.pace = pace
	return best
}

// plan is the best number of tokens to ask of a drafter, 0 if the bank allows
// none. With hope, a share of the doubt about each position is left out, and of what
// passes cost beyond what was expected of them. A drafter that ends drafts itself
// is asked for as many as the bank allows, unless one token at a time promises more
// than that has come to.
func (c *controller) plan(i, most int, hope float64) plan {
	a := &c.arms[i]
	from, to := 1, min(most, a.most)
	if c.fixed > 0 {
		from, to = min(c.fixed, most), min(c.fixed, most)
	} else if c.timed && c.pass.expect == nil {
		to = min(to, max(1, c.pass.hi)) // nothing is known of wider passes: double the width at most
	}
	one := c.pass.at(1)
	accepts, prior := &a.accepts[a.sure], a.prior[a.sure]
	// The worst that can happen counts for less the more is known.
	doubt := bankBelief / (bankBelief + accepts.seen())
	bank := c.bank
	if a.graded {
		bank += bankCredit * max(0, min(c.could-1, 1))
		if hope == 0 {
			bank += bankProven * (1 - doubt)
		}
	}
	lag := 0.0
	if c.timed {
		lag = a.behind / one
	}
	best, saves, worse := plan{tokens: 1, cost: 1}, math.Inf(-1), 0
	could, deepest := 0.0, 0
	single := plan{tokens: 1, cost: 1} // of one token only
	reached, tokens, width := 1.0, 1.0, 1+a.extra
	short := 0.0 // chance of ending before a position, times the tokens until there
	mean := accepts.mean(prior)
	for d := 1; d <= to && (worse < patience || a.graded && reached > hopeless); d++ {
		p := mean // how far a graded one gets, it decides itself
		if !a.graded {
			p = accepts.at(d-1, prior)
		}
		p += hope * (1 - p)
		offered := 1.0
		if !a.varying && (!a.graded || d == 1) {
			offered = a.offers.alone(d - 1)
		}
		next := reached * offered * p
		short += (reached - next) * float64(d)
		reached = next
		tokens += reached
		width += offered
		if d < from {
			continue
		}
		cost := (c.pass.hoped(width, hope) + c.hopedDrafting(a, d, hope)) / one
		if c.fixed == 0 && doubt*(cost-1+lag)+(1-doubt)*max(0, (1-reached)*cost-short) > bank {
			could = max(could, tokens/cost)
			worse++
			continue
		}
		cost += lag / catchRounds
		if deepest = d; d == 1 {
			single = plan{choice: choice{arm: i, depth: 1}, tokens: 1 + reached, cost: cost}
		}
		if s := tokens - c.pace*cost; s > saves {
			best, saves, worse = plan{choice: choice{arm: i, depth: d}, tokens: tokens, cost: cost}, s, 0
		} else {
			worse++
		}
	}
	best.could, single.could = could, could
	if a.graded && c.fixed == 0 && best.depth > 0 {
		return c.graded(best, single, deepest, hope == 0)
	}
	return best
}

// graded is the plan for a drafter that ends drafts itself: with bars for best, or
// for single if that promises more than drafts up to the deepest have come to.
func (c *controller) graded(best, single plan, deepest int, known bool) plan {
	a, one := &c.arms[best.arm], c.pass.at(1)
	row := c.pass.more(float64(1 + best.depth))
	best.bar = Bar{More: c.pace * (row + c.draftingMore(a, best.depth)) / one, Keep: c.pace * row / one}
	if !known {
		return best
	}
	best.depth = deepest
	best.tokens = (a.tokens + armWeight*best.tokens) / (a.rounds + armWeight)
	best.cost = (a.cost + armWeight*best.cost) / (a.rounds + armWeight)
	if single.tokens*best.cost > singleGain*best.tokens*single.cost {
		single.bar = Bar{Keep: c.pace * c.pass.more(1) / one}
		return single
	}
	return best
}

// drafting is the expected cost of asking for depth tokens, in seconds.
func (c *controller) drafting(a *arm, depth int) float64 {
	switch {
	case a.draft.known():
		return a.draft.at(float64(depth))
	case a.unit > 0:
		return a.unit*c.pass.scale()*float64(depth) + a.behind
	}
	return draftShare * float64(depth) * c.pass.at(1)
}

// hopedDrafting is drafting as it was expected to be at first, if there is hope: it
// may have been timed while a stranger had the machine. Of a draft that was seldom
// timed, half of what is above that is left out, since caches were cold then.
func (c *controller) hopedDrafting(a *arm, depth int, hope float64) float64 {
	cost, share := c.drafting(a, depth), 0.0
	switch {
	case !a.draft.known() || a.unit == 0:
	case hope > 0:
		share = 1
	case a.draft.seen < coldDrafts:
		share = 0.5
	}
	if share == 0 {
		return cost
	}
	return cost - share*max(0, cost-a.behind-a.unit*c.pass.scale()*float64(depth))
}

// draftingMore is the expected cost of a token more of a draft, in seconds.
func (c *controller) draftingMore(a *arm, depth int) float64 {
	if a.draft.known() {
		return a.draft.more(float64(depth))
	}
	return c.drafting(a, 1)
}

// candidate is another drafter to try: one that has waited long enough and
// would pay if its proposals were accepted rather more often than is known.
func (c *controller) candidate(best choice, most int) (plan, bool) {
	for range c.arms {
		c.turn = (c.turn + 1) % len(c.arms)
		a := &c.arms[c.turn]
		if best.depth > 0 && c.turn == best.arm || a.sure == 0 || a.idle < max(a.wait, a.later) {
			continue
		}
		if p := c.plan(c.turn, most, probeHope); p.depth > 0 && (c.fixed > 0 || p.tokens > margin*c.pace*p.cost) {
			return p, true
		}
		a.later = a.idle + unlikely
	}
	return plan{}, false
}

// promising reports whether a drafter is likely to pay once it is ready, going by
// what is expected of it, so that it had better be ready.
func (c *controller) promising(i int) bool {
	bank, behind := c.bank, c.arms[i].behind
	c.bank, c.arms[i].behind = math.Inf(1), 0
	p := c.plan(i, MaxDepth, promiseHope)
	c.bank, c.arms[i].behind = bank, behind
	return p.depth > 0 && p.tokens > promise*p.cost
}

// observe records a round. Without a clock it is taken to cost what is assumed.
func (c *controller) observe(o outcome) {
	expected := c.pass.at(float64(o.width))
	if o.depth > 0 {
		a := &c.arms[o.arm]
		expected += c.drafting(a, o.depth) + a.behind
	}
	if !c.timed {
		o.total = expected
	} else {
		c.pass.observe(o.width, o.total-o.drafting)
		for i := range c.arms { // load is common to all
			a := &c.arms[i]
			if by := c.pass.level / a.level; o.depth == 0 && a.level > 0 && max(by, 1/by) > loadChange {
				a.draft.rescale(by)
				a.level = c.pass.level
			}
		}
	}
	cost := min(o.total, curveMaxRatio*expected) / c.pass.at(1)
	c.bank += c.daring() * bankShare * (1 + bankTrust*min(c.could-1, 1)) * cost
	c.since++
	if o.depth == 0 {
		c.since = 0
	} else {
		c.bank += float64(1+o.accepted) - cost
	}
	c.bank = max(bankLeast, min(c.bank, c.daring()*bankMost))
	c.spent = paceDecay*c.spent + cost
	c.gained = paceDecay*c.gained + float64(1+o.accepted)
	for i := range c.arms {
		c.arms[i].idle++
	}
	if o.depth > 0 {
		a := &c.arms[o.arm]
		if c.timed && a.idle <= idleRounds {
			size := o.depth
			if a.graded {
				size = o.drafted
			}
			if !a.draft.known() {
				a.draft.each = a.unit * c.pass.scale()
			}
			a.draft.observe(size, o.drafting)
			a.level = c.pass.level
		}
		if a.graded {
			a.rounds, a.tokens, a.cost = armDecay*a.rounds, armDecay*a.tokens, armDecay*a.cost
			if o.depth > 1 {
				a.rounds, a.tokens, a.cost = a.rounds+1, a.tokens+float64(1+o.accepted), a.cost+cost
			}
		}
		a.idle, a.later = 0, 0
		a.offers.observe(o.offered, o.depth)
		a.accepts[a.sure].observe(o.accepted, o.offered)
		if o.offered > 0 {
			a.extra += extraGain * (float64(o.nodes-o.offered) - a.extra)
		}
	}
}
