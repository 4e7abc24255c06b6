package distill

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"gorgonia.org/gorgonia"
)

// How the learning rate goes: up for some steps, level, then down from a share
// of the steps on. A training whose score no longer improves goes down earlier.
const (
	warmSteps  = 60
	levelShare = 0.5
	lastRate   = 0.05
	patience   = 5
	leastGain  = 0.001
	// timedSteps are measured to say how many fit into the time.
	timedSteps = 12
)

// scoreEvery is how many steps lie between scores, with a checkpoint each.
const scoreEvery = 150

// trainer is a training under way.
type trainer struct {
	*run
	progress
	net    *network
	opt    *optimizer
	grads  []gorgonia.ValueGrad
	tokens []int32 // of the head
	index  []int32 // of each token in the head, or -1
	batch  []int32 // the tokens of all rows, -1 for none
	rows   rowGrads
	// ownRows are those that are to be given the student's own states.
	ownRows []int
	moved   time.Duration // spent in steps
	start   int           // the step that this run began with
}

// train makes the student and writes the draft.
func (r *run) train(ctx context.Context) (Result, error) {
	result := Result{Out: r.Out, Labels: 0}
	params := r.shape.params()
	t := &trainer{run: r, opt: newOptimizer(params, r.set, r.team)}
	var resumed bool
	var err error
	t.progress, t.tokens, resumed, err = loadCheckpoint(r.checkpointPath(), t.opt)
	if err != nil {
		return result, err
	}
	mass, err := r.usefulness()
	if err != nil {
		return result, err
	}
	switch {
	case resumed:
	case r.From != nil:
		if t.tokens, err = startFrom(params, r.shape, r.From.Source()); err != nil {
			return result, err
		}
	default:
		t.tokens = chooseHead(mass, r.engine.File().Tokenizer().Vocab().EOG(), r.shape.Head)
		if err := initialize(params, r.shape, r.engine.File().Source(), t.tokens, mass, &r.Options, r.set, r.team); err != nil {
			return result, err
		}
	}
	result.Head, result.Covered = len(t.tokens), covered(mass, t.tokens)
	t.index = make([]int32, r.shape.Vocab)
	for i := range t.index {
		t.index[i] = -1
	}
	for i, token := range t.tokens {
		t.index[token] = int32(i)
	}
	if t.net, err = newNetwork(r.shape, params, r.Batch, r.set, r.team); err != nil {
		return result, err
	}
	defer t.net.close()
	t.batch = make([]int32, t.net.rows())
	t.grads = gorgonia.NodesToValueGrads(t.net.nodes)
	if t.total == 0 && r.Steps > 0 {
		t.plan(r.Steps)
	}
	t.start = t.step
	if err := t.loop(ctx); err != nil {
		return result, err
	}
	if err := t.finish(&result); err != nil {
		return result, err
	}
	name := "draft for " + cmp.Or(r.engine.File().Source().Meta().String("general.name", ""), r.engine.File().Name())
	if err := export(r.Out, name, r.shape, params, t.tokens, vocabularyOf(r.engine.File()), stored); err != nil {
		return result, err
	}
	return result, r.forget()
}

// finish says what the training came to. After one that made a draft worse there is
// nothing to go on with.
func (t *trainer) finish(result *Result) error {
	for _, held := range []struct {
		score    *Score
		excerpts []excerpt
	}{{&result.Text, t.text.held}, {&result.Self, t.self.held}} {
		score, err := t.score(held.excerpts, false)
		later := score
		if err == nil && t.net.states != nil {
			later, err = t.score(held.excerpts, true)
		}
		if err != nil {
			return err
		}
		*held.score = score
		held.score.LaterOverlap, held.score.LaterAgreement = later.Overlap, later.Agreement
	}
	if now, began := together(result.Text, result.Self), t.run.state.Began; t.From != nil && now < began-leastGain {
		if err := t.forget(); err != nil {
			return err
		}
		return fmt.Errorf("%w: expected acceptance %.3f before and %.3f after %d steps; %s is not written; try a lower --rate than %.2g or more time",
			ErrWorse, began, now, t.step, t.Out, t.Rate)
	}
	for _, p := range []*pool{&t.text, &t.self} {
		for _, x := range p.train[:p.labelled] {
			result.Labels += len(x)
		}
	}
	result.Steps, result.Loss = t.step, t.loss
	result.Tokens = int64(t.step) * int64(t.net.rows())
	if t.moved > 0 {
		result.TokensPerSecond = float64((t.step-t.start)*t.net.rows()) / t.moved.Seconds()
	}
	return nil
}

