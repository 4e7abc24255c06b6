package tokenizer

import "slices"

// Meta reads GGUF metadata; weights.Meta is one. A key that is missing or of
// another type gives def or nil.
type Meta interface {
	String(key, def string) string
	Bool(key string, def bool) bool
	Int(key string, def int64) int64
	Strings(key string) []string
	Ints(key string) []int64
	Floats(key string) []float64
}

// FromGGUF reads the vocabulary in GGUF metadata.
func FromGGUF(m Meta) (Spec, error) {
	const key = "tokenizer.ggml."
	s := Spec{
		Model:        Model(m.String(key+"model", "")),
		Pre:          m.String(key+"pre", "default"),
		Tokens:       m.Strings(key + "tokens"),
		ChatTemplate: m.String("tokenizer.chat_template", ""),
		TrimSpaces:   m.Bool(key+"remove_extra_whitespaces", false),
	}
	var err error
	id := func(name string, def int64) int32 {
		x := m.Int(key+name+"_token_id", def)
		if x < -1 || x >= int64(len(s.Tokens)) {
			if err == nil {
				err = corruptf("%s is %d, there are %d tokens", key+name+"_token_id", x, len(s.Tokens))
			}
			return -1
		}
		return int32(x)
	}
	defaults := [3]int64{-1, -1, -1}
	switch s.Model {
	case SentencePiece:
		s.AddSpacePrefix = m.Bool(key+"add_space_prefix", true)
		s.AddBOS = m.Bool(key+"add_bos_token", true)
		if len(s.Tokens) > 2 {
			defaults = [3]int64{1, 2, 0}
		}
	case MergeList:
		s.Alphabet = ByteLevel
		// These families were trained with a begin-of-text token and with
		// whole words before merges; the metadata does not say so.
		s.IgnoreMerges = slices.Contains([]string{
			"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken",
		}, s.Pre)
		s.AddBOS = m.Bool(key+"add_bos_token", s.IgnoreMerges)
	}
	s.AddEOS = m.Bool(key+"add_eos_token", false)
	s.BOS, s.EOS, s.Unk = id("bos", defaults[0]), id("eos", defaults[1]), id("unknown", defaults[2])
	if s.Model == MergeList {
		s.Unk = -1 // byte-level text has no unknown characters
	}
	for _, name := range []string{"eot", "eom"} {
		if e := id(name, -1); e >= 0 {
			s.EOG = append(s.EOG, e)
		}
	}
	if err != nil {
		return Spec{}, err
	}
	for _, x := range m.Floats(key + "scores") {
		s.Scores = append(s.Scores, float32(x))
	}
	for _, t := range m.Ints(key + "token_type") {
		if t < int64(Normal) || t > int64(Byte) {
			return Spec{}, corruptf("token type %d, expected %d to %d", t, Normal, Byte)
		}
		s.Types = append(s.Types, Type(t))
	}
	s.Merges, err = ParseMerges(m.Strings(key + "merges"))
	return s, err
}
