package speculate

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"triforce/sample"
)

// Config says what a level is made of.
type Config struct {
	Name     string   // in statistics
	Origin   uint8    // marks the tokens that this level draws itself
	Verifier Verifier // the model and its cache
	Below    []Drafter

	// Depth is the number of tokens asked of a drafter in each round, at most
	// MaxDepth. 0 chooses the drafter and the depth, down to not asking at all,
	// by measured cost and acceptance.
	Depth int

	// Branches makes the proposals of a level without drafters a tree: entry i
	// is how many candidates it offers for position i, its own token first. Only
	// that one is continued.
	Branches []int

	// Clock measures costs; without one they are taken as first assumed.
	Clock func() time.Duration

	// Expect, if not nil, is the seconds that a pass over a number of rows is
	// expected to take, given what is in the cache. What counts most is how the
	// costs of the passes of one hierarchy compare.
	Expect func(rows float64) float64

	// Prior is the chance that one of this level's tokens is accepted by a level
	// above, as long as that is not known; 0 is a hopeful one.
	Prior float64
}

// Level verifies the proposals of the drafters below it. The zero value is not
// useful; see New.
type Level struct {
	Config
	sampler sample.Sampler
	rule    Rule
	dice    dice
	control controller
	trust   trust
	open    int     // tokens of the last Draft of which nobody said yet what became of them
	readied float64 // seconds that it took of late to ready the cache (see Behind)
	stats   Stats

	history []int32
	tokens  []int32 // of a pass
	parents []int32 // of a pass
	path    []int32 // nodes of the proposal that the last walk accepted
	keep    []int32 // path as indices of the pass

	// Of the current Draft or Round, one entry a token:
	steps   []step
	dists   []sample.Dist
	origins []uint8
	out     []Token
	tree    Proposal // with Branches
	trunk   int32    // its newest node that may be continued

	residual, offered sample.Dist // scratch of the rejection rule
}

// New makes a level. It has no history before Reset.
func New(c Config) *Level {
	if c.Verifier == nil || c.Depth < 0 || c.Depth > MaxDepth || len(c.Below) > 0 && len(c.Branches) > 0 {
		panic(fmt.Sprintf("speculate: level %q: bad configuration", c.Name))
	}
	l := &Level{Config: c}
	l.control = newController(len(c.Below), c.Depth, c.Clock != nil)
	l.control.pass.expect = c.Expect
	l.trust.prior = tallyPrior
	if c.Prior > 0 {
		l.trust.prior = c.Prior
	}
	for i, d := range c.Below {
		a := &l.control.arms[i]
		switch d := d.(type) {
		case Confident:
			a.varying, a.prior = true, d.Priors()
		case *Level:
			a.prior[1] = d.trust.prior
			a.graded = len(d.Branches) == 0
		}
	}
	l.stats.Name = c.Name
	return l
}

// Reset adopts the history of a new request. What was learnt about costs stays.
func (l *Level) Reset(r Request) {
	if len(r.History) == 0 {
		panic("speculate: a request without history")
	}
	l.control.inner = r.dice != nil
	if r.dice == nil { // topmost
		r.dice = &keyed{seed: r.Sampling.Seed}
	}
	l.sampler.SetOptions(r.Sampling)
	l.rule, l.dice = r.Rule, r.dice
	if l.sampler.Greedy() {
		l.rule = Coupled // the same tokens, without the arithmetic of chance
	}
	l.history = append(l.history[:0], r.History...)
	l.truncate(len(l.history))
	l.control.reset()
	l.stats = Stats{Name: l.Name}
	for _, d := range l.Below {
		d.Reset(r)
	}
}

// History is what the level stands at; the caller does not change it.
func (l *Level) History() []int32 { return l.history }

// Tokens generates up to limit tokens by rounds of a topmost level. Leaving the
// loop early drops the tokens generated after the last one seen.
func (l *Level) Tokens(ctx context.Context, limit int) iter.Seq2[Token, error] {
	return func(yield func(Token, error) bool) {
		for left := limit; left > 0; {
			tokens, err := l.Round(ctx, left)
			if err != nil {
				yield(Token{}, err)
				return
			}
			for _, t := range tokens {
				if !yield(t, nil) {
					l.Accept(t.Pos+1, nil)
					return
				}
			}
			left -= len(tokens)
		}
	}
}

// Round generates at least one and at most limit tokens by one pass of a topmost
// level's verifier. They are final once the next round begins: until then the
// caller may drop the last of them, as Accept(n, nil) leaves the first n tokens
// of the history.
func (l *Level) Round(ctx context.Context, limit int) ([]Token, error) {
	base := len(l.history)
	l.dice.commit(base)
	l.Commit(base)
	l.begin()
	rows, err := l.round(ctx, limit)
	if err != nil {
		l.Accept(base, nil)
		return nil, err
	}
	l.out = l.out[:0]
	for i, s := range l.steps {
		l.out = append(l.out, Token{ID: l.history[base+i], Pos: base + i, Origin: s.origin, Row: rows[s.row], At: s.row})
	}
	return l.out, nil
}

