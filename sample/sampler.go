package sample

import (
	"cmp"
	"math"
	"slices"
)

// Sampler chooses tokens by one set of options.
type Sampler struct {
	opts       Options
	penalized  []float32   // (vocabulary) logits after penalties
	candidates []candidate // survivors of the filters
}

type candidate struct {
	logit float32
	id    int32
}

// New makes a sampler. The options are valid (Options.Validate).
func New(opts Options) *Sampler { return &Sampler{opts: opts} }

// SetOptions changes the options and keeps the scratch memory.
func (s *Sampler) SetOptions(opts Options) { s.opts = opts }

// Options are the options in force.
func (s *Sampler) Options() Options { return s.opts }

// Greedy says whether the processed distribution is a single token.
func (s *Sampler) Greedy() bool { return s.opts.Temp == 0 }

// Draw is the token that follows history, given the logits after it. Its
// position, which keys the noise, is len(history).
func (s *Sampler) Draw(logits []float32, history []int32) int32 {
	token, _ := s.DrawLead(logits, history)
	return token
}

// DrawLead is Draw, and says by how many logits its token, noise included, leads
// the one that would be drawn without it: +Inf if there is none. Logits that are
// off by less than half of that lead to the same token.
func (s *Sampler) DrawLead(logits []float32, history []int32) (token int32, lead float64) {
	row := s.penalize(logits, history)
	if s.Greedy() {
		return argmax(row)
	}
	best, next, at := math.Inf(-1), math.Inf(-1), int32(0)
	noise := NoiseAt(s.opts.Seed, Coupling, len(history))
	kept := s.filter(row)
	top := float64(peak(kept))
	for _, c := range kept {
		score := (float64(c.logit) - top) / s.opts.Temp
		if score+noise.gumbelBound(uint64(c.id)) < next {
			continue // spares most logarithms
		}
		score += noise.Gumbel(uint64(c.id))
		if score > best || score == best && c.id < at {
			best, next, at = score, best, c.id
		} else {
			next = max(next, score)
		}
	}
	return at, (best - next) * s.opts.Temp
}

// Rank appends to dst the n tokens that Draw prefers, best first: the first is
// Draw's, and is always there. There are fewer when fewer survive the filters;
// under greedy choice the largest logits count.
func (s *Sampler) Rank(dst []int32, logits []float32, history []int32, n int) []int32 {
	if n == 1 {
		return append(dst, s.Draw(logits, history))
	}
	row := s.penalize(logits, history)
	if s.Greedy() {
		s.candidates = largest(s.candidates[:0], row, n)
		slices.SortFunc(s.candidates, byRank)
		for _, c := range s.candidates {
			dst = append(dst, c.id)
		}
	} else {
		dst = s.rank(dst, s.filter(row), NoiseAt(s.opts.Seed, Coupling, len(history)), n)
	}
	if len(s.candidates) == 0 {
		dst = append(dst, 0) // as Draw does when no token is possible
	}
	return dst
}

func (s *Sampler) rank(dst []int32, kept []candidate, noise Noise, n int) []int32 {
	top := float64(peak(kept))
	for ; n > 0 && len(kept) > 0; n-- {
		first, best := 0, math.Inf(-1)
		for i, c := range kept {
			score := (float64(c.logit)-top)/s.opts.Temp + noise.Gumbel(uint64(c.id))
			if score > best || score == best && c.id < kept[first].id {
				first, best = i, score
			}
		}
		dst = append(dst, kept[first].id)
		kept[first] = kept[len(kept)-1]
		kept = kept[:len(kept)-1]
	}
	return dst
}

