package merge

import "slices"

// shortWord is the length up to which looking at every pair for each merge
// beats a heap.
const shortWord = 24

// Scratch is the memory of one merging goroutine.
type Scratch struct {
	pairs      []pair // pairs[i] is what symbol i makes with its right neighbour
	next, prev []int32
	heap       []uint64 // rank<<32 | position
}

// Merge merges the symbols of a word in place, the lowest rank first and the
// leftmost first within a rank, and returns those that remain. It takes
// O(n log n) for n symbols.
func (t *Table) Merge(word []int32, s *Scratch) []int32 {
	if len(word) <= shortWord {
		return t.mergeShort(word)
	}
	return t.mergeLong(word, s)
}

func (t *Table) mergeShort(word []int32) []int32 {
	var pairs [shortWord]pair
	for i := 0; i+1 < len(word); i++ {
		pairs[i] = t.lookup(word[i], word[i+1])
	}
	for len(word) > 1 {
		best := 0
		for i, p := range pairs[1 : len(word)-1] {
			if p.rank < pairs[best].rank {
				best = i + 1
			}
		}
		if pairs[best].rank == noRank {
			break
		}
		word[best] = pairs[best].id
		copy(word[best+1:], word[best+2:])
		copy(pairs[best:len(word)-1], pairs[best+1:])
		word = word[:len(word)-1]
		if best > 0 {
			pairs[best-1] = t.lookup(word[best-1], word[best])
		}
		if best+1 < len(word) {
			pairs[best] = t.lookup(word[best], word[best+1])
		}
	}
	return word
}

func (t *Table) mergeLong(word []int32, s *Scratch) []int32 {
	n := len(word)
	s.pairs = slices.Grow(s.pairs[:0], n)[:n]
	s.next = slices.Grow(s.next[:0], n)[:n]
	s.prev = slices.Grow(s.prev[:0], n)[:n]
	h := heap(s.heap[:0])
	for i := range word {
		s.next[i], s.prev[i] = int32(i+1), int32(i-1)
		s.pairs[i] = pair{rank: noRank}
		if i+1 < n {
			s.pairs[i] = t.lookup(word[i], word[i+1])
		}
		if r := s.pairs[i].rank; r != noRank {
			h = append(h, uint64(r)<<32|uint64(i))
		}
	}
	h.init()
	for len(h) > 0 {
		top := h[0]
		h = h.pop()
		i := int32(uint32(top))
		// An entry is stale if its pair has changed since; one that happens to
		// have the same rank again is as good as new.
		if s.pairs[i].rank != uint32(top>>32) {
			continue
		}
		gone := s.next[i]
		word[i] = s.pairs[i].id
		s.pairs[gone].rank = noRank
		right := s.next[gone]
		s.next[i] = right
		s.pairs[i].rank = noRank
		if int(right) < n {
			s.prev[right] = i
			h = t.renew(h, s, word, i, right)
		}
		if left := s.prev[i]; left >= 0 {
			h = t.renew(h, s, word, left, i)
		}
	}
	s.heap = h
	out := word[:0]
	for i := int32(0); int(i) < n; i = s.next[i] {
		out = append(out, word[i])
	}
	return out
}

// renew looks up the pair of symbols i and j again.
func (t *Table) renew(h heap, s *Scratch, word []int32, i, j int32) heap {
	s.pairs[i] = t.lookup(word[i], word[j])
	if r := s.pairs[i].rank; r != noRank {
		h = h.push(uint64(r)<<32 | uint64(i))
	}
	return h
}

// heap is a binary heap with the least key first.
type heap []uint64

func (h heap) init() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

func (h heap) push(key uint64) heap {
	h = append(h, key)
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if h[up] <= key {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = key
	return h
}

func (h heap) pop() heap {
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	if last > 1 {
		h.down(0)
	}
	return h
}

func (h heap) down(i int) {
	key := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1] < h[child] {
			child++
		}
		if key <= h[child] {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = key
}
