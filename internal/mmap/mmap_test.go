package mmap

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestOpen(t *testing.T) {
	page := os.Getpagesize()
	for _, size := range []int{0, 1, page - 1, page, 3*page + 17} {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(i*7 + i>>8)
		}
		path := filepath.Join(t.TempDir(), "data")
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(f.Data, want) {
			t.Fatalf("size %d: content differs", size)
		}
		// Released bytes stay readable, at every alignment of the range.
		for _, r := range [][2]int{{0, size}, {1, max(0, size-1)}, {size, 0}, {size / 2, size / 4}} {
			f.Release(r[0], r[1])
			if !bytes.Equal(f.Data, want) {
				t.Fatalf("size %d: content differs after Release(%d, %d)", size, r[0], r[1])
			}
		}
		for range 2 {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if f.Data != nil {
			t.Fatal("Data survives Close")
		}
	}
}

func TestMemory(t *testing.T) {
	want := bytes.Repeat([]byte("triforce"), os.Getpagesize())
	data := bytes.Clone(want)
	f := Memory(data)
	f.Release(0, len(data))
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f.Data != nil || !bytes.Equal(data, want) {
		t.Fatal("Close or Release changed the caller's bytes, or Data survives Close")
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
	var pathErr *fs.PathError
	if _, err := Open(dir); !errors.As(err, &pathErr) || pathErr.Path != dir {
		t.Errorf("folder: %v", err)
	}
}
