package bpe_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"triforce/tokenizer"
	"triforce/tokenizer/bpe"
)

// spell writes bytes in the byte-level alphabet.
func spell(s string) string {
	var out strings.Builder
	for i := range len(s) {
		out.WriteRune(tokenizer.ByteRune(s[i]))
	}
	return out.String()
}

// tiny is a byte-level vocabulary with merges that build words of text.
func tiny(rng *rand.Rand, text string, pre string) tokenizer.Spec {
	s := tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, Pre: pre, BOS: -1, EOS: -1, Unk: -1}
	known := map[string]bool{}
	for b := range 256 {
		t := spell(string([]byte{byte(b)}))
		s.Tokens = append(s.Tokens, t)
		known[t] = true
	}
	for range rng.IntN(30) {
		// Join two tokens that stand side by side somewhere.
		if len(text) < 2 {
			break
		}
		i := rng.IntN(len(text) - 1)
		left := spell(text[i : i+1])
		for n := 2; n < 6 && i+n < len(text) && known[spell(text[i:i+n])] && rng.IntN(2) == 0; n++ {
			left = spell(text[i : i+n])
		}
		j := i + utf8.RuneCountInString(left)
		if j >= len(text) {
			continue
		}
		right := spell(text[j : j+1])
		if known[left+right] {
			continue
		}
		known[left+right] = true
		s.Tokens = append(s.Tokens, left+right)
		s.Merges = append(s.Merges, [2]string{left, right})
	}
	return s
}

// naive applies each merge in turn to a single word, wherever it can.
func naive(s *tokenizer.Spec, word string) []int32 {
	var parts []string
	for i := range len(word) {
		parts = append(parts, spell(word[i:i+1]))
	}
	for {
		best, rank := -1, len(s.Merges)
		for i := 0; i+1 < len(parts); i++ {
			if r := slices.Index(s.Merges, [2]string{parts[i], parts[i+1]}); r >= 0 && r < rank {
				best, rank = i, r
			}
		}
		if best < 0 {
			break
		}
		parts[best] += parts[best+1]
		parts = slices.Delete(parts, best+1, best+2)
	}
	var ids []int32
	for _, p := range parts {
		ids = append(ids, int32(slices.Index(s.Tokens, p)))
	}
	return ids
}

func checkTiny(t *testing.T, seed uint64, text string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	pres := []string{"gpt-2", "llama-bpe", "qwen2", "smollm", "default"}
	s := tiny(rng, text, pres[rng.IntN(len(pres))])
	tok, err := bpe.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	ids := tok.Encode(nil, text, tokenizer.Options{})
	if back := tokenizer.Decode(tok.Vocab(), ids, tokenizer.DecodeOptions{}); back != text {
		t.Fatalf("seed %d, %s, %q: decoded as %q", seed, s.Pre, text, back)
	}
	if again := tok.Encode(nil, text, tokenizer.Options{}); !slices.Equal(again, ids) {
		t.Fatalf("seed %d, %s, %q: the second time %v, not %v", seed, s.Pre, text, again, ids)
	}
	s.PreTokenizer = []byte(`{"type":"Sequence","pretokenizers":[]}`) // all one word
	if tok, err = bpe.New(&s); err != nil {
		t.Fatal(err)
	}
	if got, want := tok.Encode(nil, text, tokenizer.Options{}), naive(&s, text); !slices.Equal(got, want) {
		t.Fatalf("seed %d, %q as one word with %q: got %v, want %v", seed, text, s.Merges, got, want)
	}
}

func TestTinyVocabularies(t *testing.T) {
	letters := []string{"a", "b", " ", "c", "1", "\n", "'s", "é", "日", "\xff", "\x00"}
	for seed := range uint64(1500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var text strings.Builder
		for range rng.IntN(50) {
			text.WriteString(letters[rng.IntN(2+rng.IntN(len(letters)-1))])
		}
		checkTiny(t, seed, text.String())
	}
}

func FuzzTinyVocabulary(f *testing.F) {
	f.Add(uint64(1), "")
	f.Add(uint64(2), "abab  abba's 123")
	f.Add(uint64(3), "a\xffé\xe2\x96▁日本\r\n")
	f.Fuzz(func(t *testing.T, seed uint64, text string) {
		if len(text) > 300 {
			return // the naive side takes cubic time
		}
		checkTiny(t, seed, text)
	})
}

// TestMissingBytes drops bytes that the vocabulary cannot spell, as the models
// that lack some were trained, unless there is an unknown token.
func TestMissingBytes(t *testing.T) {
	s := tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, Pre: "gpt-2",
		Tokens: []string{"a", "b", "<unk>", "ab"}, Merges: [][2]string{{"a", "b"}}, BOS: -1, EOS: -1, Unk: -1}
	for _, c := range []struct {
		unk  int32
		fuse bool
		want []int32
	}{{-1, false, []int32{3}}, {2, false, []int32{0, 2, 2, 1}}, {2, true, []int32{0, 2, 1}}} {
		s.Unk, s.FuseUnk = c.unk, c.fuse
		tok, err := bpe.New(&s)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(nil, "axyb", tokenizer.Options{}); !slices.Equal(got, c.want) {
			t.Errorf("unk %d, fuse %v: got %v, want %v", c.unk, c.fuse, got, c.want)
		}
		lost, first := tok.Lost("axyb")
		if want := c.unk < 0; want != (lost == 2 && first == 1) || !want && lost != 0 {
			t.Errorf("unk %d: %d bytes lost from %d on", c.unk, lost, first)
		}
	}
}

