package bpe

import (
	"slices"
	"strings"
	"testing"
	"time"

	"triforce/tokenizer"
)

// TestBehaviors splits one text in every way; the answers are those of Hugging
// Face's library.
func TestBehaviors(t *testing.T) {
	const text = "-the--final-cut--"
	for _, c := range []struct {
		how      behavior
		inverted bool
		want     []string
	}{
		{isolated, false, []string{"-", "the", "-", "-", "final", "-", "cut", "-", "-"}},
		{isolated, true, []string{"-", "the", "-", "-", "final", "-", "cut", "-", "-"}},
		{removed, false, []string{"the", "final", "cut"}},
		{removed, true, []string{"-", "-", "-", "-", "-", "-"}},
		{mergedWithPrevious, false, []string{"-", "the-", "-", "final-", "cut-", "-"}},
		{mergedWithPrevious, true, []string{"-the", "-", "-final", "-cut", "-", "-"}},
		{mergedWithNext, false, []string{"-the", "-", "-final", "-cut", "-", "-"}},
		{mergedWithNext, true, []string{"-", "the-", "-", "final-", "cut-", "-"}},
		{contiguous, false, []string{"-", "the", "--", "final", "-", "cut", "--"}},
		{contiguous, true, []string{"-", "the", "--", "final", "-", "cut", "--"}},
	} {
		for _, plain := range []bool{false, true} {
			s, err := newSplit("-", plain, c.how, c.inverted)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			s.split(text, false, func(part string, _ bool) { got = append(got, part) })
			if !slices.Equal(got, c.want) {
				t.Errorf("behavior %d, inverted %v, plain %v: got %q, want %q", c.how, c.inverted, plain, got, c.want)
			}
		}
		if c.inverted {
			continue
		}
		var got []string
		runeSplit{func(r rune) bool { return r == '-' }, c.how}.split(text, false, func(part string, _ bool) { got = append(got, part) })
		if !slices.Equal(got, c.want) {
			t.Errorf("behavior %d at characters: got %q, want %q", c.how, got, c.want)
		}
	}
	s, err := newSplit("", true, isolated, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := parts(s, text); !slices.Equal(got, []string{text}) {
		t.Errorf("the empty pattern gives %q", got)
	}
}

// An expression that goes through all ways to match ends with the reason.
func TestEndlessPattern(t *testing.T) {
	split, err := newSplit("(a+)+$", false, isolated, false)
	if err != nil {
		t.Fatal(err)
	}
	endless := split.(regexSplit)
	endless.re.MatchTimeout = time.Millisecond
	defer func() {
		if got, want := recover(), (tokenizer.Endless{Pattern: "(a+)+$", Chars: 41}); got != want {
			t.Errorf("panic with %v, expected %v", got, want)
		}
	}()
	endless.split(strings.Repeat("a", 40)+"b", true, func(string, bool) {})
}
