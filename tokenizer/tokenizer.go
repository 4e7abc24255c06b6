// Package tokenizer turns text into token ids and back: the contract, the
// vocabulary, the loaders and the streaming decoder. The two algorithms live in
// tokenizer/spm (SentencePiece BPE) and tokenizer/bpe (merge lists);
// tokenizer/load picks one for a Spec.
//
//	GGUF metadata ─ FromGGUF ──────┐
//	tokenizer.json ─ FromJSON ─────┼─ Spec ─ load.New ─ Tokenizer
//	tokenizer.model ─ FromModel ───┘
//
// Tokenizers and vocabularies are immutable and safe for concurrent use. A
// Decoder belongs to one goroutine. Ids are appended to slices that the caller
// owns; nothing keeps a reference to the caller's text or slices.
package tokenizer

import (
	"errors"
	"fmt"
)

// ErrCorrupt marks every error that is due to a malformed or inconsistent
// vocabulary.
var ErrCorrupt = errors.New("corrupt tokenizer")

// ErrUnsupported marks a well-formed vocabulary that uses something triforce
// does not have, such as another model than BPE.
var ErrUnsupported = errors.New("unsupported tokenizer")

// Endless is the panic of Encode when a regular expression, which came with the
// vocabulary, takes longer than any sensible one to find its next match.
type Endless struct {
	Pattern string
	Chars   int // of the text in which it searched
}

// Error implements error.
func (e Endless) Error() string {
	return fmt.Sprintf("%v: pattern %.60q does not come to an end in a text of %d characters", ErrCorrupt, e.Pattern, e.Chars)
}

// Unwrap returns ErrCorrupt.
func (Endless) Unwrap() error { return ErrCorrupt }

// Tokenizer encodes text with one vocabulary.
type Tokenizer interface {
	// Vocab returns the vocabulary, which also knows how to decode.
	Vocab() *Vocab
	// Encode appends the ids of text to dst. Text may hold any bytes; those
	// that are not UTF-8 become byte tokens where the vocabulary has them.
	// It panics with an Endless if an expression of the vocabulary's own does
	// not come to an end.
	Encode(dst []int32, text string, o Options) []int32
}

// Lossy is a Tokenizer that may lack a token for a byte, and then leaves the byte
// out, as other implementations do.
type Lossy interface {
	// Lost counts such bytes in text, and says where the first of them is.
	Lost(text string) (count, first int)
}

// Options says how Encode treats the ends of the text and the special tokens
// in it. The zero value suits text from a user: marks as the model wants them,
// special tokens not recognized.
type Options struct {
	Marks Marks
	// Special recognizes control tokens written in the text, such as "<s>". If
	// false they are encoded like any other text.
	Special bool
}

// Marks chooses the tokens that Encode puts around the text.
type Marks uint8

// The choices of Marks.
const (
	MarksDefault Marks = iota // what the model's metadata says
	MarksBOS                  // begin-of-text if there is one, no end-of-text
	MarksNone                 // only the text
)

// Begin appends the begin-of-text token if m and the vocabulary want it.
func (m Marks) Begin(dst []int32, v *Vocab) []int32 {
	if v.bos >= 0 && (m == MarksBOS || m == MarksDefault && v.addBOS) {
		dst = append(dst, v.bos)
	}
	return dst
}

// End appends the end-of-text token if m and the vocabulary want it.
func (m Marks) End(dst []int32, v *Vocab) []int32 {
	if v.eos >= 0 && m == MarksDefault && v.addEOS {
		dst = append(dst, v.eos)
	}
	return dst
}
