package sample

import "slices"

// Dist is a probability distribution over a few tokens: those not listed have
// probability zero. It owns its memory, which the methods reuse.
type Dist struct {
	ids   []int32   // ascending
	probs []float64 // same length; they sum to 1
}

// Len is the number of tokens listed.
func (d *Dist) Len() int { return len(d.ids) }

// At is entry i in ascending order of tokens, with its probability.
func (d *Dist) At(i int) (int32, float64) { return d.ids[i], d.probs[i] }

// P is the probability of a token.
func (d *Dist) P(token int32) float64 {
	if i, ok := slices.BinarySearch(d.ids, token); ok {
		return d.probs[i]
	}
	return 0
}

// Draw maps u, uniform in (0, 1), to a token.
func (d *Dist) Draw(u float64) int32 {
	last := 0
	for i, p := range d.probs {
		if p <= 0 {
			continue
		}
		last = i
		if u -= p; u < 0 {
			break
		}
	}
	return d.ids[last]
}

// SetPoint makes one token certain.
func (d *Dist) SetPoint(token int32) {
	d.reset()
	d.push(token, 1)
}

// Set makes d a copy of other.
func (d *Dist) Set(other *Dist) {
	d.ids = append(d.ids[:0], other.ids...)
	d.probs = append(d.probs[:0], other.probs...)
}

// Subtract leaves the residual, max(0, d - q) normalized: what is left to draw
// from when a token drawn from q has been rejected in favour of d. Where rounding
// leaves nothing (d equals q), d stays as it was: the case has probability zero.
func (d *Dist) Subtract(q *Dist) {
	if !d.exceeds(q) {
		return
	}
	j := 0
	for i, id := range d.ids {
		for j < len(q.ids) && q.ids[j] < id {
			j++
		}
		if j < len(q.ids) && q.ids[j] == id {
			d.probs[i] = max(0, d.probs[i]-q.probs[j])
		}
	}
	d.normalize()
}

// exceeds says whether some token is more probable in d than in q.
func (d *Dist) exceeds(q *Dist) bool {
	j := 0
	for i, id := range d.ids {
		for j < len(q.ids) && q.ids[j] < id {
			j++
		}
		if j == len(q.ids) || q.ids[j] != id {
			if d.probs[i] > 0 {
				return true
			}
		} else if d.probs[i] > q.probs[j] {
			return true
		}
	}
	return false
}

// Remove rules one token out and says whether any other is left: drawing again
// is then drawing without replacement.
func (d *Dist) Remove(token int32) bool {
	i, ok := slices.BinarySearch(d.ids, token)
	if ok {
		d.ids = slices.Delete(d.ids, i, i+1)
		d.probs = slices.Delete(d.probs, i, i+1)
	}
	return d.normalize()
}

func (d *Dist) reset() { d.ids, d.probs = d.ids[:0], d.probs[:0] }

// push appends a token above all others.
func (d *Dist) push(token int32, p float64) {
	d.ids = append(d.ids, token)
	d.probs = append(d.probs, p)
}

// normalize makes the probabilities sum to 1 and says whether they can.
func (d *Dist) normalize() bool {
	var sum float64
	for _, p := range d.probs {
		sum += p
	}
	if sum <= 0 {
		return false
	}
	for i := range d.probs {
		d.probs[i] /= sum
	}
	return true
}
