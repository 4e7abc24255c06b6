package speculate

import (
	"math"

	"triforce/sample"
)

// step is one token that a walk appended to the history.
type step struct {
	row    int     // of the pass, from which it was drawn
	origin uint8   // who first proposed it
	lead   float64 // see sample.Sampler.DrawLead
}

// walk draws the level's tokens along the proposal, appends them to the history,
// and leaves the accepted nodes in l.path. rows[0] follows the history, rows[1+i]
// token i of the proposal.
func (l *Level) walk(p *Proposal, rows [][]float32) {
	l.path = l.path[:0]
	for node := -1; ; {
		child, token, lead := l.choose(p, node, rows[node+1])
		l.history = append(l.history, token)
		s := step{row: node + 1, origin: l.Origin, lead: lead}
		if child >= 0 {
			s.origin = p.Origin[child]
		}
		l.steps = append(l.steps, s)
		if child < 0 {
			return
		}
		l.path = append(l.path, int32(child))
		node = child
	}
}

// choose is the level's token after a node of the proposal, which child of the
// node it is, or -1 if it is none, and the token's lead.
func (l *Level) choose(p *Proposal, node int, row []float32) (child int, token int32, lead float64) {
	if l.rule == Rejection {
		d := l.dist()
		l.sampler.Dist(d, row, l.history)
		child, token = l.reject(p, node, d)
		return child, token, odds(d.P(token)) * l.sampler.Options().Temp
	}
	token, lead = l.sampler.DrawLead(row, l.history)
	for c := p.child(node, node+1); c >= 0; c = p.child(node, c+1) {
		if p.Tokens[c] == token {
			return c, token, lead
		}
	}
	return -1, token, lead
}

// odds is the logarithm of the odds for something of probability p.
func odds(p float64) float64 { return math.Log(p) - math.Log1p(-p) }

// reject offers the children of a node, in the order in which they were drawn
// from q without replacement, to the target distribution d. The first is accepted
// with probability min(1, d/q); a rejection leaves the residual of d, and q
// without the child, for the next. When all are rejected the token is drawn from
// what is left of d. The result follows d exactly (Miao et al. 2024, SpecInfer;
// Chen et al. 2024, Sequoia).
func (l *Level) reject(p *Proposal, node int, d *sample.Dist) (child int, token int32) {
	l.residual.Set(d)
	first := p.child(node, node+1)
	for c := first; c >= 0; c = p.child(node, c+1) {
		x := p.Tokens[c]
		switch {
		case p.Q == nil:
			l.offered.SetPoint(x)
		case c == first:
			l.offered.Set(&p.Q[c])
		}
		q := l.offered.P(x)
		if q <= 0 {
			panic("speculate: a token was proposed that its distribution rules out")
		}
		if l.dice.accept(l.residual.P(x) / q) {
			return c, x
		}
		l.residual.Subtract(&l.offered)
		l.offered.Remove(x)
	}
	return -1, l.dice.draw(&l.residual)
}

// dist is a fresh distribution for the token about to be drawn; the level that
// verifies the token reads it as its q.
func (l *Level) dist() *sample.Dist {
	i := len(l.steps)
	if i == len(l.dists) {
		l.dists = append(l.dists, sample.Dist{})
	}
	return &l.dists[i]
}

// dice makes the random choices of the rejection rule for a whole hierarchy.
type dice interface {
	accept(p float64) bool // true with probability min(1, p)
	draw(*sample.Dist) int32
	commit(n int) // the first n tokens of the history are final
}

// keyed dice are numbered within the round of the topmost level, and rounds are
// told apart by the tokens committed before them. So no number is used twice,
// and a run replays, from a saved history too.
type keyed struct {
	seed  uint64
	noise sample.Noise
	drawn uint64
}

func (k *keyed) commit(n int) {
	k.noise, k.drawn = sample.NoiseAt(k.seed, sample.Rejection, n), 0
}

func (k *keyed) uniform() float64 {
	k.drawn++
	return k.noise.Uniform(k.drawn)
}

func (k *keyed) accept(p float64) bool     { return k.uniform() < p }
func (k *keyed) draw(d *sample.Dist) int32 { return d.Draw(k.uniform()) }
