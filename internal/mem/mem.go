// Package mem allocates the large blocks that are read over and over, weights
// and caches, so that they can be read at the speed of the memory.
//
// The memory is Go's own and freed like any other. Where the system offers huge
// pages on request, blocks ask for them: with pages of 4 KiB, look-ups of
// addresses held a single core to 18 of the 30 GB/s that it otherwise reads.
package mem

import "unsafe"

// hugePage is the size of a huge page on the systems that have them.
const hugePage = 2 << 20

// Alloc returns n zero bytes that begin at a multiple of 64, or, if they are
// many, of a huge page.
func Alloc(n int) []byte { return AllocAt(n, 64) }

// AllocAt is Alloc for blocks that begin at a multiple of to, a power of two up
// to the size of a huge page.
func AllocAt(n, to int) []byte {
	huge := n >= hugePage
	if huge {
		to = hugePage
	}
	all := make([]byte, n+to-1)
	at := -int(uintptr(unsafe.Pointer(unsafe.SliceData(all)))) & (to - 1)
	b := all[at : at+n : at+n]
	if huge {
		advise(b)
		// If Go has used the memory before, it has just cleared what lies around b, too.
		discard(all[:at])
		discard(all[at+n:])
	}
	return b
}

// Arena hands out pieces of blocks. The zero value is ready for use. Before it
// takes another block it trims the program: what grows is likely to be most of
// what there is.
type Arena struct {
	rest  []byte
	taken int // by all blocks
	// Block is the least size of a block. If that is less than Most, a block is as
	// large as a quarter of all before it, in whole Blocks up to Most: memory that Go
	// has used before is cleared when it is taken, not as it is written to.
	Block, Most int
}

// Take returns n zero bytes at a multiple of 64.
func (a *Arena) Take(n int) []byte {
	size := (n + 63) &^ 63
	if size > len(a.rest) {
		if a.taken > 0 {
			Trim()
		}
		n := max(size, a.Block)
		n = max(n, min(a.taken/4, a.Most)/n*n)
		a.rest = Alloc(n)
		a.taken += n
	}
	b := a.rest[:n:n]
	a.rest = a.rest[size:]
	return b
}
