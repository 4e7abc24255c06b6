package tokenizer_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"triforce/tokenizer"
)

// small is a SentencePiece vocabulary with one token of every kind.
func small() tokenizer.Spec {
	return tokenizer.Spec{
		Model:          tokenizer.SentencePiece,
		Tokens:         []string{"<unk>", "<s>", "</s>", "<0xE2>", "<0x82>", "<0xAC>", "▁a", "b", "<sep>", "", "<|im_end|>", "<0x20>"},
		Scores:         make([]float32, 12),
		Types:          []tokenizer.Type{2, 3, 3, 6, 6, 6, 1, 1, 4, 5, 3, 6},
		BOS:            1,
		EOS:            2,
		Unk:            0,
		EOG:            []int32{8},
		AddSpacePrefix: true,
		AddBOS:         true,
		ChatTemplate:   "template",
	}
}

func newVocab(t *testing.T, s tokenizer.Spec) *tokenizer.Vocab {
	t.Helper()
	v, err := tokenizer.NewVocab(&s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVocab(t *testing.T) {
	v := newVocab(t, small())
	if v.Size() != 12 || v.BOS() != 1 || v.EOS() != 2 || v.Unk() != 0 || !v.AddsBOS() || !v.SpacePrefix() || v.ChatTemplate() != "template" {
		t.Errorf("roles are wrong: %+v", v)
	}
	if got, want := v.EOG(), []int32{2, 8, 10}; !slices.Equal(got, want) {
		t.Errorf("tokens that end a generation: %v, want %v", got, want)
	}
	for id := int32(-2); id < 16; id++ {
		if v.IsEOG(id) != slices.Contains(v.EOG(), id) {
			t.Errorf("IsEOG(%d) is %v", id, v.IsEOG(id))
		}
	}
	for _, c := range []struct {
		id           int32
		token, piece string
		typ          tokenizer.Type
	}{
		{0, "<unk>", "", tokenizer.Unknown}, {1, "<s>", "", tokenizer.Control}, {3, "<0xE2>", "\xe2", tokenizer.Byte},
		{6, "▁a", " a", tokenizer.Normal}, {8, "<sep>", "<sep>", tokenizer.UserDefined}, {9, "", "", tokenizer.Unused},
		{12, "", "", tokenizer.Unused}, {-1, "", "", tokenizer.Unused}, {math.MaxInt32, "", "", tokenizer.Unused},
	} {
		if v.Token(c.id) != c.token || v.Piece(c.id) != c.piece || v.Type(c.id) != c.typ {
			t.Errorf("%d: got %q, %q, %d, want %+v", c.id, v.Token(c.id), v.Piece(c.id), v.Type(c.id), c)
		}
	}
	if id, ok := v.ID("▁a"); !ok || id != 6 {
		t.Errorf("▁a is %d, %v", id, ok)
	}
	if _, ok := v.ID(""); ok {
		t.Error("a hole has a name")
	}
}

func TestByteAlphabet(t *testing.T) {
	seen := map[rune]bool{}
	for b := range 256 {
		r := tokenizer.ByteRune(byte(b))
		if seen[r] {
			t.Fatalf("%q spells two bytes", r)
		}
		seen[r] = true
		if got := tokenizer.AppendByteLevel(nil, string(r)); !slices.Equal(got, []byte{byte(b)}) {
			t.Errorf("byte %d comes back as %v", b, got)
		}
	}
	for r, want := range map[rune]byte{'Ġ': ' ', 'Ċ': '\n', 'Ń': 0xAD, 'ł': 0xA0, 'ġ': 0x7F, 'é': 'é', 'A': 'A'} {
		if tokenizer.ByteRune(want) != r {
			t.Errorf("byte %d is spelled %q, want %q", want, tokenizer.ByteRune(want), r)
		}
	}
	if got := string(tokenizer.AppendByteLevel([]byte("x"), "Ġ日")); got != "xĠ日" {
		t.Errorf("a token outside of the alphabet becomes %q", got)
	}
}

func TestBadSpecs(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*tokenizer.Spec)
		kind   error
		says   string
	}{
		{"model", func(s *tokenizer.Spec) { s.Model = "t5" }, tokenizer.ErrUnsupported, "t5"},
		{"empty", func(s *tokenizer.Spec) { s.Tokens = nil }, tokenizer.ErrCorrupt, "no tokens"},
		{"scores", func(s *tokenizer.Spec) { s.Scores = s.Scores[1:] }, tokenizer.ErrCorrupt, "11 scores for 12"},
		{"no scores", func(s *tokenizer.Spec) { s.Scores = nil }, tokenizer.ErrCorrupt, "no scores"},
		{"types", func(s *tokenizer.Spec) { s.Types = s.Types[1:] }, tokenizer.ErrCorrupt, "11 token types for 12"},
		{"type", func(s *tokenizer.Spec) { s.Types[3] = 7 }, tokenizer.ErrCorrupt, "token 3 has type 7"},
		{"no type", func(s *tokenizer.Spec) { s.Types[3] = 0 }, tokenizer.ErrCorrupt, "token 3 has type 0"},
		{"NaN", func(s *tokenizer.Spec) { s.Scores[4] = float32(math.NaN()) }, tokenizer.ErrCorrupt, "token 4"},
		{"bos", func(s *tokenizer.Spec) { s.BOS = 12 }, tokenizer.ErrCorrupt, "bos token id 12"},
		{"eos", func(s *tokenizer.Spec) { s.EOS = -2 }, tokenizer.ErrCorrupt, "eos token id -2"},
		{"unk", func(s *tokenizer.Spec) { s.Unk = math.MaxInt32 }, tokenizer.ErrCorrupt, "unknown token id"},
		{"eog", func(s *tokenizer.Spec) { s.EOG = []int32{-1} }, tokenizer.ErrCorrupt, "end-of-generation"},
		{"added", func(s *tokenizer.Spec) { s.Added = []tokenizer.Added{{ID: 99}} }, tokenizer.ErrCorrupt, "99"},
		{"duplicate", func(s *tokenizer.Spec) { s.Tokens[7] = "▁a" }, tokenizer.ErrCorrupt, "tokens 6 and 7"},
		{"byte", func(s *tokenizer.Spec) { s.Tokens[3] = "<0xe2>" }, tokenizer.ErrCorrupt, "byte token 3"},
		{"long", func(s *tokenizer.Spec) { s.Tokens[7] = strings.Repeat("x", 2000) }, tokenizer.ErrCorrupt, "2000 bytes"},
	} {
		s := small()
		c.change(&s)
		if _, err := tokenizer.NewVocab(&s); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", c.name, err, c.kind, c.says)
		}
	}
}

func TestCompatible(t *testing.T) {
	target := newVocab(t, small())
	padded := small()
	padded.Tokens = append(padded.Tokens, "[PAD12]", "[PAD13]")
	padded.Scores = make([]float32, 14)
	padded.Types = append(padded.Types, tokenizer.Unused, tokenizer.Unused)
	other := small()
	other.Tokens[7] = "c"
	for _, c := range []struct {
		name string
		a, b *tokenizer.Vocab
	}{{"same", target, newVocab(t, small())}, {"padded draft", target, newVocab(t, padded)}, {"padded target", newVocab(t, padded), target}} {
		if err := tokenizer.Compatible(c.a, c.b); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	other.Tokens, other.Scores, other.Types = other.Tokens[:9], other.Scores[:9], other.Types[:9]
	err := tokenizer.Compatible(target, newVocab(t, other))
	if !errors.Is(err, tokenizer.ErrMismatch) {
		t.Fatalf("another vocabulary gives %v", err)
	}
	for _, part := range []string{"12", "9", "token 7", `"b"`, `"c"`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %s", err, part)
		}
	}
}