// Dist fills d with the processed distribution of the token after history.
func (s *Sampler) Dist(d *Dist, logits []float32, history []int32) {
	row := s.penalize(logits, history)
	if s.Greedy() {
		token, _ := argmax(row)
		d.SetPoint(token)
		return
	}
	kept := s.filter(row)
	if len(kept) == 0 {
		d.SetPoint(0)
		return
	}
	slices.SortFunc(kept, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	top := float64(peak(kept))
	d.reset()
	for _, c := range kept {
		d.push(c.id, math.Exp((float64(c.logit)-top)/s.opts.Temp))
	}
	d.normalize()
}

// penalize is the logits with recent tokens weakened: a positive logit is
// divided by the penalty, another multiplied by it, once however often the token
// occurred.
func (s *Sampler) penalize(logits []float32, history []int32) []float32 {
	if s.opts.RepeatPenalty == 1 || s.opts.RepeatLastN == 0 {
		return logits
	}
	if n := s.opts.RepeatLastN; n > 0 && n < len(history) {
		history = history[len(history)-n:]
	}
	penalty := float32(s.opts.RepeatPenalty)
	s.penalized = append(s.penalized[:0], logits...)
	for _, id := range history {
		if int(id) >= len(logits) {
			continue
		}
		if v := logits[id]; v > 0 {
			s.penalized[id] = v / penalty
		} else {
			s.penalized[id] = v * penalty
		}
	}
	return s.penalized
}

// filter is the candidates that survive top-k, top-p and min-p, in no particular
// order; impossible tokens (logits of -Inf or NaN) never do. The two last filters
// each keep a prefix of the tokens in order of their logits, so the shorter
// prefix is what both keep.
func (s *Sampler) filter(row []float32) []candidate {
	k := s.opts.TopK
	if k == 0 {
		k = len(row)
	}
	s.candidates = largest(s.candidates[:0], row, k)
	kept := s.candidates
	if len(kept) == 0 || s.opts.TopP >= 1 && s.opts.MinP <= 0 {
		return kept
	}
	top := peak(kept)
	var mass float64
	if s.opts.TopP < 1 {
		for _, c := range kept {
			mass += math.Exp(float64(c.logit - top))
		}
		mass *= s.opts.TopP
	}
	floor := top + float32(math.Log(s.opts.MinP)) // -Inf when min-p is off
	kept = slices.DeleteFunc(kept, func(c candidate) bool { return c.logit < floor })
	if s.opts.TopP < 1 {
		kept = head(kept, mass, top)
	}
	return kept
}

// head is the shortest list of the best candidates whose exp(logit - top) sum to
// mass. Only as many as it keeps are put in order.
func head(list []candidate, mass float64, top float32) []candidate {
	for i := len(list)/2 - 1; i >= 0; i-- {
		sift(list, i)
	}
	// The best moves to the end of the list; what is left stays a heap.
	left := len(list)
	for sum := 0.0; left > 0; {
		left--
		list[0], list[left] = list[left], list[0]
		sift(list[:left], 0)
		if sum += math.Exp(float64(list[left].logit - top)); sum >= mass {
			break
		}
	}
	return list[left:]
}

// largest appends to dst, which is empty, the k largest logits of row, the lower
// id first among equals, in one pass over row and in no particular order.
func largest(dst []candidate, row []float32, k int) []candidate {
	k = min(k, len(row))
	least, room := below(row, k), 2*k+64
	if dst = above(dst, row, k, room, least); len(dst) < k {
		dst = above(dst[:0], row, k, room, float32(math.Inf(-1)))
	}
	if len(dst) > k {
		divide(dst, k)
		dst = dst[:k]
	}
	return dst
}

// above appends to dst the logits above least, and drops all but the k best of
// them whenever there are as many as there is room for.
func above(dst []candidate, row []float32, k, room int, least float32) []candidate {
	for id, v := range row {
		if v > least {
			if dst = append(dst, candidate{v, int32(id)}); len(dst) == room {
				divide(dst, k)
				dst = dst[:k]
				least = bottom(dst)
			}
		}
	}
	return dst
}

// below guesses a logit that is most likely below the k-th largest, by a sample:
// -Inf where that is not worth while.
func below(row []float32, k int) float32 {
	const stride, most = 16, 12
	// k/stride of the sample are expected among the k largest, and 5 more hardly
	// ever.
	rank := k/stride + 5
	if rank > most || len(row) < 16*stride*most {
		return float32(math.Inf(-1))
	}
	var best [most]float32 // of the sample, descending
	for i := range best {
		best[i] = float32(math.Inf(-1))
	}
	for i := stride / 2; i < len(row); i += stride {
		v := row[i]
		if !(v > best[rank-1]) {
			continue
		}
		at := rank - 1
		for ; at > 0 && best[at-1] < v; at-- {
			best[at] = best[at-1]
		}
		best[at] = v
	}
	return best[rank-1]
}

// divide puts the best k of list first, by partitions around a middle one (Hoare
// 1961).
func divide(list []candidate, k int) {
	lo, hi := 0, len(list)-1
	for lo < hi {
		pivot := list[lo+(hi-lo)/2]
		i, j := lo, hi
		for i <= j {
			for better(list[i], pivot) {
				i++
			}
			for better(pivot, list[j]) {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i++
				j--
			}
		}
		switch {
		case k-1 <= j:
			hi = j
		case k-1 >= i:
			lo = i
		default:
			return
		}
	}
}

// better is the order by falling logit, then rising id.
func better(a, b candidate) bool { return a.logit > b.logit || a.logit == b.logit && a.id < b.id }

// byRank is better for package slices; no two candidates are equal.
func byRank(a, b candidate) int {
	if better(a, b) {
		return -1
	}
	return 1
}

// sift restores the heap below i, with the best at its root.
func sift(heap []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && better(heap[child+1], heap[child]) {
			child++
		}
		if !better(heap[child], heap[i]) {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// peak is the largest logit.
func peak(list []candidate) float32 {
	top := float32(math.Inf(-1))
	for _, c := range list {
		top = max(top, c.logit)
	}
	return top
}

// bottom is the smallest logit.
func bottom(list []candidate) float32 {
	least := float32(math.Inf(1))
	for _, c := range list {
		least = min(least, c.logit)
	}
	return least
}

// argmax is the lowest id of the largest logit, and how much larger that is than
// the next; NaN is never the largest.
func argmax(row []float32) (id int32, lead float64) {
	best, next, at := float32(math.Inf(-1)), float32(math.Inf(-1)), 0
	for i := 0; ; i++ {
		i += noneAbove(row[i:], next)
		if i == len(row) {
			return int32(at), float64(best) - float64(next)
		}
		if v := row[i]; v > best {
			best, next, at = v, best, i
		} else {
			next = v
		}
	}
}

// noneAbove counts the values before the first that is larger than the limit.
func noneAbove(row []float32, limit float32) int {
	n := 0
	for ; len(row)-n >= 4; n += 4 {
		if r := row[n : n+4 : n+4]; r[0] > limit || r[1] > limit || r[2] > limit || r[3] > limit {
			break
		}
	}
	for n < len(row) && !(row[n] > limit) {
		n++
	}
	return n
}
