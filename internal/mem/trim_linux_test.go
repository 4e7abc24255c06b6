package mem

import (
	"bytes"
	"os"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-01280000 r-xp 00000000 fe:00 10485806                           /usr/bin/triforce": true,
		"01280000-0274f000 r--p 00e80000 fe:00 10485806                           /usr/bin/triforce": true,
		"0274f000-02cfe000 rw-p 0234f000 fe:00 10485806                           /usr/bin/triforce": false,
		"7fe7c2200000-7fe7c7fcf000 r--s 00000000 fe:00 326269                     /tmp/model.gguf":   false,
		"7ffd0b1e4000-7ffd0b1e6000 r-xp 00000000 00:00 0                          [vdso]":            false,
		"Anonymous:             0 kB": false,
	} {
		m := parseMapping([]byte(line + "\n"))
		if got := m.constant() && m.lo < m.hi; got != want {
			t.Errorf("%s: droppable %v, expected %v", line, got, want)
		}
	}
}

// The test's own code is among the constants, and no memory that is written to.
func TestConstants(t *testing.T) {
	within := func(p uintptr) bool {
		return slices.ContainsFunc(constants(), func(m mapping) bool { return m.lo <= p && p < m.hi })
	}
	if !within(reflect.ValueOf(TestConstants).Pointer()) {
		t.Error("code cannot be dropped")
	}
	if within(uintptr(unsafe.Pointer(&variable))) || within(uintptr(unsafe.Pointer(new(int)))) {
		t.Error("variables would be dropped")
	}
}

// A file that somebody else mapped may be unmapped, and its addresses used for
// memory, long before the program ends.
func TestOtherFiles(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 16); err != nil {
		t.Fatal(err)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 1<<16, unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	at := uintptr(unsafe.Pointer(&b[0]))
	for _, m := range findConstants() {
		if m.lo <= at && at < m.hi {
			t.Errorf("a file at %#x would be dropped", at)
		}
	}
}

// Code, constants and variables are what they were.
func TestTrim(t *testing.T) {
	state := make([]int, 1<<10)
	for i := range state {
		state[i] = i
	}
	for range 3 {
		Trim()
		for i, x := range state {
			if x != i {
				t.Fatalf("element %d is %d", i, x)
			}
		}
		if _, err := os.ReadFile("/proc/self/maps"); err != nil {
			t.Fatal(err)
		}
	}
}

// variable lies in the program's file, over many pages.
var variable = [1 << 18]byte{1, 1<<18 - 1: 2}

// Whole pages of variables in the program's file go, and come back as they
// were; those that belong to somebody else stay.
func TestRelease(t *testing.T) {
	page := os.Getpagesize()
	file := variable[1:]
	heap := bytes.Repeat([]byte{3}, 4*page)
	resident := func(b []byte) int {
		pagemap, err := os.Open("/proc/self/pagemap")
		if err != nil {
			t.Skip(err)
		}
		defer pagemap.Close()
		n := 0
		for at := 0; at < len(b); at += page {
			var entry [8]byte
			if _, err := pagemap.ReadAt(entry[:], int64(uintptr(unsafe.Pointer(&b[at])))/int64(page)*8); err != nil {
				t.Skip(err)
			}
			n += int(entry[7] >> 7)
		}
		return n
	}
	for range 2 {
		sum := 0
		for _, b := range file {
			sum += int(b)
		}
		if sum != 2 || bytes.Count(heap, []byte{3}) != len(heap) {
			t.Fatal("bytes have changed")
		}
		before := resident(file)
		Release(file, heap, nil, file[:0])
		if after := resident(file[page : len(file)-page]); before < len(file)/page || after != 0 {
			t.Errorf("%d pages before, %d after", before, after)
		}
	}
}

func BenchmarkTrim(b *testing.B) {
	for b.Loop() {
		Trim()
	}
}
