package tokenizer

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// Limits on what a vocabulary may claim to hold, checked before any table is
// built.
const (
	maxTokens   = 1 << 22
	maxMerges   = 1 << 23
	maxTokenLen = 1 << 10 // bytes
)

// Model names the algorithm, in GGUF's spelling.
type Model string

// The models that triforce has.
const (
	SentencePiece Model = "llama" // merges ranked by the scores of their results
	MergeList     Model = "gpt2"  // merges ranked by their place in a list
)

// Type is a token's kind, numbered as in GGUF and SentencePiece.
type Type uint8

// The kinds of tokens.
const (
	Normal      Type = 1 + iota
	Unknown          // stands for what the vocabulary lacks
	Control          // never text: <s>, <|im_end|>
	UserDefined      // always one token wherever its text occurs
	Unused           // a hole or padding: never encoded
	Byte             // <0x00> … <0xFF>
)

// Alphabet says how the text of a normal token spells bytes.
type Alphabet uint8

// The alphabets.
const (
	// Metaspace spells a space as ▁ (U+2581) and a byte as <0xNN>.
	Metaspace Alphabet = iota
	// ByteLevel spells each byte as one printable character, as GPT-2 does.
	ByteLevel
)

// Spec is a vocabulary as plain data, from whatever file. Len(Types) is
// len(Tokens) or zero (all normal), len(Scores) is len(Tokens) or zero.
type Spec struct {
	Model  Model
	Tokens []string
	Scores []float32
	Types  []Type
	// Merges lists pairs of tokens, the most eager first.
	Merges [][2]string

	BOS, EOS, Unk int32   // -1 if there is none
	EOG           []int32 // further tokens that end a generation, besides EOS
	AddBOS        bool
	AddEOS        bool
	// AddSpacePrefix puts a space before the text; decoding takes it away.
	AddSpacePrefix bool
	// TrimSpaces drops leading and trailing spaces and folds runs of them.
	TrimSpaces   bool
	ChatTemplate string

	// Pre names the pre-tokenizer of a MergeList as GGUF does. It is used if
	// PreTokenizer is nil.
	Pre string
	// Alphabet spells a MergeList's tokens; SentencePiece is always Metaspace.
	Alphabet Alphabet
	// Normalizer and PreTokenizer are objects of tokenizer.json.
	Normalizer, PreTokenizer json.RawMessage
	// Added holds matching rules for control and user-defined tokens that
	// have any.
	Added []Added
	// IgnoreMerges takes a word that is a token as it is.
	IgnoreMerges bool
	// ByteFallback spells unknown characters as bytes (Metaspace only).
	ByteFallback bool
	// FuseUnk merges neighbouring unknown tokens of a word.
	FuseUnk bool
}

// Added says how the text of a control or user-defined token is recognized.
type Added struct {
	ID             int32
	LStrip, RStrip bool // takes the white space before, after it along
	SingleWord     bool // only if no word character touches it
	Normalized     bool // looked for after normalization, not before
}

// ParseMerges splits merges written as "left right".
func ParseMerges(lines []string) ([][2]string, error) {
	pairs := make([][2]string, len(lines))
	for i, line := range lines {
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return nil, corruptf("merge %d is %q, not two tokens", i, clip(line))
		}
		pairs[i] = [2]string{left, right}
	}
	return pairs, nil
}

// validate checks everything that does not need a table of tokens.
func (s *Spec) validate() error {
	n := len(s.Tokens)
	switch {
	case s.Model != SentencePiece && s.Model != MergeList:
		return fmt.Errorf("tokenizer: %w: model %q, have %q and %q", ErrUnsupported, clip(string(s.Model)), SentencePiece, MergeList)
	case n == 0:
		return corruptf("no tokens")
	case n > maxTokens:
		return corruptf("%d tokens, the limit is %d", n, maxTokens)
	case len(s.Merges) > maxMerges:
		return corruptf("%d merges, the limit is %d", len(s.Merges), maxMerges)
	case len(s.Types) != 0 && len(s.Types) != n:
		return corruptf("%d token types for %d tokens", len(s.Types), n)
	case len(s.Scores) != 0 && len(s.Scores) != n:
		return corruptf("%d scores for %d tokens", len(s.Scores), n)
	case s.Model == SentencePiece && len(s.Scores) != n:
		return corruptf("no scores")
	}
	size := uint64(0)
	for i, t := range s.Tokens {
		if len(t) > maxTokenLen {
			return corruptf("token %d has %d bytes, the limit is %d", i, len(t), maxTokenLen)
		}
		size += uint64(len(t))
	}
	if size > math.MaxUint32 {
		return corruptf("tokens of %d bytes in all, the limit is %d", size, uint32(math.MaxUint32))
	}
	for i, t := range s.Types {
		if t < Normal || t > Byte {
			return corruptf("token %d has type %d, expected %d to %d", i, t, Normal, Byte)
		}
	}
	for i, x := range s.Scores {
		if math.IsNaN(float64(x)) {
			return corruptf("token %d has score NaN", i)
		}
	}
	for _, r := range []struct {
		name string
		id   int32
	}{{"bos", s.BOS}, {"eos", s.EOS}, {"unknown", s.Unk}} {
		if r.id < -1 || int(r.id) >= n {
			return corruptf("%s token id %d is not below %d", r.name, r.id, n)
		}
	}
	for _, id := range s.EOG {
		if id < 0 || int(id) >= n {
			return corruptf("end-of-generation token id %d is not below %d", id, n)
		}
	}
	for _, a := range s.Added {
		if a.ID < 0 || int(a.ID) >= n {
			return corruptf("added token id %d is not below %d", a.ID, n)
		}
	}
	return nil
}

func corruptf(format string, args ...any) error {
	return fmt.Errorf("tokenizer: %w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// clip shortens text from a file for a message.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