// Draft proposes n tokens, fewer if the cache has no room or as the bar says: each
// follows the level's processed distribution. Under the rejection rule it stops
// after a token, never before, for what that token is: so the tokens keep their
// distribution. What it leaves out it learns from all the same.
func (l *Level) Draft(ctx context.Context, n int, bar Bar) (Proposal, error) {
	base := len(l.history)
	l.begin()
	reach := 1.0 // chance that all tokens are accepted
	kept := 0    // tokens worth verifying
	for len(l.steps) < n && !l.enough(n-len(l.steps)) && (len(l.steps) == 0 || reach*l.trust.mean() >= bar.More) {
		from := len(l.steps)
		rows, err := l.round(ctx, n-from)
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			return Proposal{}, err
		}
		for _, s := range l.steps[from:] {
			if reach *= l.trust.chance(s.lead); reach >= bar.Keep {
				kept++
			}
		}
		if len(l.Branches) > 0 {
			l.branch(rows[0])
		}
	}
	l.open = len(l.steps)
	if len(l.Branches) > 0 {
		p := l.tree
		if l.rule == Coupled {
			p.Q = nil
		}
		return p, nil
	}
	for _, s := range l.steps {
		l.origins = append(l.origins, s.origin)
	}
	p := Proposal{Tokens: l.history[base:], Origin: l.origins, Drafted: len(l.steps)}
	if l.rule == Rejection {
		p.Q = l.dists[:len(l.steps)]
	} else {
		p.cut(kept)
	}
	return p, nil
}

// Prepare feeds what the verifier's cache lacks of the history, so that the first
// round need not. All but the last token of the history is final then.
func (l *Level) Prepare(ctx context.Context) error {
	last := len(l.history) - 1
	l.truncate(last)
	l.Verifier.Commit(last)
	for at := l.Verifier.Len(); at < last; at = l.Verifier.Len() {
		rows := min(l.Verifier.MaxRows(), last-at)
		if rows <= 0 {
			return ErrFull
		}
		if _, err := l.Verifier.Forward(ctx, l.history[at:at+rows], nil, 0); err != nil {
			return err
		}
	}
	return nil
}

// enough reports whether another round for the tokens left would bring too few
// for its cost.
func (l *Level) enough(left int) bool {
	return len(l.steps) > 0 && l.Depth == 0 && float64(left) < l.control.yield/2
}

// Promising reports whether a drafter below may pay, going by what is known or
// expected of costs.
func (l *Level) Promising(below int) bool {
	l.look()
	return l.control.promising(below)
}

// look tells the controller what the drafters say of the coming round.
func (l *Level) look() {
	for i, d := range l.Below {
		a := &l.control.arms[i]
		switch d := d.(type) {
		case Confident:
			a.sure, a.most = d.Confidence()
		case *Level:
			unit, behind := d.forecast(!a.draft.known())
			if a.behind = behind; unit > 0 {
				a.unit = unit
			}
		}
	}
}

// forecast is the seconds that a token of a draft is expected to take, if that is
// asked for and can be told, and those it takes to catch up with the history first.
func (l *Level) forecast(unit bool) (token, behind float64) {
	if l.Expect == nil {
		return 0, 0
	}
	one := l.control.pass.at(1)
	if lacks := len(l.history) - 1 - l.Verifier.Len(); lacks > 0 {
		behind = l.control.pass.at(float64(1+lacks)) - one
	}
	if v, ok := l.Verifier.(Behind); ok {
		if more := v.Behind(); more > 0 {
			behind += max(more, l.readied)
		}
	}
	if unit {
		l.look()
		p := l.control.best(forecastDepth)
		token = l.Expect(1) * p.cost / p.tokens
	}
	return token, behind
}

// readiedGain is the weight of a time in the mean of those that readying took.
const readiedGain = 0.25

// forecastDepth is the length of draft that a forecast goes by.
const forecastDepth = 8

// Accept makes the history its first base tokens, then kept. What the cache holds
// beyond their common prefix with the old history goes.
func (l *Level) Accept(base int, kept []int32) {
	if base > len(l.history) {
		panic(fmt.Sprintf("speculate: level %q: accept after %d tokens, history has %d", l.Name, base, len(l.history)))
	}
	same := base
	for same < len(l.history) && same-base < len(kept) && l.history[same] == kept[same-base] {
		same++
	}
	l.judge(base, same-base, len(kept))
	l.history = append(l.history[:same], kept[same-base:]...)
	l.truncate(same)
	for _, d := range l.Below {
		d.Accept(base, kept)
	}
}

// judge learns from what became of the tokens drafted after base: the first same
// of them were accepted, of kept tokens.
func (l *Level) judge(base, same, kept int) {
	if base+l.open == len(l.history) {
		for i, s := range l.steps[:min(l.open, same+1, kept)] {
			l.trust.observe(s.lead, i < same)
			g := grade(s.lead)
			l.stats.Judged[g]++
			if i < same {
				l.stats.Trusted[g]++
			}
		}
	}
	l.open = 0
}

