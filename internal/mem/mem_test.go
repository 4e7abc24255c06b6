package mem

import (
	"testing"
	"unsafe"
)

// Pieces are zero, aligned and apart.
func TestArena(t *testing.T) {
	a := Arena{Block: 5 << 20}
	seen := map[uintptr][]byte{}
	for _, n := range []int{1, 63, 64, 65, 1 << 20, 3 << 20, 6 << 20, 7} {
		b := a.Take(n)
		at := uintptr(unsafe.Pointer(&b[0]))
		if len(b) != n || cap(b) != n || at%64 != 0 || seen[at] != nil {
			t.Fatalf("%d bytes: length %d, capacity %d, address %#x", n, len(b), cap(b), at)
		}
		seen[at] = b
		for i, c := range b {
			if c != 0 {
				t.Fatalf("%d bytes: byte %d is %d", n, i, c)
			}
			b[i] = 1
		}
	}
}

// Each block is as large as a quarter of all before it, up to the largest.
func TestArenaGrows(t *testing.T) {
	a := Arena{Block: 4 << 20, Most: 16 << 20}
	for _, want := range []int{4, 4, 4, 4, 4, 4, 4, 4, 8, 8, 12, 12, 16, 16} {
		before := a.taken
		for a.taken == before {
			a.Take(1 << 20)
		}
		if got := (a.taken - before) >> 20; got != want {
			t.Errorf("after %d MiB a block of %d MiB, expected %d", before>>20, got, want)
		}
	}
}
