package bpe

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dlclark/regexp2"
)

// scanned are the expressions with a scanner. The engine that judges does not
// know that ſ is an s, so the folded forms are covered by the oracles instead.
var scanned = []string{
	gpt2Pattern,
	spelledOutMarks + llama3Numbers + newlineAware,
	spelledOutMarks + qwen2Numbers + newlineAware,
}

func parts(s splitter, text string) []string {
	var out []string
	s.split(text, true, func(part string, first bool) {
		if first != (len(out) == 0) {
			out = append(out, "first is wrong")
		}
		out = append(out, part)
	})
	return out
}

func compareScanners(t *testing.T, text string) {
	for _, pattern := range scanned {
		scan := scannerOf(pattern)
		if scan == nil {
			t.Fatalf("no scanner for %q", pattern)
		}
		re := regexSplit{re: regexp2.MustCompile(pattern, regexp2.None), how: isolated}
		if got, want := parts(scan, text), parts(re, text); !slices.Equal(got, want) {
			t.Errorf("%q with %.30q…: got %q, want %q", text, pattern, got, want)
		}
	}
}

func TestScanners(t *testing.T) {
	data, err := os.ReadFile("../load/testdata/texts.json")
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	if err := json.Unmarshal(data, &texts); err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		compareScanners(t, text)
	}
	chars := []string{"a", "B", "s", "S", "l", "r", "e", "'", "'", " ", " ", "\n", "\r", "\t", "1", "²", "é", "\u0301", "日", "🙂", "\u00a0", "\u2028", "\u200d", ".", "_", "\xff", "\xe2\x82", "\x00", "ǅ", "Ⅷ"}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var text strings.Builder
		for range rng.IntN(20) {
			text.WriteString(chars[rng.IntN(len(chars))])
		}
		compareScanners(t, text.String())
	}
}

func TestFoldedContractions(t *testing.T) {
	for _, numbers := range []string{llama3Numbers, qwen2Numbers} {
		scan := scannerOf(foldedMarks + numbers + newlineAware)
		if got, want := parts(scan, "it'ſ I'Ll"), []string{"it", "'ſ", " I", "'Ll"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzScanners(f *testing.F) {
	f.Add("I'll  go\r\n\n to\t12345 ²³'s ...\n\n ")
	f.Add("\xff\xe2\x82 日本\u3000'\u2028x")
	f.Fuzz(func(t *testing.T, text string) { compareScanners(t, text) })
}

// TestNamedPreTokenizers looks at one word boundary of each kind that GGUF
// metadata can name.
func TestNamedPreTokenizers(t *testing.T) {
	const text = "He'll pay $1234,  ok?\n\n x"
	for name, want := range map[string][]string{
		"default":        {"He", "'", "ll", " pay", " ", "$", "123", "4", ",", " ", " ok", "?", "\n\n", " x"},
		"gpt-2":          {"He", "'ll", " pay", " $", "1234", ",", " ", " ok", "?", "\n\n", " x"},
		"smollm":         {"He", "'ll", " pay", " $", "1", "2", "3", "4", ",", " ", " ok", "?", "\n\n", " x"},
		"llama-bpe":      {"He", "'ll", " pay", " $", "123", "4", ",", " ", " ok", "?\n\n", " x"},
		"qwen2":          {"He", "'ll", " pay", " $", "1", "2", "3", "4", ",", " ", " ok", "?\n\n", " x"},
		"falcon":         {"He", "'", "ll", " pay", " ", "$", "123", "4", ",", " ", " ok", "?", "\n\n", " x"},
		"tekken":         {"He", "'ll", " pay", " $", "1", "2", "3", "4", ",", " ", " ok", "?\n\n", " x"},
		"deepseek-coder": {"He", "'", "ll", " pay", " $", "1", "2", "3", "4", ",", " ", " ok", "?", "\n", "\n", " x"},
	} {
		steps, err := namedPreTokenizer(name)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorker(&Tokenizer{steps: steps})
		var got []string
		w.emit[len(steps)] = func(part string, _ bool) { got = append(got, part) }
		w.emit[0](text, true)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if _, err := namedPreTokenizer("no-such"); err == nil {
		t.Error("an unknown name is accepted")
	}
}

func BenchmarkPreTokenize(b *testing.B) {
	text := strings.Repeat("It was the best of times, it was the worst of times; 'twas 1775.\n", 2000)
	for _, name := range []string{"gpt-2", "smollm", "llama-bpe", "qwen2", "default", "tekken"} {
		steps, err := namedPreTokenizer(name)
		if err != nil {
			b.Fatal(err)
		}
		w := newWorker(&Tokenizer{steps: steps})
		w.emit[len(steps)] = func(string, bool) {}
		b.Run("pre="+name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				w.emit[0](text, true)
			}
		})
	}
}