// Commit says that the first n tokens of the history are final.
func (l *Level) Commit(n int) {
	l.Verifier.Commit(n)
	for _, d := range l.Below {
		d.Commit(n)
	}
}

// begin forgets the tokens of the previous Draft or Round.
func (l *Level) begin() {
	l.steps, l.origins, l.open = l.steps[:0], l.origins[:0], 0
	l.tree.cut(0)
	l.trunk = -1
}

// truncate leaves at most the first n tokens in the cache.
func (l *Level) truncate(n int) {
	if l.Verifier.Len() > n {
		l.Verifier.Truncate(n)
	}
}

// round appends at least one and at most limit tokens to the history. It returns
// the rows of its pass, which l.steps refers to. After an error the caller
// restores the history.
func (l *Level) round(ctx context.Context, limit int) ([][]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	room, err := l.catchUp(ctx)
	if err != nil {
		return nil, err
	}
	start := l.now()
	l.look()
	choice := l.control.next(min(limit-1, room))
	base := len(l.history)
	var p Proposal
	if choice.depth > 0 {
		if p, err = l.Below[choice.arm].Draft(ctx, choice.depth, choice.bar); err != nil {
			return nil, err
		}
		p.cut(room)
	}
	drafted := l.now()
	rows, err := l.verify(ctx, &p)
	if err != nil {
		return nil, err
	}
	for _, d := range l.Below {
		d.Accept(base, l.history[base:])
	}
	l.observe(choice, &p, drafted-start, l.now()-start)
	return rows, nil
}

// catchUp feeds what the cache lacks of the history, as far as it would not fit
// into one pass, and returns how many proposed tokens fit beside the rest.
func (l *Level) catchUp(ctx context.Context) (room int, err error) {
	l.truncate(len(l.history) - 1) // a pass needs a pending token
	if v, ok := l.Verifier.(Behind); ok && v.Behind() > 0 {
		expected := v.Behind()
		start := l.now()
		if err := v.CatchUp(); err != nil {
			return 0, err
		}
		spent := (l.now() - start).Seconds()
		l.stats.Seconds += spent
		if l.readied == 0 {
			l.readied = min(spent, curveMaxRatio*expected)
		}
		l.readied += readiedGain * (min(spent, curveMaxRatio*l.readied) - l.readied)
	}
	for {
		pending := l.history[l.Verifier.Len():]
		rows := l.Verifier.MaxRows()
		if rows <= 0 {
			return 0, ErrFull
		}
		if len(pending) <= rows {
			return rows - len(pending), nil
		}
		if _, err := l.forward(ctx, pending[:rows], nil, 0); err != nil {
			return 0, err
		}
	}
}

// verify runs the verifier over the pending and the proposed tokens, walks, and
// leaves in the cache what the walk accepted.
func (l *Level) verify(ctx context.Context, p *Proposal) ([][]float32, error) {
	base, cached := len(l.history), l.Verifier.Len()
	pending := base - cached
	l.tokens = append(append(l.tokens[:0], l.history[cached:]...), p.Tokens...)
	var parents []int32
	if p.Parents != nil {
		l.parents = l.parents[:0]
		for i := range pending {
			l.parents = append(l.parents, int32(i-1))
		}
		for _, parent := range p.Parents {
			l.parents = append(l.parents, int32(pending)+parent)
		}
		parents = l.parents
	}
	rows, err := l.forward(ctx, l.tokens, parents, 1+len(p.Tokens))
	if err != nil {
		return nil, err
	}
	l.walk(p, rows)
	if parents == nil {
		l.truncate(base + len(l.path))
		return rows, nil
	}
	l.keep = l.keep[:0]
	for i := range pending {
		l.keep = append(l.keep, int32(i))
	}
	for _, node := range l.path {
		l.keep = append(l.keep, int32(pending)+node)
	}
	l.Verifier.Keep(cached, l.keep)
	return rows, nil
}

// forward is a pass of the verifier, counted and timed.
func (l *Level) forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	start := l.now()
	rows, err := l.Verifier.Forward(ctx, tokens, parents, want)
	if err != nil {
		return nil, err
	}
	l.stats.pass(len(tokens), l.now()-start)
	return rows, nil
}

// observe records a round.
func (l *Level) observe(c choice, p *Proposal, drafting, total time.Duration) {
	offered := p.depth()
	o := outcome{
		choice:   c,
		nodes:    len(p.Tokens),
		offered:  offered,
		drafted:  max(offered, p.Drafted),
		accepted: len(l.path),
		width:    len(l.tokens),
		drafting: drafting.Seconds(),
		total:    total.Seconds(),
	}
	l.stats.round(o)
	l.control.observe(o)
}

func (l *Level) now() time.Duration {
	if l.Clock == nil {
		return 0
	}
	return l.Clock()
}
