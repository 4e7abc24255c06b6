package replace

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// A file is replaced whole, and one that cannot be written is left as it was.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	broken := errors.New("broken")
	for _, step := range []struct {
		text string
		err  error
		want string
	}{
		{"first", nil, "first"},
		{"sec", broken, "first"},
		{"third", nil, "third"},
	} {
		err := File(path, 0o640, func(w io.Writer) error {
			_, err := io.WriteString(w, step.text)
			return errors.Join(err, step.err)
		})
		if !errors.Is(err, step.err) {
			t.Fatalf("%s: error is %v, expected %v", step.text, err, step.err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != step.want {
			t.Fatalf("%s: the file holds %q (%v), expected %q", step.text, got, err, step.want)
		}
		if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
			t.Fatalf("%s: the folder holds %v (%v), expected one file", step.text, all, err)
		}
	}
	if err := Data(filepath.Join(dir, "none", "file"), 0o644, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder that is not there: error is %v, expected ErrNotExist", err)
	}
}
