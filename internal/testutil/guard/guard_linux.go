package guard

import (
	"testing"

	"golang.org/x/sys/unix"
)

// pages maps whole pages of at least size bytes between two guards.
func pages(t testing.TB, size int) []byte {
	page := unix.Getpagesize()
	body := max(1, (size+page-1)/page) * page
	b, err := unix.Mmap(-1, 0, body+2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Error(err)
		}
	})
	for _, g := range [][]byte{b[:page], b[page+body:]} {
		if err := unix.Mprotect(g, unix.PROT_NONE); err != nil {
			t.Fatal(err)
		}
	}
	return b[page : page+body]
}
