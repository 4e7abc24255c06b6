// Package bpe encodes text with merge-list vocabularies: byte-level ones, as
// GPT-2, Llama 3 and SmolLM have them, and those over characters with byte
// fallback, as tokenizer.json files of Llama 2 do.
//
//	text ─ special tokens ─ normalizer ─ special tokens ─ pre-tokenizer ─ merges
//
// A Tokenizer is immutable and safe for concurrent use.
package bpe

import (
	"fmt"
	"sync"

	"triforce/tokenizer"
	"triforce/tokenizer/internal/match"
	"triforce/tokenizer/internal/merge"
	"triforce/tokenizer/internal/runes"
)

// Tokenizer is a merge-list tokenizer.
type Tokenizer struct {
	vocab     *tokenizer.Vocab
	normalize normalizer // nil: leave the text alone
	steps     []splitter // the pre-tokenizer
	// raw and cooked find special tokens before and after normalization; the
	// second of each pair includes control tokens.
	raw, cooked [2]*match.Set

	table   *merge.Table
	runes   *runes.Encoder   // nil for a byte-level vocabulary
	bytes   [256]int32       // token of each byte, or -1
	unk     int32            // or -1
	fuse    bool             // one unknown token for neighbours
	whole   map[string]int32 // tokens to take without merging, or nil
	cache   *merge.Cache
	workers sync.Pool // of *worker
}

// New builds the tokenizer of s.
func New(s *tokenizer.Spec) (*Tokenizer, error) {
	if s.Model != tokenizer.MergeList {
		return nil, fmt.Errorf("bpe: %w: model %q", tokenizer.ErrUnsupported, s.Model)
	}
	v, err := tokenizer.NewVocab(s)
	if err != nil {
		return nil, err
	}
	t := &Tokenizer{vocab: v, unk: s.Unk, fuse: s.FuseUnk, cache: merge.NewCache()}
	if t.normalize, err = parseNormalizer(s.Normalizer); err != nil {
		return nil, err
	}
	if s.PreTokenizer != nil {
		t.steps, err = parsePreTokenizer(s.PreTokenizer)
	} else {
		t.steps, err = namedPreTokenizer(s.Pre)
	}
	if err != nil {
		return nil, err
	}
	if t.table, err = table(v, s.Merges); err != nil {
		return nil, err
	}
	if s.Alphabet == tokenizer.ByteLevel {
		for b := range t.bytes {
			id, ok := v.ID(string(tokenizer.ByteRune(byte(b))))
			if !ok {
				id = -1
			}
			t.bytes[b] = id
		}
	} else {
		t.runes = runes.New(v, s.ByteFallback, s.FuseUnk)
		t.runes.Use(t.table)
	}
	if s.IgnoreMerges {
		t.whole = make(map[string]int32, v.Size())
		for id := range int32(v.Size()) {
			if v.Type(id) == tokenizer.Normal {
				word := v.Token(id)
				if s.Alphabet == tokenizer.ByteLevel {
					word = v.Piece(id)
				}
				t.whole[word] = id
			}
		}
	}
	for i := range t.raw {
		find := func(normalized bool) *match.Set {
			return match.FromVocab(v, s.Added, func(typ tokenizer.Type, rule tokenizer.Added) bool {
				special := typ == tokenizer.UserDefined ||
					i == 1 && (typ == tokenizer.Control || typ == tokenizer.Unknown)
				return special && rule.Normalized == normalized
			})
		}
		t.raw[i], t.cooked[i] = find(false), find(true)
	}
	t.workers.New = func() any { return newWorker(t) }
	return t, nil
}

// table resolves the merges to ids.
func table(v *tokenizer.Vocab, merges [][2]string) (*merge.Table, error) {
	table := merge.NewTable(len(merges))
	for rank, m := range merges {
		left, okL := v.ID(m[0])
		right, okR := v.ID(m[1])
		id, ok := v.ID(m[0] + m[1])
		if !okL || !okR || !ok {
			missing := m[0]
			if okL {
				missing = m[1]
			}
			if okL && okR {
				missing = m[0] + m[1]
			}
			return nil, fmt.Errorf("bpe: %w: merge %d of %.40q and %.40q needs token %.80q, which is not in the vocabulary",
				tokenizer.ErrCorrupt, rank, m[0], m[1], missing)
		}
		table.Add(left, right, uint32(rank), id)
	}
	return table, nil
}

