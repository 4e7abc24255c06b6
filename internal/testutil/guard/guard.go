// Package guard gives tests memory that ends where a slice ends: one byte
// beyond, or before, is a page without permissions, and touching it is a fault.
// On systems without such pages the slices are ordinary ones.
package guard

import (
	"testing"
	"unsafe"
)

// End names the end of a slice that lies against a page without permissions.
type End int

// The ends.
const (
	Low  End = iota // the first element follows such a page
	High            // the last element precedes one
)

// Ends lists both, for tests to range over.
func Ends() []End { return []End{Low, High} }

// Slice returns a zeroed slice of n elements whose given end is guarded. It
// lives until the test ends.
func Slice[T any](t testing.TB, n int, end End) []T {
	var element T
	size := n * int(unsafe.Sizeof(element))
	b := pages(t, size)
	if end == High {
		b = b[len(b)-size:]
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&b[0])), n)
}

// Copy is Slice with the elements of s.
func Copy[T any](t testing.TB, s []T, end End) []T {
	guarded := Slice[T](t, len(s), end)
	copy(guarded, s)
	return guarded
}
