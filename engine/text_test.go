package engine

import (
	"strings"
	"testing"
	"unicode/utf8"

	"triforce/tokenizer"
)

// bytesVocab is a vocabulary in which token b is the byte b.
func bytesVocab(t *testing.T) *tokenizer.Vocab {
	t.Helper()
	s := &tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, BOS: -1, EOS: -1, Unk: -1}
	for b := range 256 {
		s.Tokens = append(s.Tokens, string(tokenizer.ByteRune(byte(b))))
	}
	v, err := tokenizer.NewVocab(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestTextStream feeds texts byte by byte: what comes out is the text before
// the first stop string, whole characters at a time, and as early as can be.
func TestTextStream(t *testing.T) {
	vocab := bytesVocab(t)
	for _, c := range []struct {
		text  string
		stops []string
		want  string
		// held is the most bytes that may be held back at any time.
		held int
	}{
		{"plain text", nil, "plain text", 0},
		{"naïve 日本 🙂", nil, "naïve 日本 🙂", 3},
		{"cut \xe6\x97", nil, "cut \xe6\x97", 2},
		{"one\ntwo\n\nthree", []string{"\n\n"}, "one\ntwo", 1},
		{"aabaabaac", []string{"aabaac"}, "aab", 5},
		{"stop at STOP or END", []string{"END", "STOP"}, "stop at ", 3},
		{"nearly STO", []string{"STOP"}, "nearly STO", 3},
		{"STOP", []string{"STOP"}, "", 3},
		{"a日b", []string{"日"}, "a", 2},
		{"never", []string{"nevermore"}, "never", 5},
	} {
		s := newTextStream(vocab, c.stops)
		var out strings.Builder
		ended := false
		for i := range len(c.text) {
			piece, stopped := s.next(int32(c.text[i]))
			if !utf8.Valid(piece) {
				t.Errorf("%q: piece %q is not whole characters", c.text, piece)
			}
			out.Write(piece)
			if ended = stopped; ended {
				break
			}
			if held := i + 1 - out.Len(); held > c.held {
				t.Errorf("%q: %d bytes held back after %q, expected at most %d", c.text, held, c.text[:i+1], c.held)
			}
		}
		out.Write(s.rest())
		if out.String() != c.want {
			t.Errorf("%q until %q: got %q, expected %q", c.text, c.stops, out.String(), c.want)
		}
		if stops := len(c.want) < len(c.text); ended != stops {
			t.Errorf("%q until %q: stopped is %v", c.text, c.stops, ended)
		}
	}
}

func TestTextStreamAllocs(t *testing.T) {
	s := newTextStream(bytesVocab(t), []string{"stop", "xyz"})
	id := int32(0)
	if n := testing.AllocsPerRun(1000, func() {
		s.next('a' + id%16)
		id++
	}); n != 0 {
		t.Errorf("%v allocations a token", n)
	}
}
