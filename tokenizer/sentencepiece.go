package tokenizer

import (
	"encoding/binary"
	"fmt"
	"math"
)

// FromModel reads a SentencePiece tokenizer.model: a protocol buffer with the
// pieces (field 1), the trainer's settings (2) and the normalizer's (3). The
// contents of tokenizer_config.json and special_tokens_map.json add the roles
// of tokens and the chat template; either may be nil.
func FromModel(data, config, specials []byte) (Spec, error) {
	s := Spec{Model: SentencePiece, BOS: 1, EOS: 2, Unk: 0, AddBOS: true, AddSpacePrefix: true, TrimSpaces: true}
	const unigram, bpe = 1, 2
	kind := uint64(unigram)
	escape := true
	err := eachField(data, func(f field) error {
		switch f.number {
		case 1:
			piece, score, typ := "", float32(0), uint64(Normal)
			err := eachField(f.bytes, func(f field) error {
				switch f.number {
				case 1:
					piece = string(f.bytes)
				case 2:
					score = math.Float32frombits(uint32(f.value))
				case 3:
					typ = f.value
				}
				return nil
			})
			if err != nil {
				return err
			}
			if len(s.Tokens) == maxTokens {
				return corruptf("more than %d pieces", maxTokens)
			}
			if typ < uint64(Normal) || typ > uint64(Byte) {
				return corruptf("piece %d has type %d, expected %d to %d", len(s.Tokens), typ, Normal, Byte)
			}
			s.Tokens = append(s.Tokens, piece)
			s.Scores = append(s.Scores, score)
			s.Types = append(s.Types, Type(typ))
		case 2:
			return eachField(f.bytes, func(f field) error {
				switch f.number {
				case 3:
					kind = f.value
				case 24:
					if f.value != 0 {
						return fmt.Errorf("tokenizer: %w: spaces as suffixes of words", ErrUnsupported)
					}
				case 40:
					s.Unk = int32(f.value)
				case 41:
					s.BOS = int32(f.value)
				case 42:
					s.EOS = int32(f.value)
				}
				return nil
			})
		case 3:
			return eachField(f.bytes, func(f field) error {
				switch f.number {
				case 2:
					if len(f.bytes) > 0 {
						return fmt.Errorf("tokenizer: %w: normalizer with a character map", ErrUnsupported)
					}
				case 3:
					s.AddSpacePrefix = f.value != 0
				case 4:
					s.TrimSpaces = f.value != 0
				case 5:
					escape = f.value != 0
				}
				return nil
			})
		}
		return nil
	})
	switch {
	case err != nil:
		return Spec{}, err
	case kind != bpe:
		return Spec{}, fmt.Errorf("tokenizer: %w: SentencePiece model type %d, have only BPE (%d)", ErrUnsupported, kind, bpe)
	case !escape:
		return Spec{}, fmt.Errorf("tokenizer: %w: spaces that are not spelled ▁", ErrUnsupported)
	}
	// Ids outside of the pieces switch a role off.
	for _, id := range []*int32{&s.BOS, &s.EOS, &s.Unk} {
		if *id < 0 || int(*id) >= len(s.Tokens) {
			*id = -1
		}
	}
	if err := s.addRoles(s.byText(), specials, config, nil); err != nil {
		return Spec{}, err
	}
	return s, s.validate()
}

// field is one field of a protocol buffer message: value for numbers, bytes
// for strings and messages.
type field struct {
	number uint64
	value  uint64
	bytes  []byte
}

// eachField calls f for every field of a message.
func eachField(msg []byte, f func(field) error) error {
	for rest := msg; len(rest) > 0; {
		at := len(msg) - len(rest)
		tag, n := binary.Uvarint(rest)
		if n <= 0 {
			return corruptf("bad field tag at byte %d of a message of %d", at, len(msg))
		}
		rest = rest[n:]
		x := field{number: tag >> 3}
		size := uint64(0) // of the payload, for fixed and length-delimited fields
		switch tag & 7 {
		case 0:
			if x.value, n = binary.Uvarint(rest); n <= 0 {
				return corruptf("bad number at byte %d of a message of %d", at, len(msg))
			}
			rest = rest[n:]
		case 1:
			size = 8
		case 5:
			size = 4
		case 2:
			if size, n = binary.Uvarint(rest); n <= 0 {
				return corruptf("bad length at byte %d of a message of %d", at, len(msg))
			}
			rest = rest[n:]
		default:
			return corruptf("field of wire type %d at byte %d of a message of %d", tag&7, at, len(msg))
		}
		if size > uint64(len(rest)) {
			return corruptf("field at byte %d needs %d bytes, %d are left", at, size, len(rest))
		}
		x.bytes, rest = rest[:size], rest[size:]
		switch tag & 7 {
		case 1:
			x.value = binary.LittleEndian.Uint64(x.bytes)
		case 5:
			x.value = uint64(binary.LittleEndian.Uint32(x.bytes))
		}
		if err := f(x); err != nil {
			return err
		}
	}
	return nil
}
