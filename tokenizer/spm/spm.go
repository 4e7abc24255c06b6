// Package spm encodes text with SentencePiece BPE vocabularies, as Llama 1 and
// 2 have them: of all neighbouring symbols, the pair whose union has the best
// score merges first.
//
// A Tokenizer is immutable and safe for concurrent use.
package spm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"triforce/tokenizer"
	"triforce/tokenizer/internal/match"
	"triforce/tokenizer/internal/merge"
	"triforce/tokenizer/internal/runes"
)

// Tokenizer is a SentencePiece BPE tokenizer.
type Tokenizer struct {
	vocab       *tokenizer.Vocab
	runes       *runes.Encoder
	control     *match.Set // found in the raw text
	userDefined *match.Set // found in the text with spaces spelled ▁
	prefix      bool
	trim        bool
	scratch     sync.Pool // of *runes.Scratch
}

// New builds the tokenizer of s.
func New(s *tokenizer.Spec) (*Tokenizer, error) {
	if s.Model != tokenizer.SentencePiece {
		return nil, fmt.Errorf("spm: %w: model %q", tokenizer.ErrUnsupported, s.Model)
	}
	v, err := tokenizer.NewVocab(s)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{vocab: v, runes: runes.New(v, true, true), prefix: s.AddSpacePrefix, trim: s.TrimSpaces}
	t.scratch.New = func() any { return new(runes.Scratch) }
	t.runes.Use(pairs(v, s.Scores, t.runes))
	t.control = match.FromVocab(v, s.Added, func(t tokenizer.Type, _ tokenizer.Added) bool {
		return t == tokenizer.Control || t == tokenizer.Unknown
	})
	t.userDefined = match.FromVocab(v, s.Added, func(t tokenizer.Type, _ tokenizer.Added) bool {
		return t == tokenizer.UserDefined
	})
	return t, nil
}

// pairs lists the merges that the tokens imply: every way to cut a token into
// two symbols, ranked by the token's score.
func pairs(v *tokenizer.Vocab, scores []float32, e *runes.Encoder) *merge.Table {
	type pair struct {
		left, right, id int32
		rank            uint32
	}
	best := slices.Clone(scores)
	slices.SortFunc(best, func(a, b float32) int { return cmp.Compare(b, a) })
	best = slices.Compact(best)
	symbol := func(s string) int32 {
		if r, n := utf8.DecodeRuneInString(s); n == len(s) {
			return e.Symbol(r)
		}
		if id, ok := v.ID(s); ok && v.Type(id) == tokenizer.Normal {
			return id
		}
		return -1
	}
	var all []pair
	for id := range int32(v.Size()) {
		token := v.Token(id)
		if v.Type(id) != tokenizer.Normal || !utf8.ValidString(token) {
			continue
		}
		rank, _ := slices.BinarySearchFunc(best, scores[id], func(a, b float32) int { return cmp.Compare(b, a) })
		for i := range token {
			if i == 0 {
				continue
			}
			if left, right := symbol(token[:i]), symbol(token[i:]); left >= 0 && right >= 0 {
				all = append(all, pair{left, right, id, uint32(rank)})
			}
		}
	}
	table := merge.NewTable(len(all))
	for _, p := range all {
		table.Add(p.left, p.right, p.rank, p.id)
	}
	return table
}

// Vocab implements tokenizer.Tokenizer.
func (t *Tokenizer) Vocab() *tokenizer.Vocab { return t.vocab }

// Encode implements tokenizer.Tokenizer. The space prefix goes before the text
// and before what follows a control token.
func (t *Tokenizer) Encode(dst []int32, text string, o tokenizer.Options) []int32 {
	s := t.scratch.Get().(*runes.Scratch)
	defer t.scratch.Put(s)
	control := t.control
	if !o.Special {
		control = nil
	}
	dst = o.Marks.Begin(dst, t.vocab)
	for at := 0; at < len(text); {
		id, start, end := control.Next(text, at)
		dst = t.fragment(dst, text[at:start], s)
		if id >= 0 {
			dst = append(dst, id)
		}
		at = end
	}
	return o.Marks.End(dst, t.vocab)
}

// fragment encodes text without control tokens.
func (t *Tokenizer) fragment(dst []int32, text string, s *runes.Scratch) []int32 {
	if t.trim {
		text = trimSpaces(text)
	}
	if text == "" {
		return dst
	}
	if t.prefix {
		text = " " + text
	}
	text = runes.Escape(text)
	if t.trim {
		text = strings.TrimRight(text, "▁") // one that the text itself spells goes too
	}
	for at := 0; at < len(text); {
		id, start, end := t.userDefined.Next(text, at)
		dst = t.runes.Encode(dst, text[at:start], s)
		if id >= 0 {
			dst = append(dst, id)
		}
		at = end
	}
	return dst
}

// trimSpaces drops leading and trailing spaces and folds runs of them.
func trimSpaces(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == ' ' }), " ")
}
