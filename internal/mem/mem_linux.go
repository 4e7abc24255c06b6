package mem

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// advise asks for huge pages; a system that has none says no, and nothing is
// lost.
func advise(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

// discard gives back the pages of bytes that nobody will read. They are zero if
// somebody does.
func discard(b []byte) {
	lo := uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	dropWithin(lo, lo+uintptr(len(b)))
}

// dropWithin drops the whole pages between two addresses.
func dropWithin(lo, hi uintptr) {
	page := uintptr(os.Getpagesize())
	drop((lo+page-1)&^(page-1), hi&^(page-1))
}