// TestIgnoreMerges has a word that is a token but that no merges lead to.
func TestIgnoreMerges(t *testing.T) {
	s := tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, Pre: "gpt-2",
		Tokens: []string{"a", "b", "Ġ", "Ġab"}, BOS: -1, EOS: -1, Unk: -1}
	for _, c := range []struct {
		ignore bool
		want   []int32
	}{{false, []int32{2, 0, 1}}, {true, []int32{3}}} {
		s.IgnoreMerges = c.ignore
		tok, err := bpe.New(&s)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(nil, " ab", tokenizer.Options{}); !slices.Equal(got, c.want) {
			t.Errorf("ignoring merges %v: got %v, want %v", c.ignore, got, c.want)
		}
	}
}

func TestLongWord(t *testing.T) {
	s := tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, Pre: "llama-bpe",
		Tokens: []string{"a", "aa", "aaaa"}, Merges: [][2]string{{"a", "a"}, {"aa", "aa"}}, BOS: -1, EOS: -1, Unk: -1}
	tok, err := bpe.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1 << 20
	if got := tok.Encode(nil, strings.Repeat("a", n), tokenizer.Options{}); len(got) != n/4 {
		t.Fatalf("%d tokens, want %d", len(got), n/4)
	}
}

func TestBadSpecs(t *testing.T) {
	base := func() tokenizer.Spec {
		return tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, Pre: "gpt-2",
			Tokens: []string{"a", "b", "ab"}, Merges: [][2]string{{"a", "b"}}, BOS: -1, EOS: -1, Unk: -1}
	}
	for _, c := range []struct {
		name   string
		change func(*tokenizer.Spec)
		kind   error
		says   string
	}{
		{"left missing", func(s *tokenizer.Spec) { s.Merges[0][0] = "x" }, tokenizer.ErrCorrupt, `needs token "x"`},
		{"right missing", func(s *tokenizer.Spec) { s.Merges[0][1] = "y" }, tokenizer.ErrCorrupt, `needs token "y"`},
		{"result missing", func(s *tokenizer.Spec) { s.Merges[0] = [2]string{"b", "a"} }, tokenizer.ErrCorrupt, `needs token "ba"`},
		{"empty half", func(s *tokenizer.Spec) { s.Merges[0] = [2]string{"a", ""} }, tokenizer.ErrCorrupt, `needs token ""`},
		{"pre", func(s *tokenizer.Spec) { s.Pre = "nope" }, tokenizer.ErrUnsupported, `"nope"`},
		{"regex", func(s *tokenizer.Spec) {
			s.PreTokenizer = []byte(`{"type":"Split","behavior":"Isolated","pattern":{"Regex":"("}}`)
		}, tokenizer.ErrUnsupported, "pattern"},
		{"behavior", func(s *tokenizer.Spec) {
			s.PreTokenizer = []byte(`{"type":"Split","behavior":"Sideways","pattern":{"String":"x"}}`)
		}, tokenizer.ErrCorrupt, "Sideways"},
		{"no behavior", func(s *tokenizer.Spec) { s.PreTokenizer = []byte(`{"type":"Split","pattern":{"String":"x"}}`) }, tokenizer.ErrCorrupt, "behavior"},
		{"no pattern", func(s *tokenizer.Spec) { s.PreTokenizer = []byte(`{"type":"Split","behavior":"Removed"}`) }, tokenizer.ErrCorrupt, "pattern"},
		{"unknown step", func(s *tokenizer.Spec) { s.PreTokenizer = []byte(`{"type":"Magic"}`) }, tokenizer.ErrUnsupported, "Magic"},
		{"unknown normalizer", func(s *tokenizer.Spec) { s.Normalizer = []byte(`{"type":"Magic"}`) }, tokenizer.ErrUnsupported, "Magic"},
		{"not an object", func(s *tokenizer.Spec) { s.Normalizer = []byte(`7`) }, tokenizer.ErrCorrupt, "normalizer"},
		{"model", func(s *tokenizer.Spec) { s.Model = tokenizer.SentencePiece }, tokenizer.ErrUnsupported, "llama"},
	} {
		s := base()
		c.change(&s)
		if _, err := bpe.New(&s); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", c.name, err, c.kind, c.says)
		}
	}
	s := base()
	if _, err := bpe.New(&s); err != nil {
		t.Error("the unchanged spec is refused:", err)
	}
}

// TestEncodeAllocatesLittle encodes words that the cache knows. The bound is
// not zero because the race detector makes pools forget.
func TestEncodeAllocatesLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	text := strings.Repeat("it was the best of times, it was 1775", 20)
	s := tiny(rng, text, "smollm")
	tok, err := bpe.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]int32, 0, len(text))
	if n := testing.AllocsPerRun(100, func() { tok.Encode(dst, text, tokenizer.Options{}) }); n > 10 {
		t.Errorf("%v allocations a call", n)
	}
}
