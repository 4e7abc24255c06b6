package tokenizer

import (
	"hash/maphash"
	"math/bits"
)

// index finds tokens by their text. It holds nothing but their numbers, a
// quarter of the memory of a map of strings.
type index struct {
	seed   maphash.Seed
	tokens []string
	slots  []int32 // open addressing, a power of two; free if negative
}

// newIndex makes an empty index of some of the tokens.
func newIndex(tokens []string) index {
	x := index{maphash.MakeSeed(), tokens, make([]int32, 1<<bits.Len(uint(len(tokens)+len(tokens)/2)))}
	for i := range x.slots {
		x.slots[i] = -1
	}
	return x
}

// slot is where the token with that text is, or else where it belongs.
func (x *index) slot(token string) *int32 {
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, token); ; i++ {
		if s := &x.slots[i&mask]; *s < 0 || x.tokens[*s] == token {
			return s
		}
	}
}

// id returns the number of the token with that text.
func (x *index) id(token string) (int32, bool) {
	id := *x.slot(token)
	return max(id, 0), id >= 0
}
