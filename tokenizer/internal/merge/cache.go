package merge

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync/atomic"
)

// Limits of a Cache: at most cacheSlots words of at most maxWord bytes each,
// a few megabytes.
const (
	cacheSlots = 1 << 14
	maxWord    = 48
)

// Cache remembers the tokens of words. Each word has one slot, which a newer
// word takes over.
type Cache struct {
	seed  maphash.Seed
	slots [cacheSlots]atomic.Pointer[entry]
}

type entry struct {
	word string
	ids  []int32
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{seed: maphash.MakeSeed()} }

// Get appends the ids of word to dst and reports whether it knows them.
func (c *Cache) Get(dst []int32, word string) ([]int32, bool) {
	if len(word) > maxWord {
		return dst, false
	}
	if e := c.slot(word).Load(); e != nil && e.word == word {
		return append(dst, e.ids...), true
	}
	return dst, false
}

// Put remembers copies of word and ids.
func (c *Cache) Put(word string, ids []int32) {
	if len(word) <= maxWord {
		c.slot(word).Store(&entry{strings.Clone(word), slices.Clone(ids)})
	}
}

func (c *Cache) slot(word string) *atomic.Pointer[entry] {
	return &c.slots[maphash.String(c.seed, word)%cacheSlots]
}
