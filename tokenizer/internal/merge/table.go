// Package merge applies byte-pair merges: it holds the table of pairs, merges
// the symbols of a word, and remembers the results for frequent words.
//
// A Table is immutable once built and a Cache is lock-free; both are safe for
// concurrent use. Scratch belongs to one goroutine.
package merge

import "math/bits"

// Table maps a pair of symbols to the symbol they merge into and to the
// merge's rank; lower ranks merge first.
type Table struct {
	slots []slot // open addressing, a power of two
	shift uint
	n     int
}

type slot struct {
	key uint64 // left<<32 | right; free if the pair is never
	val pair
}

// pair is what becomes of two neighbours.
type pair struct {
	rank uint32
	id   int32
}

const (
	free   = ^uint64(0)
	noRank = ^uint32(0)
)

// NewTable returns a table for n pairs or fewer, of which they fill four fifths
// at most.
func NewTable(n int) *Table {
	size := 1 << bits.Len(uint(n+n/4))
	t := &Table{slots: make([]slot, size), shift: uint(65 - bits.Len(uint(size)))}
	for i := range t.slots {
		t.slots[i].key = free
	}
	return t
}

// Add enters a pair; symbols and rank are not negative and the rank is below
// 2^32-1. A pair entered again takes the new rank.
func (t *Table) Add(left, right int32, rank uint32, id int32) {
	key := uint64(uint32(left))<<32 | uint64(uint32(right))
	for i := t.slot(key); ; i = (i + 1) & (len(t.slots) - 1) {
		if s := &t.slots[i]; s.key == free || s.key == key {
			if s.key == free {
				t.n++
			}
			if t.n == len(t.slots) {
				panic("merge: more pairs than the table was made for")
			}
			*s = slot{key, pair{rank, id}}
			return
		}
	}
}

// lookup returns the pair, or one of noRank. Negative symbols merge with
// nothing.
func (t *Table) lookup(left, right int32) pair {
	if left|right < 0 {
		return pair{rank: noRank}
	}
	key := uint64(uint32(left))<<32 | uint64(uint32(right))
	for i := t.slot(key); ; i = (i + 1) & (len(t.slots) - 1) {
		switch s := &t.slots[i]; s.key {
		case key:
			return s.val
		case free:
			return pair{rank: noRank}
		}
	}
}

func (t *Table) slot(key uint64) int {
	return int(key * 0x9E3779B97F4A7C15 >> t.shift)
}
