package llama

import (
	"math"
	"math/bits"
	"time"

	"triforce/internal/par"
)

// crew decides whether a small pass is run by all workers or by one. Where
// processors are far from each other, meeting at barriers takes longer than a
// tiny model's share of work; where they are near, it does not: so it measures.
// A pass has the same bits either way.
type crew struct {
	all, one *par.Team
	sizes    [smallWork + 1]pace // by the length in bits of the passes' work
}

// pace is what is known of passes of a size. Whoever was faster in a trial runs
// the passes up to the next.
type pace struct {
	passes int        // since the last trial began
	until  int        // the next begins
	took   [2]float64 // seconds that all workers took at least, and one
}

const (
	// smallWork is the length in bits of the most multiply-accumulates of a small
	// pass: half a millisecond for one worker.
	smallWork = 24
	// A trial is trialPasses by all workers and as many by one. The first of
	// each, which may wake up workers that sleep, is not counted.
	trialPasses = 3
	// So many passes lie between the beginnings of trials at first, when memory
	// is new and caches are cold, then twice as many each time, and so many at most.
	firstTrial, lastTrial = 16, 512
)

// run runs a pass of so many multiply-accumulates.
func (c *crew) run(work int, fn func(*par.Worker)) {
	size := bits.Len(uint(work))
	if size > smallWork || c.all.Size() == 1 {
		c.all.Run(fn)
		return
	}
	p := &c.sizes[size]
	one := p.next()
	team := c.all
	if one == 1 {
		team = c.one
	}
	start := time.Now()
	team.Run(fn)
	p.done(one, time.Since(start).Seconds())
}

// next says who runs the next pass: 1 for one worker, 0 for all.
func (p *pace) next() int {
	switch {
	case p.passes < trialPasses:
		return 0
	case p.passes < 2*trialPasses || p.took[1] < p.took[0]:
		return 1
	}
	return 0
}

// done records the time of a pass.
func (p *pace) done(one int, seconds float64) {
	if p.passes < 2*trialPasses {
		if p.passes%trialPasses == 0 {
			seconds = math.Inf(1)
		} else {
			seconds = min(seconds, p.took[one])
		}
		p.took[one] = seconds
	}
	if p.passes++; p.passes >= max(p.until, firstTrial) {
		p.passes, p.until = 0, min(2*max(p.until, firstTrial), lastTrial)
	}
}
