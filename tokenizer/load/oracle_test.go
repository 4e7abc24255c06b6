package load_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triforce/tokenizer"
)

// oracles are the small tokenizers that testdata/oracle.py makes.
func oracles(tb testing.TB) map[string]tokenizer.Tokenizer {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.want.json")
	if err != nil || len(files) == 0 {
		tb.Fatal("no oracles in testdata", err)
	}
	all := map[string]tokenizer.Tokenizer{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".want.json")
		data, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			tb.Fatal(err)
		}
		s, err := tokenizer.FromJSON(data, nil, nil)
		if err != nil {
			tb.Fatal(name, err)
		}
		all[name] = build(tb, s)
	}
	return all
}

func readJSON(tb testing.TB, path string, v any) {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestOracles compares every kind of tokenizer.json with Hugging Face's
// library, with special tokens recognized and not, and back to text.
func TestOracles(t *testing.T) {
	var texts []string
	readJSON(t, "testdata/texts.json", &texts)
	for name, tok := range oracles(t) {
		t.Run(name, func(t *testing.T) {
			var want []struct {
				Special, Plain []int32
				Text           string
			}
			readJSON(t, filepath.Join("testdata", name+".want.json"), &want)
			if len(want) != len(texts) || len(texts) == 0 {
				t.Fatalf("%d answers to %d texts", len(want), len(texts))
			}
			v := tok.Vocab()
			show := func(ids []int32) string {
				var b strings.Builder
				for _, id := range ids {
					b.WriteString(v.Token(id) + "|")
				}
				return b.String()
			}
			for i, text := range texts {
				got := tok.Encode(nil, text, tokenizer.Options{Special: true})
				if !slices.Equal(got, want[i].Special) {
					t.Errorf("special %q:\n got %s\nwant %s", text, show(got), show(want[i].Special))
				}
				if got := tok.Encode(nil, text, tokenizer.Options{}); !slices.Equal(got, want[i].Plain) {
					t.Errorf("plain %q:\n got %s\nwant %s", text, show(got), show(want[i].Plain))
				}
				if name == "unfused" {
					continue // without a decoder the library puts spaces between tokens
				}
				if back := tokenizer.Decode(v, want[i].Special, tokenizer.DecodeOptions{}); back != want[i].Text {
					t.Errorf("decoding %q: got %q, want %q", text, back, want[i].Text)
				}
			}
		})
	}
}
