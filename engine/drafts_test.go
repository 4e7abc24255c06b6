package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDrafts(t *testing.T) {
	f, err := OpenFile("", Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	path := filepath.Join(t.TempDir(), "new", "drafts.json")
	d := OpenDrafts(path)
	of := func(want string) {
		t.Helper()
		if got, err := d.Of(Embedded); err != nil || got != want {
			t.Errorf("%q, %v; expected %q", got, err, want)
		}
	}
	of("")
	if err := d.Record(f, "fable", "small.gguf"); err != nil {
		t.Fatal(err)
	}
	of("small.gguf")
	if got, err := d.Of(EmbeddedDraft); err != nil || got != "" {
		t.Errorf("another model's draft: %q, %v", got, err)
	}
	if _, err := d.Of(filepath.Join(t.TempDir(), "none.gguf")); err == nil {
		t.Error("a model that is not there has a draft")
	}
	if err := d.Record(f, "fable", ""); err != nil {
		t.Fatal(err)
	}
	of("")
	for _, bad := range []string{"{", "[]", `{"a":1}`, strings.Repeat(" ", maxDrafts+1)} {
		if err := os.WriteFile(path, []byte(bad), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := d.All(); err == nil || !strings.Contains(err.Error(), "remove the file") {
			t.Errorf("%.20q: %v", bad, err)
		}
		if err := d.Record(f, "fable", "x"); err == nil {
			t.Errorf("%.20q: was overwritten", bad)
		}
	}
}
