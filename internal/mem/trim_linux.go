package mem

import (
	"bytes"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// trimProgram drops the pages of code and constants. They stay in the system's
// cache of files, from where what runs again comes back, a few pages at a time.
func trimProgram() {
	for _, m := range constants() {
		drop(m.lo, m.hi)
	}
}

// constants are what findConstants found first. To find them takes milliseconds once
// there is much memory to look through.
var constants = sync.OnceValue(findConstants)

// findConstants returns the mappings of the program's file and of the C library, if
// there is one, that equal the file for as long as the program runs: those that may
// be written to, or that have been (relocated, then protected), are not among them.
// Nor are other files, which may be unmapped, and their addresses used for memory.
func findConstants() []mapping {
	var found []mapping
	program, _ := os.Readlink("/proc/self/exe")
	maps, _ := os.ReadFile("/proc/self/smaps")
	var last mapping
	for line := range bytes.Lines(maps) {
		if line[0] < 'A' || line[0] > 'Z' {
			last = mapping{}
			if bytes.HasSuffix(line, []byte(" "+program+"\n")) || ofLibC(line) {
				last = parseMapping(line)
			}
		} else if size, ok := bytes.CutPrefix(line, []byte("Anonymous:")); ok && last.constant() && string(bytes.TrimSpace(size)) == "0 kB" {
			found = append(found, last)
		}
	}
	return found
}

// ofLibC reports whether the first line about a mapping names the C library or its
// loader, which stay.
func ofLibC(line []byte) bool {
	name := line[bytes.LastIndexByte(line, '/')+1:]
	for _, prefix := range []string{"libc.", "libc-", "ld-"} {
		if bytes.HasPrefix(name, []byte(prefix)) {
			return true
		}
	}
	return false
}

// release drops the pages of variables that lie in the program's file.
func release(variables [][]byte) {
	maps, _ := os.ReadFile("/proc/self/maps")
	for line := range bytes.Lines(maps) {
		m := parseMapping(line)
		for _, v := range variables {
			lo := uintptr(unsafe.Pointer(unsafe.SliceData(v)))
			hi := lo + uintptr(len(v))
			if m.inode != 0 && m.lo <= lo && hi <= m.hi {
				dropWithin(lo, hi)
			}
		}
	}
}

func drop(lo, hi uintptr) {
	if lo < hi {
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, lo, hi-lo, unix.MADV_DONTNEED)
	}
}

// mapping is the first line about a part of the address space:
//
//	00400000-01280000 r-xp 00000000 fe:00 10485806   /usr/bin/triforce
type mapping struct {
	lo, hi uintptr
	mode   string
	inode  uint64 // 0 if it is no file's
}

// parseMapping returns a mapping of no file for what is not such a line.
func parseMapping(line []byte) (m mapping) {
	var offset uint64
	var device string
	if n, _ := fmt.Sscanf(string(line), "%x-%x %s %x %s %d", &m.lo, &m.hi, &m.mode, &offset, &device, &m.inode); n < 6 {
		return mapping{}
	}
	return m
}

// constant reports a private mapping of a file that may not be written to now.
func (m mapping) constant() bool { return m.inode != 0 && (m.mode == "r-xp" || m.mode == "r--p") }
