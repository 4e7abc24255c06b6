// Package invariant holds what the program may assume of itself. Checks that
// are too dear for every day run only in builds with the tag invariants:
//
//	if invariant.Enabled && !ok {
//		invariant.Failf("kernel: …")
//	}
package invariant

import "fmt"

// Failf reports a bug of this program by a panic. Bad input is never a bug: it
// is an error.
func Failf(format string, args ...any) {
	panic("invariant violated: " + fmt.Sprintf(format, args...))
}
