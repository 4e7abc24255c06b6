package tokenizer

import (
	"hash/maphash"
	"math/bits"
	"strings"
)

// texts is a list of strings in one piece of memory.
type texts struct {
	text string
	ends []uint32
}

// newTexts takes strings of at most 4 GiB together.
func newTexts(list []string) texts {
	t := texts{strings.Join(list, ""), make([]uint32, len(list))}
	end := 0
	for i, s := range list {
		end += len(s)
		t.ends[i] = uint32(end)
	}
	return t
}

// at returns the string of that number, "" if there is none.
func (t *texts) at(i int32) string {
	if uint(i) >= uint(len(t.ends)) {
		return ""
	}
	start := uint32(0)
	if i > 0 {
		start = t.ends[i-1]
	}
	return t.text[start:t.ends[i]]
}

// index finds tokens by their text. It holds nothing but their numbers, a
// quarter of the memory of a map of strings.
type index struct {
	seed   maphash.Seed
	tokens texts
	slots  []int32 // open addressing, a power of two; free if negative
}

// newIndex makes an empty index of some of the tokens.
func newIndex(tokens texts) index {
	n := len(tokens.ends)
	x := index{maphash.MakeSeed(), tokens, make([]int32, 1<<bits.Len(uint(n+n/4)))}
	for i := range x.slots {
		x.slots[i] = -1
	}
	return x
}

// slot is where the token with that text is, or else where it belongs.
func (x *index) slot(token string) *int32 {
	mask := uint64(len(x.slots) - 1)
	for i := maphash.String(x.seed, token); ; i++ {
		if s := &x.slots[i&mask]; *s < 0 || x.tokens.at(*s) == token {
			return s
		}
	}
}

// id returns the number of the token with that text.
func (x *index) id(token string) (int32, bool) {
	id := *x.slot(token)
	return max(id, 0), id >= 0
}
