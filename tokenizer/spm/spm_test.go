package spm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"triforce/tokenizer"
	"triforce/tokenizer/spm"
)

// tiny is a vocabulary over a few characters with all byte tokens.
func tiny(tokens map[string]float32) tokenizer.Spec {
	s := tokenizer.Spec{Model: tokenizer.SentencePiece, BOS: 1, EOS: 2, Unk: 0, AddBOS: true, AddSpacePrefix: true}
	add := func(t string, score float32, typ tokenizer.Type) {
		s.Tokens, s.Scores, s.Types = append(s.Tokens, t), append(s.Scores, score), append(s.Types, typ)
	}
	add("<unk>", 0, tokenizer.Unknown)
	add("<s>", 0, tokenizer.Control)
	add("</s>", 0, tokenizer.Control)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), 0, tokenizer.Byte)
	}
	names := make([]string, 0, len(tokens))
	for t := range tokens {
		names = append(names, t)
	}
	slices.Sort(names)
	for _, t := range names {
		add(t, tokens[t], tokenizer.Normal)
	}
	return s
}

// naive merges by the definition: again and again the best neighbouring pair.
func naive(s *tokenizer.Spec, text string) []int32 {
	ids := map[string]int32{}
	for i, t := range s.Tokens {
		if s.Types[i] == tokenizer.Normal {
			ids[t] = int32(i)
		}
	}
	if text == "" {
		return nil
	}
	var parts []string
	for rest := strings.ReplaceAll(" "+text, " ", "▁"); rest != ""; {
		_, n := utf8.DecodeRuneInString(rest)
		parts, rest = append(parts, rest[:n]), rest[n:]
	}
	for {
		best := -1
		for i := 0; i+1 < len(parts); i++ {
			if id, ok := ids[parts[i]+parts[i+1]]; ok && (best < 0 || s.Scores[id] > s.Scores[ids[parts[best]+parts[best+1]]]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		parts[best] += parts[best+1]
		parts = slices.Delete(parts, best+1, best+2)
	}
	var out []int32
	for _, p := range parts {
		if id, ok := ids[p]; ok {
			out = append(out, id)
			continue
		}
		for i := range len(p) {
			out = append(out, 3+int32(p[i]))
		}
	}
	return out
}

// checkTiny encodes text with a random vocabulary over its own substrings.
func checkTiny(t *testing.T, seed uint64, text string) {
	rng := rand.New(rand.NewPCG(seed, 0))
	tokens := map[string]float32{"▁": -1} // without it, a space comes back as this character
	for source := strings.ReplaceAll(" "+text, " ", "▁"); len(tokens) < 12; {
		if i := rng.IntN(len(source)); utf8.RuneStart(source[i]) {
			end := min(i+1+rng.IntN(8), len(source))
			for end < len(source) && !utf8.RuneStart(source[end]) {
				end++
			}
			if utf8.ValidString(source[i:end]) {
				tokens[source[i:end]] = float32(rng.IntN(5))
			}
		}
		if rng.IntN(30) == 0 {
			break
		}
	}
	s := tiny(tokens)
	tok, err := spm.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	o := tokenizer.Options{Marks: tokenizer.MarksNone}
	got := tok.Encode(nil, text, o)
	if want := naive(&s, text); !slices.Equal(got, want) {
		t.Fatalf("seed %d, %q with %v: got %v, want %v", seed, text, tokens, got, want)
	}
	if again := tok.Encode(nil, text, o); !slices.Equal(got, again) {
		t.Fatalf("seed %d, %q: the second time %v, not %v", seed, text, again, got)
	}
	// A ▁ in the text comes back as a space: the one ambiguity of the format.
	if back := tokenizer.Decode(tok.Vocab(), got, tokenizer.DecodeOptions{}); back != strings.ReplaceAll(text, "▁", " ") {
		t.Fatalf("seed %d, %q: decoded as %q", seed, text, back)
	}
}

func TestTinyVocabularies(t *testing.T) {
	letters := []string{"a", "b", "c", " ", "\n", "é", "日", "\xff"}
	for seed := range uint64(2000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var text strings.Builder
		for range rng.IntN(60) {
			text.WriteString(letters[rng.IntN(2+rng.IntN(len(letters)-1))])
		}
		checkTiny(t, seed, text.String())
	}
}

func FuzzTinyVocabulary(f *testing.F) {
	f.Add(uint64(1), "")
	f.Add(uint64(2), "abab  abba")
	f.Add(uint64(3), "a\xffé\xe2\x96▁日本\r\n")
	f.Fuzz(func(t *testing.T, seed uint64, text string) {
		if len(text) > 300 {
			return // the naive side takes cubic time
		}
		checkTiny(t, seed, text)
	})
}

func TestOptions(t *testing.T) {
	s := tiny(map[string]float32{"▁": -9, "a": -8, "b": -8, "▁a": 1, "s": -9})
	s.Tokens, s.Scores, s.Types = append(s.Tokens, "<x>"), append(s.Scores, 0), append(s.Types, tokenizer.UserDefined)
	s.AddEOS = true
	tok, err := spm.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	id := func(token string) int32 {
		id, ok := tok.Vocab().ID(token)
		if !ok {
			t.Fatalf("no token %q", token)
		}
		return id
	}
	lt, gt := id("<0x3C>"), id("<0x3E>")
	for _, c := range []struct {
		text string
		o    tokenizer.Options
		want []int32
	}{
		{"", tokenizer.Options{}, []int32{1, 2}},
		{"", tokenizer.Options{Marks: tokenizer.MarksNone}, nil},
		{"a", tokenizer.Options{}, []int32{1, id("▁a"), 2}},
		{"a", tokenizer.Options{Marks: tokenizer.MarksBOS}, []int32{1, id("▁a")}},
		{"a", tokenizer.Options{Marks: tokenizer.MarksNone}, []int32{id("▁a")}},
		{"b<s>a", tokenizer.Options{Marks: tokenizer.MarksNone, Special: true}, []int32{id("▁"), id("b"), 1, id("▁a")}},
		{"b<s>a", tokenizer.Options{Marks: tokenizer.MarksNone}, []int32{id("▁"), id("b"), lt, id("s"), gt, id("a")}},
		{"b<x>a", tokenizer.Options{Marks: tokenizer.MarksNone}, []int32{id("▁"), id("b"), id("<x>"), id("a")}},
		{"<s>", tokenizer.Options{Marks: tokenizer.MarksNone, Special: true}, []int32{1}},
	} {
		if got := tok.Encode(nil, c.text, c.o); !slices.Equal(got, c.want) {
			t.Errorf("%q with %+v: got %v, want %v", c.text, c.o, got, c.want)
		}
	}
	prefix := []int32{7, 8}
	if got := tok.Encode(prefix, "a", tokenizer.Options{}); !slices.Equal(got, []int32{7, 8, 1, id("▁a"), 2}) {
		t.Errorf("appending to %v gives %v", prefix, got)
	}
}

// TestLongWord encodes a megabyte that nothing cuts, which is hopeless in
// quadratic time.
func TestLongWord(t *testing.T) {
	s := tiny(map[string]float32{"a": -3, "aa": -2, "aaaa": -1})
	tok, err := spm.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1 << 20
	got := tok.Encode(nil, strings.Repeat("a", n), tokenizer.Options{Marks: tokenizer.MarksNone})
	if len(got) != 3+n/4 {
		t.Fatalf("%d tokens, want %d", len(got), 3+n/4)
	}
}

func TestConcurrent(t *testing.T) {
	tok := open(t, "testdata/fallback.model")
	text := strings.Repeat("it was the best of times, ", 50)
	want := tok.Encode(nil, text, tokenizer.Options{})
	done := make(chan []int32)
	for range 4 {
		go func() { done <- tok.Encode(nil, text, tokenizer.Options{}) }()
	}
	for range 4 {
		if got := <-done; !slices.Equal(got, want) {
			t.Error("concurrent calls differ")
		}
	}
}

func TestEncodeAllocatesNothing(t *testing.T) {
	s := tiny(map[string]float32{"a": -3, "b": -2, "ab": -1})
	s.AddSpacePrefix = false
	tok, err := spm.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]int32, 0, 1000)
	if n := testing.AllocsPerRun(100, func() { tok.Encode(dst, "ababbaab", tokenizer.Options{}) }); n != 0 {
		t.Errorf("%v allocations a call", n)
	}
}

func FuzzModel(f *testing.F) {
	data, err := os.ReadFile("testdata/trim.model")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:600])
	f.Add(data[len(data)-600:])
	f.Add([]byte("\x0a\x0b\x0a\x05<unk>\x18\x02\x12\x02\x18\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := tokenizer.FromModel(data, nil, nil)
		if err == nil {
			var tok *spm.Tokenizer
			if tok, err = spm.New(&s); err == nil {
				tok.Encode(nil, string(data), tokenizer.Options{Special: true})
				return
			}
		}
		if !errors.Is(err, tokenizer.ErrCorrupt) && !errors.Is(err, tokenizer.ErrUnsupported) {
			t.Errorf("error %v is of no kind", err)
		}
	})
}
