// Package match finds the texts of special tokens in a text.
package match

import (
	"unicode"
	"unicode/utf8"

	"triforce/tokenizer"
)

// Set is a set of tokens to look for. It is immutable and safe for concurrent
// use; nil is the empty set.
type Set struct {
	first [256]bool        // bytes that some token begins with
	next  map[uint64]int32 // edges of a trie: node<<8 | byte → node
	token []int32          // by node: the token that ends there, or -1
	rules map[int32]tokenizer.Added
}

// Token is a token's text and how to recognize it.
type Token struct {
	Text string
	Rule tokenizer.Added
}

// New returns the set of tokens, or nil if there are none.
func New(tokens []Token) *Set {
	if len(tokens) == 0 {
		return nil
	}
	s := &Set{next: map[uint64]int32{}, token: []int32{-1}, rules: map[int32]tokenizer.Added{}}
	for _, t := range tokens {
		if t.Text == "" {
			continue
		}
		s.first[t.Text[0]] = true
		node := int32(0)
		for i := range len(t.Text) {
			edge := uint64(node)<<8 | uint64(t.Text[i])
			to, ok := s.next[edge]
			if !ok {
				to = int32(len(s.token))
				s.next[edge] = to
				s.token = append(s.token, -1)
			}
			node = to
		}
		s.token[node] = t.Rule.ID
		if r := t.Rule; r.LStrip || r.RStrip || r.SingleWord {
			s.rules[r.ID] = r
		}
	}
	return s
}

// FromVocab returns the tokens of v that keep accepts, with their rules.
func FromVocab(v *tokenizer.Vocab, added []tokenizer.Added, keep func(t tokenizer.Type, rule tokenizer.Added) bool) *Set {
	rules := make(map[int32]tokenizer.Added, len(added))
	for _, a := range added {
		rules[a.ID] = a
	}
	var tokens []Token
	for id := range int32(v.Size()) {
		rule := rules[id]
		rule.ID = id
		if keep(v.Type(id), rule) {
			tokens = append(tokens, Token{v.Token(id), rule})
		}
	}
	return New(tokens)
}

// Next finds the first token in text[from:], the longest of those that start
// there: text[start:end] is the token's text with the white space it takes
// along. Without one, id is -1 and start is len(text).
func (s *Set) Next(text string, from int) (id int32, start, end int) {
	if s == nil {
		return -1, len(text), len(text)
	}
	for i := from; i < len(text); i++ {
		if !s.first[text[i]] {
			continue
		}
		id, end := s.longest(text, i)
		if id < 0 {
			continue
		}
		rule, ok := s.rules[id]
		if !ok {
			return id, i, end
		}
		if rule.SingleWord && (endsInWord(text[:i]) || startsWithWord(text[end:])) {
			i = end - 1
			continue
		}
		start := i
		if rule.LStrip {
			for start > from {
				r, n := utf8.DecodeLastRuneInString(text[from:start])
				if !unicode.IsSpace(r) {
					break
				}
				start -= n
			}
		}
		if rule.RStrip {
			for end < len(text) {
				r, n := utf8.DecodeRuneInString(text[end:])
				if !unicode.IsSpace(r) {
					break
				}
				end += n
			}
		}
		return id, start, end
	}
	return -1, len(text), len(text)
}

func (s *Set) longest(text string, start int) (id int32, end int) {
	id = -1
	node := int32(0)
	for i := start; i < len(text); i++ {
		to, ok := s.next[uint64(node)<<8|uint64(text[i])]
		if !ok {
			break
		}
		if node = to; s.token[node] >= 0 {
			id, end = s.token[node], i+1
		}
	}
	return id, end
}

func endsInWord(s string) bool {
	r, _ := utf8.DecodeLastRuneInString(s)
	return wordRune(r)
}

func startsWithWord(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return wordRune(r)
}

// wordRune reports whether r is a word character in the sense of \w.
func wordRune(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.In(r, unicode.M, unicode.Nd, unicode.Pc, unicode.Nl, unicode.Other_Alphabetic))
}