// together is the overlap over the places of both scores.
func together(a, b Score) float64 {
	return (a.Overlap*float64(a.Places) + b.Overlap*float64(b.Places)) / float64(max(a.Places+b.Places, 1))
}

// plan says how many steps there will be.
func (t *trainer) plan(total int) {
	t.total = max(total, t.step+1)
	t.fall = int(levelShare * float64(t.total))
}

// rate is the learning rate of a step.
func (t *trainer) rate() float32 {
	up := min(1, float64(t.step+1)/warmSteps)
	down := 1.0
	if t.total > 0 && t.step >= t.fall {
		down = lastRate + (1-lastRate)*float64(t.total-t.step)/float64(t.total-t.fall)
	}
	return float32(t.Rate * up * down)
}

// loop trains until the steps are done. If ctx ends, or anything fails between
// two steps, the steps so far are kept.
func (t *trainer) loop(ctx context.Context) error {
	var last Score
	if t.From != nil && t.step == 0 {
		var err error
		if last, err = t.judge(); err != nil {
			return err
		}
		t.run.state.Began = last.Overlap
		t.Report(Status{Phase: Training, Total: t.total, Score: last})
	}
	for t.total == 0 || t.step < t.total {
		if err := ctx.Err(); err != nil {
			if saveErr := t.checkpoint(); saveErr != nil {
				return saveErr
			}
			return err
		}
		began := t.Clock()
		if err := t.one(); err != nil {
			return err
		}
		t.moved += t.Clock() - began
		if t.Steps == 0 && (t.step-t.start == timedSteps || t.step%scoreEvery == 0) && (t.total == 0 || t.step < t.fall) {
			t.fit()
		}
		if t.step%scoreEvery == 0 {
			var err error
			if last, err = t.judge(); err != nil {
				return err
			}
		}
		t.Report(Status{Phase: Training, Done: t.step, Total: t.total, Loss: t.loss, Score: last})
	}
	return nil
}

// fit plans as many steps as the time that is left takes at the speed so far.
func (t *trainer) fit() {
	if t.step == t.start {
		return
	}
	each := max(t.moved/time.Duration(t.step-t.start), 1)
	left := time.Duration(t.Minutes*float64(time.Minute)) - (t.Clock() - t.began)
	t.plan(t.step + int(0.97*float64(left)/float64(each)))
}

// judge scores the student, keeps a checkpoint, and lets the learning rate fall
// if the score no longer improves.
func (t *trainer) judge() (Score, error) {
	score, err := t.score(slices.Concat(t.text.held, t.self.held), false)
	if err != nil {
		return score, err
	}
	if score.Overlap > t.best+leastGain {
		t.best, t.stale = score.Overlap, 0
	} else if t.stale++; t.stale >= patience && t.step < t.fall {
		t.fall = t.step
		t.total = min(t.total, t.step+t.step/2)
	}
	return score, t.checkpoint()
}

func (t *trainer) checkpoint() error {
	if err := saveCheckpoint(t.checkpointPath(), t.opt, t.progress, t.tokens); err != nil {
		return err
	}
	return t.save()
}

// one is a step.
func (t *trainer) one() error {
	if err := t.fillBatch(); err != nil {
		return err
	}
	loss, err := t.net.run()
	if err != nil {
		return err
	}
	if loss != loss {
		return fmt.Errorf("distill: the loss of step %d is not a number; lower --rate", t.step)
	}
	if t.loss == 0 {
		t.loss = float64(loss)
	}
	t.loss += 0.02 * (float64(loss) - t.loss)
	g, err := grad(t.net.input)
	if err != nil {
		return err
	}
	t.sum(g)
	clear(g)
	t.opt.rate = t.rate()
	if err := t.opt.update(t.grads, t.rows); err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	t.step++
	return nil
}

