package scratch

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// What is written is read again, by whatever way; the file has no name, and
// nothing of it is left.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 && runtime.GOOS == "linux" {
		t.Errorf("the folder has %v", names)
	}
	if info, err := f.cached.Stat(); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; expected 0600", info.Mode(), err)
	}
	if err := f.Reserve(0, 8*Block); err != nil {
		t.Fatal(err)
	}
	b := Alloc(4 * Block)
	for i := range b {
		b[i] = byte(i * i >> 4)
	}
	if n, err := f.WriteAt(b, 2*Block); n != len(b) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	for _, w := range []way{past, through, unknown, unknown} {
		f.choice.use = w
		if f.direct == nil {
			f.choice.use = through
		}
		got := Alloc(len(b))
		if n, err := f.ReadAt(got, 2*Block); n != len(b) || err != nil || !bytes.Equal(got, b) {
			t.Errorf("way %d: read %d bytes: %v", w, n, err)
		}
	}
	if n, err := f.ReadAt(Alloc(2*Block), 64*Block); n != 0 || err != io.EOF {
		t.Errorf("beyond the end: %d bytes, error %v", n, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("after Close the folder has %v", names)
	}
}

// The faster way is taken once both were tried enough, and not before.
func TestChoice(t *testing.T) {
	for _, faster := range []way{past, through} {
		var c choice
		seen := map[way]int{}
		for range 1000 {
			w := c.pick()
			seen[w]++
			d := 3 * time.Millisecond
			if w == faster {
				d = time.Millisecond
			}
			c.saw(w, 1<<20, d)
		}
		if c.use != faster || seen[3-faster] < probe>>20 || seen[3-faster] > 2*probe>>20 {
			t.Errorf("of ways %v the choice is %d, expected %d", seen, c.use, faster)
		}
	}
}

// Folders where no file can be are refused, and say why.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Check(dir); err != nil {
		t.Error(err)
	}
	if err := Check(file); err == nil {
		t.Error("a file is taken for a folder")
	}
	if err := Check(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
	if Free(dir) == 0 || runtime.GOOS == "linux" && Free(dir) < 0 {
		t.Errorf("%d bytes are free", Free(dir))
	}
	if runtime.GOOS == "linux" && Kind("/dev/shm") != "memory" && Kind("/proc") != "" {
		t.Errorf("/dev/shm is on %q, /proc on %q", Kind("/dev/shm"), Kind("/proc"))
	}
}
