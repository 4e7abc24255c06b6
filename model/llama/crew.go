package llama

import (
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

// pace is what is known of passes of a size.
type pace struct {
	passes int
	took   [2]float64 // seconds that all workers took lately, and that one did
}

const (
	// smallWork is the length in bits of the most multiply-accumulates of a small
	// pass: half a millisecond for one worker.
	smallWork = 24
	// Of trialEvery passes of a size the first four are run by all workers and by
	// one, twice each in a row; the first of two wakes up workers that sleep, and
	// is not counted.
	trialEvery = 256
	// fresh is the weight of a new time.
	fresh = 0.2
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
	switch trial := p.passes % trialEvery; {
	case trial < 4:
		return trial / 2
	case p.took[1] < p.took[0]:
		return 1
	}
	return 0
}

// done records the time of a pass. One that was interrupted counts little.
func (p *pace) done(one int, seconds float64) {
	trial := p.passes % trialEvery
	p.passes++
	if trial == 0 || trial == 2 {
		return
	}
	if t := &p.took[one]; *t == 0 {
		*t = seconds
	} else {
		*t += fresh * (min(seconds, 2**t) - *t)
	}
}
