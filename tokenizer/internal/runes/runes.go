// Package runes encodes text whose symbols are characters, with spaces spelled
// ▁: what SentencePiece vocabularies and their merge-list form have in common.
//
// An Encoder is immutable and safe for concurrent use; Scratch belongs to one
// goroutine.
package runes

import (
	"strings"
	"unicode/utf8"

	"triforce/tokenizer"
	"triforce/tokenizer/internal/merge"
)

// Encoder merges the characters of a text into tokens.
//
// Text is cut where the merges cannot reach across: between two characters
// that no token has next to each other. The parts are words to the cache, and
// keep the merging of a long text short.
type Encoder struct {
	table *merge.Table
	cache *merge.Cache
	ascii [utf8.RuneSelf]int32 // symbols of characters
	other map[rune]int32
	size  int32  // symbols from here on are loose characters
	loose []rune // characters that occur in tokens but are none
	dense [utf8.RuneSelf + 1][utf8.RuneSelf + 1]bool
	pairs map[[2]rune]bool // neighbours within tokens, where not in dense
	bytes []int32          // tokens of the 256 bytes, or nil
	unk   int32            // or -1
	fuse  bool             // one unknown token for neighbours
}

// Scratch is the memory of one encoding goroutine.
type Scratch struct {
	merge merge.Scratch
	word  []int32
}

// New returns an encoder of v without merges; Learn adds what the merges need.
// With byteFallback, unknown characters become the vocabulary's byte tokens if
// it has all 256; otherwise the unknown token, fused with its neighbour if
// asked.
func New(v *tokenizer.Vocab, byteFallback, fuseUnk bool) *Encoder {
	e := &Encoder{
		cache: merge.NewCache(), other: map[rune]int32{}, pairs: map[[2]rune]bool{},
		size: int32(v.Size()), unk: v.Unk(), fuse: fuseUnk,
	}
	for r := range e.ascii {
		e.ascii[r] = ^int32(r)
	}
	if byteFallback {
		e.bytes = byteTokens(v)
	}
	for id := range e.size {
		if v.Type(id) != tokenizer.Normal {
			continue
		}
		t := v.Token(id)
		if r, n := utf8.DecodeRuneInString(t); n == len(t) && (r != utf8.RuneError || n == 3) {
			e.define(r, id)
		}
		last := rune(-1)
		for _, r := range t {
			if last >= 0 {
				if i, j := denseIndex(last), denseIndex(r); i >= 0 && j >= 0 {
					e.dense[i][j] = true
				} else {
					e.pairs[[2]rune{last, r}] = true
				}
			}
			last = r
		}
	}
	return e
}

// byteTokens returns the ids of the byte tokens, or nil if any is missing.
func byteTokens(v *tokenizer.Vocab) []int32 {
	ids, n := make([]int32, 256), 0
	for id := range int32(v.Size()) {
		if v.Type(id) == tokenizer.Byte {
			b, _ := tokenizer.ParseByteToken(v.Token(id))
			ids[b] = id
			n++
		}
	}
	if n < 256 {
		return nil // tokens are unique, so that one is missing
	}
	return ids
}

func (e *Encoder) define(r rune, symbol int32) {
	if r < utf8.RuneSelf {
		e.ascii[r] = symbol
	} else {
		e.other[r] = symbol
	}
}

// Symbol returns the symbol of a character. If the vocabulary lacks it, it
// gets one that merges may use although it is no token.
func (e *Encoder) Symbol(r rune) int32 {
	s := e.symbol(r)
	if s < 0 {
		s = e.size + int32(len(e.loose))
		e.loose = append(e.loose, r)
		e.define(r, s)
	}
	return s
}

// symbol returns the symbol of a character, or ^r if there is none.
func (e *Encoder) symbol(r rune) int32 {
	if r < utf8.RuneSelf {
		return e.ascii[r]
	}
	if s, ok := e.other[r]; ok {
		return s
	}
	return ^r
}

// Use sets the table of merges.
func (e *Encoder) Use(t *merge.Table) { e.table = t }

// badByte is added to a byte that is not UTF-8 to tell it from characters.
const badByte = utf8.MaxRune + 1

// Encode appends the tokens of text to dst.
func (e *Encoder) Encode(dst []int32, text string, s *Scratch) []int32 {
	base := len(dst)
	for text != "" {
		n := e.cut(text)
		at := len(dst)
		dst = e.word(dst, text[:n], s)
		if e.fuse && at > base && at < len(dst) && dst[at] == e.unk && dst[at-1] == e.unk {
			dst = append(dst[:at], dst[at+1:]...)
		}
		text = text[n:]
	}
	return dst
}

// cut returns the length of the first part of text that merges independently.
func (e *Encoder) cut(text string) int {
	last, n := utf8.DecodeRuneInString(text)
	for n < len(text) {
		r, size := rune(text[n]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(text[n:])
		}
		if !e.adjacent(last, r) {
			break
		}
		last = r
		n += size
	}
	return n
}

// adjacent reports whether some token has a followed by b.
func (e *Encoder) adjacent(a, b rune) bool {
	if i, j := denseIndex(a), denseIndex(b); i >= 0 && j >= 0 {
		return e.dense[i][j]
	}
	return e.pairs[[2]rune{a, b}]
}

// denseIndex numbers the characters most frequent in English.
func denseIndex(r rune) int {
	switch {
	case r < utf8.RuneSelf:
		return int(r)
	case r == '▁':
		return utf8.RuneSelf
	}
	return -1
}

// word appends the tokens of a part of the text.
func (e *Encoder) word(dst []int32, text string, s *Scratch) []int32 {
	dst, ok := e.cache.Get(dst, text)
	if ok {
		return dst
	}
	word := s.word[:0]
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && n == 1 {
			word = append(word, ^(badByte + int32(text[i])))
		} else {
			word = append(word, e.symbol(r))
		}
		i += n
	}
	s.word = word
	at := len(dst)
	for _, symbol := range e.table.Merge(word, &s.merge) {
		if 0 <= symbol && symbol < e.size {
			dst = append(dst, symbol)
		} else {
			dst = e.unknown(dst, at, symbol)
		}
	}
	e.cache.Put(text, dst[at:])
	return dst
}

// unknown appends the tokens of a character that is no token; those of its
// word begin at dst[at].
func (e *Encoder) unknown(dst []int32, at int, symbol int32) []int32 {
	r := ^symbol
	if symbol >= e.size {
		r = e.loose[symbol-e.size]
	}
	if e.bytes != nil {
		if r >= badByte {
			return append(dst, e.bytes[r-badByte])
		}
		var buf [utf8.UTFMax]byte
		for _, b := range buf[:utf8.EncodeRune(buf[:], r)] {
			dst = append(dst, e.bytes[b])
		}
		return dst
	}
	if e.unk < 0 || e.fuse && len(dst) > at && dst[len(dst)-1] == e.unk {
		return dst
	}
	return append(dst, e.unk)
}

// Escape spells the spaces of text as ▁.
func Escape(text string) string { return strings.ReplaceAll(text, " ", "▁") }
