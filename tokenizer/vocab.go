package tokenizer

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Vocab is a checked vocabulary: tokens, what they decode to, and the roles of
// some. Ids beyond its size are legal everywhere and decode to nothing, because
// models pad their output.
type Vocab struct {
	tokens texts // as in the file
	pieces texts // the bytes that tokens stand for; none for control tokens
	types  []Type
	ids    index

	bos, eos, unk  int32
	eog            []int32 // sorted
	addBOS, addEOS bool
	spacePrefix    bool
	template       string
}

// NewVocab checks s and builds its vocabulary.
func NewVocab(s *Spec) (*Vocab, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	tokens := newTexts(s.Tokens)
	v := &Vocab{
		tokens: tokens, types: s.Types, ids: newIndex(tokens),
		bos: s.BOS, eos: s.EOS, unk: s.Unk,
		addBOS: s.AddBOS, addEOS: s.AddEOS, spacePrefix: s.AddSpacePrefix,
		template: s.ChatTemplate,
	}
	if len(v.types) == 0 {
		v.types = slices.Repeat([]Type{Normal}, len(s.Tokens))
	}
	for i, t := range s.Tokens {
		if t == "" || v.types[i] == Unused {
			continue
		}
		slot := v.ids.slot(t)
		if *slot >= 0 {
			return nil, corruptf("tokens %d and %d are both %q", *slot, i, clip(t))
		}
		*slot = int32(i)
	}
	if err := v.spell(s.Tokens, s.Model == MergeList && s.Alphabet == ByteLevel); err != nil {
		return nil, err
	}
	v.findEOG(s.EOG)
	return v, nil
}

// spell fills pieces, which are not longer than their tokens.
func (v *Vocab) spell(tokens []string, byteLevel bool) error {
	buf := make([]byte, 0, len(v.tokens.text))
	v.pieces.ends = make([]uint32, len(tokens))
	for i, t := range tokens {
		switch v.types[i] {
		case Control, Unknown, Unused:
		case UserDefined:
			if !byteLevel {
				t = strings.ReplaceAll(t, "▁", " ")
			}
			buf = append(buf, t...)
		case Byte:
			b, ok := ParseByteToken(t)
			if !ok {
				return corruptf("byte token %d is %q, not like <0x0A>", i, clip(t))
			}
			buf = append(buf, b)
		default:
			if byteLevel {
				buf = AppendByteLevel(buf, t)
			} else {
				buf = append(buf, strings.ReplaceAll(t, "▁", " ")...)
			}
		}
		v.pieces.ends[i] = uint32(len(buf))
	}
	v.pieces.text = string(buf)
	return nil
}

// findEOG collects the tokens that end a generation: those the file names and
// those that chat models are known to end a turn with, whether or not the file
// says so.
func (v *Vocab) findEOG(ids []int32) {
	v.eog = slices.Clone(ids)
	if v.eos >= 0 {
		v.eog = append(v.eog, v.eos)
	}
	for _, t := range []string{
		"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>",
		"<end_of_turn>", "<EOT>", "< EOT >", "_<EOT>", "<|eot|>", "<|return|>", "<end_of_utterance>",
	} {
		if id, ok := v.ids.id(t); ok {
			v.eog = append(v.eog, id)
		}
	}
	slices.Sort(v.eog)
	v.eog = slices.Compact(v.eog)
}

// Size is the number of tokens.
func (v *Vocab) Size() int { return len(v.types) }

// Token returns the token's text as the file spells it.
func (v *Vocab) Token(id int32) string { return v.tokens.at(id) }

// Piece returns the bytes that the token decodes to, maybe part of a
// character. Control tokens decode to nothing.
func (v *Vocab) Piece(id int32) string { return v.pieces.at(id) }

// Type returns the token's kind.
func (v *Vocab) Type(id int32) Type {
	if uint(id) < uint(len(v.types)) {
		return v.types[id]
	}
	return Unused
}

// ID looks up a token by its text as the file spells it.
func (v *Vocab) ID(token string) (int32, bool) {
	return v.ids.id(token)
}

// BOS is the begin-of-text token, or -1.
func (v *Vocab) BOS() int32 { return v.bos }

// EOS is the end-of-text token, or -1.
func (v *Vocab) EOS() int32 { return v.eos }

// Unk is the unknown token, or -1.
func (v *Vocab) Unk() int32 { return v.unk }

// IsEOG reports whether the token ends a generation: end of text or of a turn.
func (v *Vocab) IsEOG(id int32) bool {
	_, found := slices.BinarySearch(v.eog, id)
	return found
}

// EOG lists the tokens that end a generation in ascending order. The caller
// must not change it.
func (v *Vocab) EOG() []int32 { return v.eog }

// AddsBOS reports whether the model wants BOS before a text.
func (v *Vocab) AddsBOS() bool { return v.addBOS && v.bos >= 0 }

// SpacePrefix reports whether encoding puts a space before the text.
func (v *Vocab) SpacePrefix() bool { return v.spacePrefix }

// ChatTemplate is the Jinja source that lays out a conversation, or "".
func (v *Vocab) ChatTemplate() string { return v.template }

// ParseByteToken returns the byte that a token like <0x0A> stands for.
func ParseByteToken(t string) (byte, bool) {
	if len(t) != 6 || t[:3] != "<0x" || t[5] != '>' {
		return 0, false
	}
	hi, lo := strings.IndexByte(hexDigits, t[3]), strings.IndexByte(hexDigits, t[4])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}

const hexDigits = "0123456789ABCDEF"

// AppendByteLevel appends the bytes that a byte-level token spells. A token
// with a character outside of that alphabet stands for itself.
func AppendByteLevel(dst []byte, token string) []byte {
	n := len(dst)
	for _, r := range token {
		b, ok := byteOf(r)
		if !ok {
			return append(dst[:n], token...)
		}
		dst = append(dst, b)
	}
	return dst
}

// ByteRune is the character that spells b in a byte-level vocabulary: itself if
// it is printable Latin-1, else one from U+0100 upwards.
func ByteRune(b byte) rune {
	switch {
	case b <= ' ':
		return 0x100 + rune(b)
	case b >= 0x7F && b <= 0xA0:
		return 0x121 + rune(b) - 0x7F
	case b == 0xAD:
		return 0x143
	}
	return rune(b)
}

// byteOf is the inverse of ByteRune.
func byteOf(r rune) (byte, bool) {
	switch {
	case r >= 0x100 && r <= 0x120:
		return byte(r - 0x100), true
	case r >= 0x121 && r <= 0x142:
		return byte(r - 0x121 + 0x7F), true
	case r == 0x143:
		return 0xAD, true
	case r == utf8.RuneError || r > 0xFF || ByteRune(byte(r)) != r:
		return 0, false
	}
	return byte(r), true
}
