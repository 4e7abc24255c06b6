package tokenizer

import "unicode/utf8"

// DecodeOptions says how a Decoder treats the start of the text and control
// tokens. The zero value decodes a whole text.
type DecodeOptions struct {
	// Continues keeps the first token's leading space, because other text
	// comes before it.
	Continues bool
	// Special writes control tokens out instead of leaving them out.
	Special bool
}

// Decoder turns a stream of tokens into text and never ends its output inside
// a character: the first bytes of one are held back until the rest arrives.
// Bytes that cannot be part of any character pass through unchanged, so no
// token's bytes are ever lost.
type Decoder struct {
	vocab   *Vocab
	special bool
	trim    bool // the next piece is the first: it may lose a space
	held    [utf8.UTFMax]byte
	n       int // bytes held
}

// NewDecoder returns a decoder at the start of a stream.
func NewDecoder(v *Vocab, o DecodeOptions) *Decoder {
	return &Decoder{vocab: v, special: o.Special, trim: v.spacePrefix && !o.Continues}
}

// Append appends the text that id completes to dst.
func (d *Decoder) Append(dst []byte, id int32) []byte {
	piece := d.vocab.Piece(id)
	if t := d.vocab.Type(id); t == Control || t == Unknown {
		if d.special {
			piece = d.vocab.Token(id)
		}
	} else if d.trim && piece != "" {
		d.trim = false
		if piece[0] == ' ' && t != Byte {
			piece = piece[1:]
		}
	}
	if piece == "" {
		return dst
	}
	dst = append(append(dst, d.held[:d.n]...), piece...)
	d.n = copy(d.held[:], dst[len(dst)-unfinished(dst):])
	return dst[:len(dst)-d.n]
}

// Flush appends the bytes still held back, which are no valid text.
func (d *Decoder) Flush(dst []byte) []byte {
	dst = append(dst, d.held[:d.n]...)
	d.n = 0
	return dst
}

// unfinished counts the bytes at the end of b that begin a character.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// Decode returns the text of ids.
func Decode(v *Vocab, ids []int32, o DecodeOptions) string {
	d := NewDecoder(v, o)
	var text []byte
	for _, id := range ids {
		text = d.Append(text, id)
	}
	return string(d.Flush(text))
}
