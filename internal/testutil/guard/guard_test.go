package guard

import (
	"runtime"
	"runtime/debug"
	"testing"
	"unsafe"
)

// TestFaults touches both neighbours of a slice of every size around a page.
func TestFaults(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("guards are pages of linux")
	}
	for _, n := range []int{1, 7, 1023, 1024, 1025} {
		for _, end := range Ends() {
			s := Slice[uint32](t, n, end)
			for i := range s {
				s[i]++ // all of it is there
			}
			at := unsafe.Pointer(&s[0])
			if end == Low {
				at = unsafe.Add(at, -1)
			} else {
				at = unsafe.Add(at, 4*n)
			}
			if !faults((*byte)(at)) {
				t.Errorf("%d elements, end %d: the neighbour can be read", n, end)
			}
		}
	}
}

func faults(p *byte) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { faulted = recover() != nil }()
	return *p != 0
}
