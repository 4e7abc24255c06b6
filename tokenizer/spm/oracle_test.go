package spm_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triforce/tokenizer"
	"triforce/tokenizer/spm"
)

func open(tb testing.TB, path string) *spm.Tokenizer {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := tokenizer.FromModel(data, nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	t, err := spm.New(&s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// TestOracles compares with the SentencePiece library; testdata/oracle.py made
// the answers.
func TestOracles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.model")
	if err != nil || len(files) == 0 {
		t.Fatal("no models in testdata", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			tok := open(t, file)
			data, err := os.ReadFile(strings.TrimSuffix(file, ".model") + ".want.json")
			if err != nil {
				t.Fatal(err)
			}
			var want []struct {
				Text, Back string
				IDs        []int32
			}
			if err := json.Unmarshal(data, &want); err != nil || len(want) == 0 {
				t.Fatal("no answers", err)
			}
			for _, w := range want {
				if got := tok.Encode(nil, w.Text, tokenizer.Options{Marks: tokenizer.MarksNone}); !slices.Equal(got, w.IDs) {
					t.Errorf("%q: got %v, want %v", w.Text, got, w.IDs)
				}
				back := tokenizer.Decode(tok.Vocab(), w.IDs, tokenizer.DecodeOptions{})
				if back != strings.ReplaceAll(w.Back, " ⁇ ", "") {
					t.Errorf("decoding %q: got %q, want %q", w.Text, back, w.Back)
				}
			}
		})
	}
}
