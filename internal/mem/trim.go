package mem

import "runtime/debug"

// Trim gives back what the program needed to start and will not need soon:
// garbage, and those pages of its own file that have been read so far. What
// runs again comes back from the system's cache of files, a few pages at a time.
func Trim() {
	debug.FreeOSMemory()
	trimProgram()
}