// Vocab implements tokenizer.Tokenizer.
func (t *Tokenizer) Vocab() *tokenizer.Vocab { return t.vocab }

// Encode implements tokenizer.Tokenizer.
func (t *Tokenizer) Encode(dst []int32, text string, o tokenizer.Options) []int32 {
	w := t.workers.Get().(*worker)
	dst = o.Marks.End(w.encode(o.Marks.Begin(dst, t.vocab), text, o.Special), t.vocab)
	w.dst = nil
	t.workers.Put(w)
	return dst
}

// Lost implements tokenizer.Lossy.
func (t *Tokenizer) Lost(text string) (count, first int) {
	if t.runes != nil || t.unk >= 0 {
		return 0, 0
	}
	for i := range len(text) {
		if t.bytes[text[i]] < 0 {
			if count == 0 {
				first = i
			}
			count++
		}
	}
	return count, first
}

// worker is the state of one call of Encode.
type worker struct {
	*Tokenizer
	dst   []int32
	emit  []emit // emit[i] takes what step i-1 yields
	runes runes.Scratch
	merge merge.Scratch
	word  []int32
}

// emit takes a part of the text; first says that the text begins with it.
type emit func(part string, first bool)

func newWorker(t *Tokenizer) *worker {
	w := &worker{Tokenizer: t, emit: make([]emit, len(t.steps)+1)}
	w.emit[len(t.steps)] = func(part string, _ bool) { w.encodeWord(part) }
	for i, step := range t.steps {
		next := w.emit[i+1:] // filled by the time it is called
		w.emit[i] = func(part string, first bool) { step.split(part, first, next[0]) }
	}
	return w
}

func (w *worker) encode(dst []int32, text string, special bool) []int32 {
	which := 0
	if special {
		which = 1
	}
	w.dst = dst
	for at := 0; at < len(text); {
		id, start, end := w.raw[which].Next(text, at)
		if start > at {
			w.fragment(text[at:start], at == 0, w.cooked[which])
		}
		if id >= 0 {
			w.dst = append(w.dst, id)
		}
		at = end
	}
	return w.dst
}

// fragment encodes text between special tokens that are found before
// normalization; first says that the whole text begins with it.
func (w *worker) fragment(text string, first bool, special *match.Set) {
	if w.normalize != nil {
		text = w.normalize(text)
	}
	for at := 0; at < len(text); {
		id, start, end := special.Next(text, at)
		if start > at {
			w.emit[0](text[at:start], first && at == 0)
		}
		if id >= 0 {
			w.dst = append(w.dst, id)
		}
		at = end
	}
}

// encodeWord appends the tokens of one word.
func (w *worker) encodeWord(word string) {
	if w.whole != nil {
		if id, ok := w.whole[word]; ok {
			w.dst = append(w.dst, id)
			return
		}
	}
	if w.Tokenizer.runes != nil {
		w.dst = w.Tokenizer.runes.Encode(w.dst, word, &w.runes)
		return
	}
	var ok bool
	if w.dst, ok = w.cache.Get(w.dst, word); ok {
		return
	}
	symbols := w.word[:0]
	for i := range len(word) {
		if id := w.bytes[word[i]]; id >= 0 {
			symbols = append(symbols, id)
		} else if n := len(symbols); w.unk >= 0 && !(w.fuse && n > 0 && symbols[n-1] == w.unk) {
			symbols = append(symbols, w.unk)
		}
	}
	w.word = symbols
	at := len(w.dst)
	w.dst = append(w.dst, w.table.Merge(symbols, &w.merge)...)
	w.cache.Put(word, w.dst[at:])
}
