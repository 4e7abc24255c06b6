package speculate

import (
	"math"
	"testing"
)

func near(a, b, tolerance float64) bool { return math.Abs(a-b) <= tolerance*math.Abs(b) }

func TestCurve(t *testing.T) {
	c := curve{fixed: 0.9}
	if c.known() || c.at(1) != 1 || !near(c.at(11), 2, 1e-12) {
		t.Errorf("assumed: %v at 1, %v at 11", c.at(1), c.at(11))
	}
	c.observe(3, 0)
	c.observe(1000, 1)
	if c.known() {
		t.Error("learnt from no time, or from catching up")
	}
	c.observe(1, 0.010)
	if !near(c.at(11), 0.020, 1e-12) {
		t.Errorf("one size seen: %v at 11", c.at(11))
	}
	for range 30 {
		c.observe(5, 0.014)
	}
	if !near(c.at(5), 0.014, 0.01) || !near(c.at(3), (c.at(1)+c.at(5))/2, 1e-12) || !near(c.at(9), c.at(5)+(c.at(5)-c.at(1)), 1e-9) {
		t.Errorf("two sizes seen: %v %v %v %v", c.at(1), c.at(3), c.at(5), c.at(9))
	}
	var draft curve
	draft.observe(4, 0.004)
	if !near(draft.at(2), 0.002, 1e-12) || !near(draft.at(8), 0.008, 1e-12) {
		t.Errorf("drafts of 2 and 8 tokens: %v %v, want proportional to that of 4", draft.at(2), draft.at(8))
	}
}

// TestCurveDrift: what slows all passes down moves the sizes not seen, a little
// with each pass; what one size costs when first seen does not.
func TestCurveDrift(t *testing.T) {
	c := curve{fixed: 0.9}
	for range 10 {
		c.observe(1, 0.010)
	}
	c.observe(9, 0.030)
	if !near(c.at(1), 0.010, 1e-3) {
		t.Errorf("a new size moved another to %v", c.at(1))
	}
	for range 10 {
		c.observe(9, 0.030)
	}
	before := c.at(1)
	for i := range 400 {
		c.observe(9, 0.030*(1+float64(i)/400))
	}
	if got := c.at(1); got < 1.05*before {
		t.Errorf("passes of 9 rows doubled, that of one went from %v to %v", before, got)
	}
}

func TestTally(t *testing.T) {
	var a tally
	if !near(a.at(0, tallyPrior), tallyPrior, 1e-12) || !near(a.at(63, tallyPrior), tallyPrior, 1e-12) {
		t.Errorf("assumed %v, %v", a.at(0, tallyPrior), a.at(63, tallyPrior))
	}
	for i := range 400 { // always past the first, past the second every other time
		a.observe(1+i%2, 2)
	}
	if a.at(0, tallyPrior) < 0.97 || !near(a.at(1, tallyPrior), 0.5, 0.1) {
		t.Errorf("positions %v %v, want 1 and 0.5", a.at(0, tallyPrior), a.at(1, tallyPrior))
	}
	if !near(a.at(2, tallyPrior), 0.75, 0.1) {
		t.Errorf("a position never tried %v, want the mean 0.75", a.at(2, tallyPrior))
	}
	a.fade()
	before := a.at(0, tallyPrior)
	a.observe(0, 2)
	if a.at(0, tallyPrior) > before-0.05 || !near(before, 0.97, 0.05) {
		t.Errorf("after fading %v, after a failure %v", before, a.at(0, tallyPrior))
	}
}

// TestCatchingUpIsNoCost: the first draft after a pause feeds what was missed; its
// time says nothing about the next ones.
func TestCatchingUpIsNoCost(t *testing.T) {
	c := newController(1, 0, true)
	plain := outcome{width: 1, total: 0.010}
	asked := outcome{choice: choice{depth: 2}, nodes: 2, offered: 2, accepted: 2, width: 3, drafting: 0.001, total: 0.011}
	c.observe(plain)
	first := asked
	first.drafting, first.total = 5, 5.010
	c.observe(first)
	c.observe(asked)
	if got := c.arms[0].draft.at(2); !near(got, 0.001, 1e-9) {
		t.Errorf("a draft of 2 tokens is thought to cost %v", got)
	}
}

// TestLoadIsCommon: when plain passes become faster, so do drafts that nobody asked
// for meanwhile.
func TestLoadIsCommon(t *testing.T) {
	c := newController(1, 0, true)
	asked := outcome{choice: choice{depth: 2}, nodes: 2, offered: 2, accepted: 2, width: 3, drafting: 0.003, total: 0.033}
	c.observe(outcome{width: 1, total: 0.030})
	for range 3 {
		c.observe(asked)
	}
	for range 10 {
		c.observe(outcome{width: 1, total: 0.010})
	}
	if got := c.arms[0].draft.at(2); !near(got, 0.001, 0.2) {
		t.Errorf("plain passes take a third, a draft of 2 tokens is thought to cost %v, before 0.003", got)
	}
}
