package mem

import (
	"os"
	"testing"
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

func BenchmarkTrim(b *testing.B) {
	for b.Loop() {
		Trim()
	}
}
