package load_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"triforce/internal/testutil/shared"
	"triforce/tokenizer"
	"triforce/tokenizer/load"
	"triforce/weights/gguf"
)

func fromGGUF(tb testing.TB, path string) tokenizer.Tokenizer {
	tb.Helper()
	f, err := gguf.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	s, err := tokenizer.FromGGUF(f.Meta())
	if err != nil {
		tb.Fatal(err)
	}
	return build(tb, s)
}

func build(tb testing.TB, s tokenizer.Spec) tokenizer.Tokenizer {
	tb.Helper()
	t, err := load.New(&s)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func fromModel(tb testing.TB, path string) tokenizer.Tokenizer {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := tokenizer.FromModel(data, nil, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return build(tb, s)
}

type fileGolden struct {
	Count  int     `json:"count"`
	SHA256 string  `json:"sha256"`
	First  []int32 `json:"first"`
}

type goldens struct {
	SmolLM2 map[string]fileGolden `json:"smollm2"`
	Fable   map[string]fileGolden `json:"fable"`
	Strings []struct {
		Text    string  `json:"text"`
		SmolLM2 []int32 `json:"smollm2"`
		Fable   []int32 `json:"fable"`
	} `json:"strings"`
}

// TestGolden compares ids of whole books and of hard texts with those of the
// reference implementations.
func TestGolden(t *testing.T) {
	root := shared.Path(t, ".")
	data, err := os.ReadFile(filepath.Join(root, "golden", "tokenizers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want goldens
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if len(want.SmolLM2) == 0 || len(want.Fable) == 0 || len(want.Strings) == 0 {
		t.Fatal("the goldens are empty")
	}
	fable := func(i int) []int32 { return want.Strings[i].Fable }
	smol := func(i int) []int32 { return want.Strings[i].SmolLM2 }
	for _, c := range []struct {
		name    string
		tok     tokenizer.Tokenizer
		files   map[string]fileGolden
		strings func(int) []int32
	}{
		{"smollm2.gguf", fromGGUF(t, filepath.Join(root, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")), want.SmolLM2, smol},
		{"fable.gguf", fromGGUF(t, filepath.Join(root, "models", "fable-target.gguf")), want.Fable, fable},
		{"fable.model", fromModel(t, filepath.Join(root, "fable", "tok.model")), want.Fable, fable},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := tokenizer.Options{Marks: tokenizer.MarksNone}
			for i, s := range want.Strings {
				if got := c.tok.Encode(nil, s.Text, o); !slices.Equal(got, c.strings(i)) {
					t.Errorf("%q: got %v, want %v", s.Text, got, c.strings(i))
				}
			}
			for name, w := range c.files {
				text, err := os.ReadFile(filepath.Join(root, name))
				if err != nil {
					t.Fatal(err)
				}
				got := c.tok.Encode(nil, string(text), o)
				if len(got) != w.Count || sum(got) != w.SHA256 {
					n := min(len(got), len(w.First))
					t.Errorf("%s: %d tokens %s, want %d %s; begins with %v, want %v",
						name, len(got), sum(got), w.Count, w.SHA256, got[:n], w.First)
				}
				if c.name != "smollm2.gguf" { // which lacks some control characters
					if back := tokenizer.Decode(c.tok.Vocab(), got, tokenizer.DecodeOptions{}); back != string(text) {
						t.Errorf("%s: decoding gives another text", name)
					}
				}
			}
		})
	}
}

func sum(ids []int32) string {
	var buf bytes.Buffer
	_ = binary.Write(&buf, binary.LittleEndian, ids) // a Buffer does not fail
	h := sha256.Sum256(buf.Bytes())
	return hex.EncodeToString(h[:])
}

func BenchmarkEncode(b *testing.B) {
	root := shared.Path(b, ".")
	vocabs := oracles(b)
	vocabs["smollm2"] = fromGGUF(b, filepath.Join(root, "models", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	vocabs["fable"] = fromModel(b, filepath.Join(root, "fable", "tok.model"))
	for _, name := range slices.Sorted(maps.Keys(vocabs)) {
		for _, file := range []string{"books/pg155_the-moonstone.txt", "tokenizer/unicode_udhr_short.txt"} {
			text, err := os.ReadFile(filepath.Join(root, file))
			if err != nil {
				b.Fatal(err)
			}
			b.Run("vocab="+name+"/text="+filepath.Base(file), func(b *testing.B) {
				s, ids := string(text), []int32(nil)
				b.SetBytes(int64(len(s)))
				b.ReportAllocs()
				for b.Loop() {
					ids = vocabs[name].Encode(ids[:0], s, tokenizer.Options{})
				}
				b.ReportMetric(float64(len(ids))*float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}
