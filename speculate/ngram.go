package speculate

import (
	"context"
	"slices"
)

const (
	longestGram  = 6       // tokens matched at first
	shortestGram = 2       // tokens matched at last
	fewestSlots  = 1 << 12 // entries of a new index
	mostSlots    = 1 << 18 // entries of the largest, 1 MiB: there newer ones displace older
	slotsPerGram = 2       // an index with fewer grows
	longestMatch = 32      // tokens by which confidence in a match is judged
)

// NGram proposes what followed the latest earlier occurrence of the last few
// tokens, in the prompt or the output. It has no model and costs next to nothing;
// it is good at text that repeats itself: code, lists, quotations.
//
// The index holds the end of the latest occurrence of each run of 2 to 6 tokens
// by hash, for committed tokens only; an entry is believed only if the tokens
// there are indeed the same. So a rewound history needs no repair.
type NGram struct {
	origin   uint8
	history  []int32
	indexed  int      // n-grams that end at or before this are in slots
	slots    []uint32 // hash of an n-gram -> its end, 0 = none
	proposed []int32
	origins  []uint8
}

// NewNGram makes a drafter whose tokens are marked with origin.
func NewNGram(origin uint8) *NGram {
	return &NGram{origin: origin, slots: make([]uint32, fewestSlots)}
}

// Reset adopts the history of a new request.
func (g *NGram) Reset(r Request) {
	g.history = append(g.history[:0], r.History...)
	clear(g.slots) // so that a request replays, whatever came before it
	g.indexed = 0
}

// Accept makes the history its first base tokens, then kept.
func (g *NGram) Accept(base int, kept []int32) {
	g.history = append(g.history[:base], kept...)
	g.indexed = min(g.indexed, base)
}

// Commit indexes the n-grams that are followed by one of the first n tokens.
func (g *NGram) Commit(n int) {
	size := len(g.slots)
	for size < mostSlots && size < slotsPerGram*(longestGram-shortestGram+1)*n {
		size *= 2
	}
	if size > len(g.slots) {
		g.slots, g.indexed = make([]uint32, size), 0
	}
	for g.indexed < n-1 {
		g.indexed++
		g.grams(g.indexed, func(_ int, slot uint32) { g.slots[slot] = uint32(g.indexed) })
	}
}

// Draft proposes at most n tokens of those that Confidence speaks of. A match
// that reaches the end of the history goes on with the proposal itself, so that a
// period repeats.
func (g *NGram) Draft(_ context.Context, n int, _ Bar) (Proposal, error) {
	found, match := g.find()
	end := len(g.history)
	if found == 0 {
		return Proposal{}, nil
	}
	g.proposed, g.origins = g.proposed[:0], g.origins[:0]
	for i := range min(n, 2*match) {
		token := int32(0)
		if at := found + i; at < end {
			token = g.history[at]
		} else {
			token = g.proposed[at-end]
		}
		g.proposed = append(g.proposed, token)
		g.origins = append(g.origins, g.origin)
	}
	return Proposal{Tokens: g.proposed, Origin: g.origins}, nil
}

// Confidence rises with the length of the match. There are twice as many tokens
// as match: a long match is likely to go on for long.
func (g *NGram) Confidence() (confidence, tokens int) {
	found, match := g.find()
	if found == 0 {
		return 0, 0
	}
	for _, shortest := range [Confidences - 1]int{2, 3, 4, 6, 8, 16, 32} {
		if match >= shortest {
			confidence++
		}
	}
	return confidence, min(2*match, MaxDepth)
}

// Priors are what was measured on prose, dialogue and lists.
func (g *NGram) Priors() [Confidences]float64 {
	return [Confidences]float64{0, 0.3, 0.45, 0.55, 0.65, 0.8, 0.9, 0.95}
}

// find is where the tokens go on that followed the latest earlier occurrence of
// the longest run that ends the history, and how many match there.
func (g *NGram) find() (found, match int) {
	end := len(g.history)
	g.grams(end, func(length int, slot uint32) {
		at := int(g.slots[slot])
		if at >= length && at < end && slices.Equal(g.history[at-length:at], g.history[end-length:]) {
			found = at // the longest wins, as lengths rise
		}
	})
	if found == 0 {
		return 0, 0
	}
	match = shortestGram
	for match < longestMatch && match < found && g.history[found-1-match] == g.history[end-1-match] {
		match++
	}
	return found, match
}

// grams calls f with the index slot of each n-gram that ends at end, shortest
// first.
func (g *NGram) grams(end int, f func(length int, slot uint32)) {
	hash := uint64(0)
	for length := 1; length <= min(longestGram, end); length++ {
		hash = (hash + uint64(uint32(g.history[end-length])) + 1) * 0x9e3779b97f4a7c15
		hash ^= hash >> 29
		if length >= shortestGram {
			f(length, uint32(hash>>20)&uint32(len(g.slots)-1))
		}
	}
}
