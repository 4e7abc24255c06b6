// Package replace writes files that take the place of others at once or not at
// all, whatever happens meanwhile. It is safe for concurrent use; of those who
// replace the same file at the same time, the last wins.
package replace

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File makes the file at path hold what write writes, and nothing else: to
// another file beside it, which is synced, given the mode, and renamed. If that
// fails, the file at path is as it was, and nothing is left beside it.
func File(path string, mode fs.FileMode, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // unless it has been renamed
	defer f.Close()
	for _, step := range []func() error{
		func() error { return write(f) },
		f.Sync, f.Close,
		func() error { return os.Chmod(f.Name(), mode) },
		func() error { return os.Rename(f.Name(), path) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(path))
}

// Data is File for data at hand.
func Data(path string, mode fs.FileMode, data []byte) error {
	return File(path, mode, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// syncDir makes a rename in the folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems cannot sync folders; the file itself is safe.
	_ = d.Sync()
	return nil
}