// sum adds up the gradients of rows with the same token, in the order of rows.
func (t *trainer) sum(g []float32) {
	d := t.shape.Dim
	order := make([]int32, 0, len(t.batch))
	for i, token := range t.batch {
		if token >= 0 {
			order = append(order, int32(i))
		}
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(t.batch[a], t.batch[b]) })
	t.rows.tokens, t.rows.grads = t.rows.tokens[:0], t.rows.grads[:0]
	for _, i := range order {
		n := len(t.rows.tokens)
		from := g[int(i)*d : int(i+1)*d]
		if n == 0 || t.rows.tokens[n-1] != t.batch[i] {
			t.rows.tokens = append(t.rows.tokens, t.batch[i])
			t.rows.grads = append(t.rows.grads, from...)
			continue
		}
		to := t.rows.grads[(n-1)*d:]
		for j, v := range from {
			to[j] += v
		}
	}
}

// score compares the student with the target on excerpts that it never learnt
// from, given the target's states: what it makes of the newest token, or later, of
// a token that it drafted.
func (t *trainer) score(held []excerpt, later bool) (Score, error) {
	var total Score
	rows := t.net.rows()
	overlap, agree := make([]float64, rows), make([]float64, rows)
	given := make([]*answers, t.Batch)
	t.net.head.scores = func(row int, q []float32) {
		a, i := given[row/t.Length], row%t.Length
		if !a.asked(i) {
			return
		}
		for k, token := range a.tokens[i*topK : (i+1)*topK] {
			if at := t.index[token]; at >= 0 {
				overlap[row] += float64(min(a.probs[i*topK+k], q[at]))
			}
		}
		best := 0
		for j, v := range q {
			if v > q[best] {
				best = j
			}
		}
		if t.tokens[best] == a.tokens[i*topK] {
			agree[row] = 1
		}
	}
	defer func() { t.net.head.scores = nil }()
	for len(held) > 0 {
		n := min(len(held), t.Batch)
		clear(overlap)
		clear(agree)
		t.ownRows = t.ownRows[:0]
		for e := range t.Batch {
			if t.empty(e, 0); e >= n {
				continue
			}
			at, x := e*t.Length, held[e]
			a, err := t.answers(x)
			if err != nil {
				return total, err
			}
			given[e] = a
			told := slices.Repeat([]source{targets}, len(x))
			clear(told[:a.prompt()]) // nobody's
			t.fillLabelled(at, x, a, told)
			for i := range x {
				if a.asked(i) {
					total.Places++
				}
				if later && i > 0 && a.asked(i-1) {
					t.ownRows = append(t.ownRows, at+i)
				}
			}
		}
		if err := t.fillOwn(); err != nil {
			return total, err
		}
		if _, err := t.net.run(); err != nil {
			return total, err
		}
		for i := range rows {
			total.Overlap += overlap[i]
			total.Agreement += agree[i]
		}
		held = held[n:]
	}
	if total.Places > 0 {
		total.Overlap /= float64(total.Places)
		total.Agreement /= float64(total.Places)
	}
	// The gradients are zero but for rounding's sign: nothing to clear.
	return total, nil
}

// textShare is what all given texts count beside labels.
const textShare = 0.1

// usefulness is how probable the target thought each token on the labelled
// texts, summed up, and how often the given texts have it.
func (r *run) usefulness() ([]float64, error) {
	mass := make([]float64, r.shape.Vocab)
	for _, p := range []*pool{&r.text, &r.self} {
		for _, x := range p.train[:p.labelled] {
			a, err := r.answers(x)
			if err != nil {
				return nil, err
			}
			for i, t := range a.tokens {
				mass[t] += float64(a.probs[i])
			}
		}
	}
	// Texts say more about rare tokens than labels, which are few.
	labels, tokens := 0.0, 0
	for _, m := range mass {
		labels += m
	}
	for _, x := range r.text.train {
		tokens += len(x)
	}
	each := textShare * labels / float64(tokens)
	for _, x := range r.text.train {
		for _, t := range x {
			mass[t] += each
		}
	}
	return mass, nil
}

// chooseHead returns the n most useful tokens, and those that end a text,
// ascending.
func chooseHead(mass []float64, must []int32, n int) []int32 {
	order := make([]int32, len(mass))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		if x, y := slices.Contains(must, a), slices.Contains(must, b); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Compare(mass[b], mass[a])
	})
	order = order[:n]
	slices.Sort(order)
	return order
}

// covered is the share of the mass that tokens hold.
func covered(mass []float64, tokens []int32) float64 {
	all, held := 0.0, 0.0
	for _, m := range mass {
		all += m
	}
	for _, t := range tokens {
		held += mass[t]
	}
	return held / all
}
