package mem

import "runtime/debug"

// Trim gives back what the program needed to start and will not need soon:
// garbage, and those pages of its own file that have been read so far. What
// runs again comes back from the system's cache of files, a few pages at a time.
func Trim() {
	debug.FreeOSMemory()
	trimProgram()
}

// TrimProgram is Trim without the garbage: to collect that, megabytes of the
// program's constants are read.
func TrimProgram() { trimProgram() }

// Release gives back the memory of variables that nobody has written to since
// the program started, as Trim does that of constants. Bytes that are not the
// program's own, or not a whole page, stay.
func Release(variables ...[]byte) { release(variables) }
