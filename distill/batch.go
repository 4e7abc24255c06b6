package distill

import "math/rand/v2"

// rawShare is the share of excerpts that teach the text itself, for which there is
// no label: that keeps a student from knowing the labelled ones by heart.
const rawShare = 0.25

// fillBatch puts texts into the graph's input for the next step. Several that are
// short share an excerpt.
func (t *trainer) fillBatch() error {
	r := t.random(t.step)
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
			room := min(len(x), t.Length-at)
			if _, err := t.fillLabelled(e*t.Length+at, x, room, known(r, room)); err != nil {
				return err
			}
			at += room
		}
		t.empty(e, at)
	}
	return nil
}

// known says at which places of an excerpt the student is given the target's state:
// as in use, where those of a prompt are not kept, and later ones follow a few
// tokens behind.
func known(r *rand.Rand, places int) []bool {
	all := make([]bool, places)
	i := 0
	if r.IntN(3) == 0 {
		i = r.IntN(places)
	}
	for i < places {
		for range 1 + r.IntN(longestKnown) {
			if i < places {
				all[i] = true
			}
			i++
		}
		i += r.IntN(longestDraft + 1)
	}
	return all
}

// Longest runs of places with and without states.
const (
	longestKnown = 12
	longestDraft = 6
)

// empty makes all rows from number at of excerpt e to its end empty.
func (t *trainer) empty(e, at int) {
	for r := e*t.Length + at; r < (e+1)*t.Length; r++ {
		t.place(r, -1)
	}
}

// fill puts a text's tokens into rows from number at on, without labels or states,
// which it returns.
func (t *trainer) fill(at int, x excerpt) (labels []label, states []float32) {
	for i, token := range x {
		t.place(at+i, token)
	}
	if t.net.states != nil {
		states = t.net.states.Value().Data().([]float32)[at*t.shape.State:]
	}
	return t.net.head.labels[at:], states
}

// place puts a token, or none, into a row.
func (t *trainer) place(r int, token int32) {
	d, w, l := t.shape.Dim, t.shape.State, &t.net.head.labels[r]
	l.index, l.probs, l.tail = l.index[:0], l.probs[:0], 0
	if t.net.states != nil {
		clear(t.net.states.Value().Data().([]float32)[r*w : (r+1)*w])
	}
	input := t.net.input.Value().Data().([]float32)[r*d : (r+1)*d]
	if t.batch[r] = token; token < 0 {
		clear(input)
		return
	}
	copy(input, t.opt.params[len(t.opt.params)-1].data[int(token)*d:])
}

// fillRaw lets a text's next token be the label.
func (t *trainer) fillRaw(at int, x excerpt) {
	labels, _ := t.fill(at, x)
	for i := range len(x) - 1 {
		if at := t.index[x[i+1]]; at >= 0 {
			labels[i].index, labels[i].probs = append(labels[i].index, at), append(labels[i].probs, 1)
		}
	}
}

// fillLabelled takes the target's answers for labels: what they say about tokens
// that the head lacks counts nothing. The student is given the target's states at
// the places that are known. It returns those answers.
func (t *trainer) fillLabelled(at int, x excerpt, room int, known []bool) (*answers, error) {
	a, err := t.store.get(x, t.shape.Vocab, t.engine.StateWidth())
	if err != nil {
		return nil, err
	}
	x = x[:room]
	labels, states := t.fill(at, x)
	width := t.shape.State
	for i := range x {
		if width > 0 && i > 0 && known[i] {
			a.state(states[i*width:(i+1)*width], i-1)
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
	return a, nil
}
