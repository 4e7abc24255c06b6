package distill

import "math/rand/v2"

// rawShare is the share of excerpts that teach the text itself, for which there is
// no label: that keeps a student from knowing the labelled ones by heart.
const rawShare = 0.25

// fillBatch puts texts into the graph's input for the next step. Several that are
// short share an excerpt.
func (t *trainer) fillBatch() error {
	r := t.random(t.step)
	t.ownRows = t.ownRows[:0]
	raw := t.text.train[t.text.labelled:]
	for e := range t.Batch {
		if len(raw) > 0 && r.Float64() < rawShare {
			t.empty(e, 0)
			t.fillRaw(e*t.Length, raw[r.IntN(len(raw))])
			continue
		}
		p := &t.text
		if r.IntN(t.text.labelled+t.self.labelled) < t.self.labelled {
			p = &t.self
		}
		at := 0
		for t.Length-at >= leastText {
			x := p.train[r.IntN(p.labelled)]
			a, err := t.answers(x)
			if err != nil {
				return err
			}
			room := min(len(x), t.Length-at)
			t.fillLabelled(e*t.Length+at, x, a, sources(r, room, a.prompt()))
			at += room
		}
		t.empty(e, at)
	}
	return t.fillOwn()
}

// fillOwn gives rows that are to have it the student's own state of the row before
// instead of the target's, or none if it takes in none of its own.
func (t *trainer) fillOwn() error {
	if len(t.ownRows) == 0 || t.net.states == nil {
		return nil
	}
	if t.net.ahead == nil {
		for _, r := range t.ownRows {
			clear(t.state(r))
		}
		return nil
	}
	seen, err := t.net.look()
	if err != nil {
		return err
	}
	for _, r := range t.ownRows {
		copy(t.state(r), seen[(r-1)*t.shape.Dim:r*t.shape.Dim])
	}
	return nil
}

// source is whose state a place of a text is given.
type source byte

const (
	nobody  source = iota
	targets        // after the token before
	own            // the student's, where the target has not been asked yet
)

// Longest runs of places with and without the target's states.
const (
	longestKnown = 12
	longestDraft = 6
)

// sources says which states a text's places are given in training: as in use, where
// those of a prompt are not kept, later ones follow a few tokens behind, and trees
// have none meanwhile. Of a text without a prompt any beginning may be one.
func sources(r *rand.Rand, places, prompt int) []source {
	all := make([]source, 0, places+longestKnown+longestDraft)
	if prompt == 0 && r.IntN(3) == 0 {
		prompt = r.IntN(places)
	}
	all = all[:min(prompt, places)]
	for len(all) < places {
		for range 1 + r.IntN(longestKnown) {
			all = append(all, targets)
		}
		meanwhile := own
		if r.IntN(4) == 0 {
			meanwhile = nobody
		}
		for range r.IntN(longestDraft + 1) {
			all = append(all, meanwhile)
		}
	}
	return all[:places]
}

// empty makes all rows from number at of excerpt e to its end empty.
func (t *trainer) empty(e, at int) {
	for r := e*t.Length + at; r < (e+1)*t.Length; r++ {
		t.place(r, -1)
	}
}

// fill puts a text's tokens into rows from number at on, without labels or states.
func (t *trainer) fill(at int, x excerpt) {
	for i, token := range x {
		t.place(at+i, token)
	}
}

// state is the graph's input of states for row r, or nil.
func (t *trainer) state(r int) []float32 {
	if t.net.states == nil {
		return nil
	}
	w := t.shape.State
	return t.net.states.Value().Data().([]float32)[r*w : (r+1)*w]
}

// place puts a token, or none, into a row.
func (t *trainer) place(r int, token int32) {
	d, l := t.shape.Dim, &t.net.head.labels[r]
	l.index, l.probs, l.tail = l.index[:0], l.probs[:0], 0
	clear(t.state(r))
	input := t.net.input.Value().Data().([]float32)[r*d : (r+1)*d]
	if t.batch[r] = token; token < 0 {
		clear(input)
		return
	}
	copy(input, t.opt.params[len(t.opt.params)-1].data[int(token)*d:])
}

// fillRaw lets a text's next token be the label.
func (t *trainer) fillRaw(at int, x excerpt) {
	t.fill(at, x)
	labels := t.net.head.labels[at:]
	for i := range len(x) - 1 {
		if at := t.index[x[i+1]]; at >= 0 {
			labels[i].index, labels[i].probs = append(labels[i].index, at), append(labels[i].probs, 1)
		}
	}
}

// fillLabelled takes the target's answers to a text for labels, as many places as
// there are sources: what they say about tokens that the head lacks counts nothing.
// The student is given the states that sources say.
func (t *trainer) fillLabelled(at int, x excerpt, a *answers, sources []source) {
	t.fill(at, x[:len(sources)])
	labels := t.net.head.labels[at:]
	for i, from := range sources {
		switch {
		case i == 0 || t.net.states == nil:
		case from == targets:
			a.state(t.state(at+i), i-1)
		case from == own:
			t.ownRows = append(t.ownRows, at+i)
		}
		if !a.asked(i) {
			continue
		}
		l := &labels[i]
		known, all := float32(0), float32(0)
		for k, token := range a.tokens[i*topK : (i+1)*topK] {
			p := a.probs[i*topK+k]
			all += p
			if at := t.index[token]; at >= 0 {
				l.index, l.probs = append(l.index, at), append(l.probs, p)
				known += p
			}
		}
		if len(l.index) == 0 {
			continue
		}
		l.tail = max(0, 1-all)
		sum := known + l.tail
		for k := range l.probs {
			l.probs[k] /= sum
		}
		l.tail /= sum
	}
}
