package bpe

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dlclark/regexp2"

	"triforce/tokenizer"
)

// behavior says what becomes of the places where a text is split.
type behavior uint8

const (
	isolated           behavior = 1 + iota // a part of their own
	removed                                // dropped
	mergedWithPrevious                     // the end of the part before
	mergedWithNext                         // the start of the part after
	contiguous                             // neighbours form one part
)

// UnmarshalJSON reads the name of a behavior.
func (b *behavior) UnmarshalJSON(data []byte) error {
	var name string
	if err := json.Unmarshal(data, &name); err != nil {
		return err
	}
	for i, n := range []string{"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"} {
		if n == name {
			*b = behavior(i + 1)
			return nil
		}
	}
	return fmt.Errorf("unknown behavior %.40q", name)
}

// span is a part of a text: a match or the gap between two.
type span struct {
	start, end int
	match      bool
}

// cut passes the parts of text on that spans and the behavior make. Spans
// cover the text; empty ones count for nothing.
func (b behavior) cut(text string, first bool, spans []span, yield emit) {
	out := spans[:0]
	wasMatch := false
	switch b {
	case isolated:
		out = spans
	case removed:
		for _, s := range spans {
			if !s.match {
				out = append(out, s)
			}
		}
	case mergedWithPrevious:
		for _, s := range spans {
			if s.match && !wasMatch && len(out) > 0 {
				out[len(out)-1].end = s.end
			} else {
				out = append(out, s)
			}
			wasMatch = s.match
		}
	case mergedWithNext:
		for i, s := range spans {
			// A match belongs to what follows unless another match does.
			if s.match && i+1 < len(spans) && !spans[i+1].match {
				spans[i+1].start = s.start
			} else {
				out = append(out, s)
			}
		}
	case contiguous:
		for _, s := range spans {
			if len(out) > 0 && s.match == wasMatch {
				out[len(out)-1].end = s.end
			} else {
				out = append(out, s)
			}
			wasMatch = s.match
		}
	}
	for _, s := range out {
		if s.start < s.end {
			yield(text[s.start:s.end], first && s.start == 0)
		}
	}
}

// runeSplit splits at characters.
type runeSplit struct {
	is  func(rune) bool
	how behavior
}

func (p runeSplit) split(text string, first bool, yield emit) {
	var spans []span
	gap := 0
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError || !p.is(r) {
			i += n
			continue
		}
		if p.how == isolated {
			if gap < i {
				yield(text[gap:i], first && gap == 0)
			}
			yield(text[i:i+n], first && i == 0)
		} else {
			spans = append(appendGap(spans, gap, i), span{i, i + n, true})
		}
		i += n
		gap = i
	}
	if p.how == isolated {
		if gap < len(text) {
			yield(text[gap:], first && gap == 0)
		}
		return
	}
	p.how.cut(text, first, appendGap(spans, gap, len(text)), yield)
}

// textSplit splits at occurrences of a text.
type textSplit struct {
	text   string
	how    behavior
	invert bool
}

func (p textSplit) split(text string, first bool, yield emit) {
	var spans []span
	at := 0
	for p.text != "" {
		i := strings.Index(text[at:], p.text)
		if i < 0 {
			break
		}
		spans = appendGap(spans, at, at+i)
		at += i + len(p.text)
		spans = append(spans, span{at - len(p.text), at, true})
	}
	p.how.cut(text, first, invert(appendGap(spans, at, len(text)), p.invert), yield)
}

// regexSplit splits at matches of a regular expression.
type regexSplit struct {
	re     *regexp2.Regexp
	how    behavior
	invert bool
}

func (p regexSplit) split(text string, first bool, yield emit) {
	p.how.cut(text, first, invert(p.spans(text), p.invert), yield)
}

// spans returns the matches in text and the gaps between them.
func (p regexSplit) spans(text string) []span {
	// The engine works on characters; at[i] is where character i begins.
	at := make([]int, 0, len(text)+1)
	chars := make([]rune, 0, len(text))
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		at, chars = append(at, i), append(chars, r)
		i += n
	}
	at = append(at, len(text))
	var spans []span
	gap := 0
	m, err := p.re.FindRunesMatch(chars)
	for ; m != nil && err == nil; m, err = p.re.FindNextMatch(m) {
		start, end := at[m.Index], at[m.Index+m.Length]
		spans = append(appendGap(spans, gap, start), span{start, end, true})
		gap = end
	}
	if err != nil { // only the time limit can be the reason
		panic(tokenizer.Endless{Pattern: p.re.String(), Chars: len(chars)})
	}
	return appendGap(spans, gap, len(text))
}

// patience is how long an expression may take from one match to the next. Files
// are not trusted, and the engine goes through all ways to match: "(a+)+$" does
// not come to an end in a line of text.
const patience = 5 * time.Second

func compile(pattern string) (*regexp2.Regexp, error) {
	re, err := regexp2.Compile(pattern, regexp2.None)
	if err != nil {
		return nil, fmt.Errorf("bpe: %w: pattern %.60q: %v", tokenizer.ErrUnsupported, pattern, err)
	}
	re.MatchTimeout = patience
	return re, nil
}

// newSplit returns the fastest splitter for a pattern.
func newSplit(pattern string, plain bool, how behavior, inverted bool) (splitter, error) {
	if plain {
		return textSplit{pattern, how, inverted}, nil
	}
	if pattern == `\p{N}` && !inverted {
		return runeSplit{unicode.IsNumber, how}, nil
	}
	// A pattern that leaves no gaps splits the same way whichever of matches
	// and gaps is dropped: inverted removal is how older files put it.
	if scan := scannerOf(pattern); scan != nil && (how == isolated || how == removed && inverted) {
		return scan, nil
	}
	re, err := compile(pattern)
	if err != nil {
		return nil, err
	}
	return regexSplit{re, how, inverted}, nil
}

func appendGap(spans []span, start, end int) []span {
	if start < end {
		spans = append(spans, span{start, end, false})
	}
	return spans
}

func invert(spans []span, yes bool) []span {
	if yes {
		for i := range spans {
			spans[i].match = !spans[i].match
		}
	}
	return spans
}
