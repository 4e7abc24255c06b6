package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
)

// FromJSON reads a Hugging Face tokenizer.json. The contents of
// tokenizer_config.json and special_tokens_map.json add the roles of tokens and
// the chat template; either may be nil.
func FromJSON(tokenizer, config, specials []byte) (Spec, error) {
	var f jsonFile
	if err := unmarshal("tokenizer.json", tokenizer, &f); err != nil {
		return Spec{}, err
	}
	m := &f.Model
	switch {
	case m.Type != "" && m.Type != "BPE":
		return Spec{}, fmt.Errorf("tokenizer: %w: model %q, have BPE", ErrUnsupported, clip(m.Type))
	case m.Prefix != "" || m.Suffix != "":
		return Spec{}, fmt.Errorf("tokenizer: %w: marks on the parts of words", ErrUnsupported)
	}
	s := Spec{
		Model: MergeList, BOS: -1, EOS: -1, Unk: -1,
		Normalizer: present(f.Normalizer), PreTokenizer: json.RawMessage(`{"type":"Sequence","pretokenizers":[]}`),
		IgnoreMerges: m.IgnoreMerges, ByteFallback: m.ByteFallback, FuseUnk: m.FuseUnk,
	}
	if p := present(f.PreTokenizer); p != nil {
		s.PreTokenizer = p
	}
	if usesStep(s.PreTokenizer, "ByteLevel") || usesStep(f.Decoder, "ByteLevel") {
		s.Alphabet = ByteLevel
	}
	s.AddSpacePrefix = stripsStart(f.Decoder)
	bytes := m.ByteFallback || usesStep(f.Decoder, "ByteFallback")
	if err := s.addTokens(m.Vocab, f.Added, bytes); err != nil {
		return Spec{}, err
	}
	for i, raw := range m.Merges {
		pair, err := parseMerge(raw)
		if err != nil {
			return Spec{}, corruptf("merge %d: %v", i, err)
		}
		s.Merges = append(s.Merges, pair)
	}

	ids := s.byText()
	if m.Unk != nil {
		id, ok := ids[*m.Unk]
		if !ok {
			return Spec{}, corruptf("unknown token %q is not in the vocabulary", clip(*m.Unk))
		}
		s.Unk = id
		if s.Types[id] == Normal {
			s.Types[id] = Unknown
		}
	}
	if err := s.addRoles(ids, specials, config, f.PostProcessor); err != nil {
		return Spec{}, err
	}
	return s, s.validate()
}

type jsonFile struct {
	Normalizer    json.RawMessage `json:"normalizer"`
	PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
	PostProcessor json.RawMessage `json:"post_processor"`
	Decoder       json.RawMessage `json:"decoder"`
	Added         []jsonAdded     `json:"added_tokens"`
	Model         struct {
		Type         string            `json:"type"`
		Vocab        map[string]int64  `json:"vocab"`
		Merges       []json.RawMessage `json:"merges"`
		Unk          *string           `json:"unk_token"`
		Prefix       string            `json:"continuing_subword_prefix"`
		Suffix       string            `json:"end_of_word_suffix"`
		ByteFallback bool              `json:"byte_fallback"`
		FuseUnk      bool              `json:"fuse_unk"`
		IgnoreMerges bool              `json:"ignore_merges"`
	} `json:"model"`
}

type jsonAdded struct {
	ID         int64  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// addTokens lays the vocabulary out by id. Ids may leave a few holes. With
// bytes, tokens like <0x0A> are those of bytes and not plain text.
func (s *Spec) addTokens(vocab map[string]int64, added []jsonAdded, bytes bool) error {
	count := len(vocab) + len(added)
	if count > maxTokens {
		return corruptf("%d tokens, the limit is %d", count, maxTokens)
	}
	size := int64(0)
	check := func(id int64, t string) error {
		if id < 0 || id >= int64(2*count+256) {
			return corruptf("token %q has id %d among %d tokens", clip(t), id, count)
		}
		size = max(size, id+1)
		return nil
	}
	for t, id := range vocab {
		if err := check(id, t); err != nil {
			return err
		}
	}
	for _, a := range added {
		if err := check(a.ID, a.Content); err != nil {
			return err
		}
	}
	s.Tokens, s.Types = make([]string, size), make([]Type, size)
	for i := range s.Types {
		s.Types[i] = Unused
	}
	for t, id := range vocab {
		if s.Types[id] != Unused {
			a, b := min(s.Tokens[id], t), max(s.Tokens[id], t)
			return corruptf("id %d is both %q and %q", id, clip(a), clip(b))
		}
		s.Tokens[id], s.Types[id] = t, Normal
		if _, ok := ParseByteToken(t); ok && bytes {
			s.Types[id] = Byte
		}
	}
	for _, a := range added {
		if s.Types[a.ID] != Unused && s.Tokens[a.ID] != a.Content {
			return corruptf("id %d is both %q and %q", a.ID, clip(s.Tokens[a.ID]), clip(a.Content))
		}
		s.Tokens[a.ID], s.Types[a.ID] = a.Content, UserDefined
		if a.Special {
			s.Types[a.ID] = Control
		}
		if a.LStrip || a.RStrip || a.SingleWord || a.Normalized {
			s.Added = append(s.Added, Added{int32(a.ID), a.LStrip, a.RStrip, a.SingleWord, a.Normalized})
		}
	}
	return nil
}

// parseMerge reads "left right" or ["left", "right"].
func parseMerge(raw json.RawMessage) (pair [2]string, err error) {
	if len(raw) > 0 && raw[0] == '"' {
		var line string
		if err := json.Unmarshal(raw, &line); err != nil {
			return pair, err
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok {
			return pair, fmt.Errorf("%q is not two tokens", clip(line))
		}
		return [2]string{left, right}, nil
	}
	var parts []string
	if err := json.Unmarshal(raw, &parts); err != nil {
		return pair, err
	}
	if len(parts) != 2 {
		return pair, fmt.Errorf("%d parts, expected 2", len(parts))
	}
	return [2]string(parts), nil
}

// step is a normalizer, pre-tokenizer, decoder or post-processor: one thing or
// a sequence of them.
type step struct {
	Type          string            `json:"type"`
	PreTokenizers []json.RawMessage `json:"pretokenizers"`
	Decoders      []json.RawMessage `json:"decoders"`
	Processors    []json.RawMessage `json:"processors"`
	Start         int               `json:"start"`
	PrependScheme *string           `json:"prepend_scheme"`
	AddPrefix     *bool             `json:"add_prefix_space"`
	Single        []struct {
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
		Sequence *struct{} `json:"Sequence"`
	} `json:"single"`
}

// eachStep calls f for the steps in raw, in order, until it returns true.
func eachStep(raw json.RawMessage, f func(step) bool) bool {
	var s step
	if present(raw) == nil || json.Unmarshal(raw, &s) != nil {
		return false
	}
	if s.Type != "Sequence" {
		return f(s)
	}
	for _, list := range [][]json.RawMessage{s.PreTokenizers, s.Decoders, s.Processors} {
		for _, r := range list {
			if eachStep(r, f) {
				return true
			}
		}
	}
	return false
}

func usesStep(raw json.RawMessage, name string) bool {
	return eachStep(raw, func(s step) bool { return s.Type == name })
}

// stripsStart reports whether a decoder takes a space away from the start.
func stripsStart(raw json.RawMessage) bool {
	return eachStep(raw, func(s step) bool {
		switch s.Type {
		case "Strip":
			return s.Start > 0
		case "Metaspace":
			if s.PrependScheme != nil {
				return *s.PrependScheme != "never"
			}
			return s.AddPrefix == nil || *s.AddPrefix
		}
		return false
	})
}

// byText maps tokens to their ids.
func (s *Spec) byText() map[string]int32 {
	ids := make(map[string]int32, len(s.Tokens))
	for i, t := range s.Tokens {
		if t != "" {
			ids[t] = int32(i)
		}
	}
	return ids
}

// addRoles finds out which tokens begin and end a text.
func (s *Spec) addRoles(ids map[string]int32, specials, config []byte, post json.RawMessage) error {
	var addBOS, addEOS *bool
	for _, src := range []struct {
		name string
		data []byte
	}{{"special_tokens_map.json", specials}, {"tokenizer_config.json", config}} {
		if src.data == nil {
			continue
		}
		var c struct {
			BOS      json.RawMessage `json:"bos_token"`
			EOS      json.RawMessage `json:"eos_token"`
			AddBOS   *bool           `json:"add_bos_token"`
			AddEOS   *bool           `json:"add_eos_token"`
			Template json.RawMessage `json:"chat_template"`
		}
		if err := unmarshal(src.name, src.data, &c); err != nil {
			return err
		}
		for _, role := range []struct {
			raw json.RawMessage
			id  *int32
		}{{c.BOS, &s.BOS}, {c.EOS, &s.EOS}} {
			t := tokenText(role.raw)
			if t == "" {
				continue
			}
			id, ok := ids[t]
			if !ok {
				return corruptf("%s names token %q, which is not in the vocabulary", src.name, clip(t))
			}
			*role.id = id
		}
		if t := templateText(c.Template); t != "" {
			s.ChatTemplate = t
		}
		addBOS, addEOS = c.AddBOS, c.AddEOS
	}

	// The post-processor's template is what encoding really does; without one
	// the settings decide.
	var err error
	found := eachStep(post, func(p step) bool {
		if p.Type != "TemplateProcessing" {
			return false
		}
		s.AddBOS, s.AddEOS = false, false
		after := false
		for _, part := range p.Single {
			if part.SpecialToken == nil {
				after = true
				continue
			}
			id, ok := ids[part.SpecialToken.ID]
			switch {
			case !ok:
				err = corruptf("the post-processor names token %q, which is not in the vocabulary", clip(part.SpecialToken.ID))
			case !after && !s.AddBOS:
				s.BOS, s.AddBOS = id, true
			case after && !s.AddEOS:
				s.EOS, s.AddEOS = id, true
			default:
				err = fmt.Errorf("tokenizer: %w: more than one token before or after a text", ErrUnsupported)
			}
		}
		return true
	})
	if !found && addBOS != nil {
		s.AddBOS = *addBOS
	}
	if !found && addEOS != nil {
		s.AddEOS = *addEOS
	}
	return err
}

// tokenText reads a token written as a string or as an object with its content.
func tokenText(raw json.RawMessage) string {
	var t string
	if json.Unmarshal(raw, &t) == nil {
		return t
	}
	var o struct {
		Content string `json:"content"`
	}
	_ = json.Unmarshal(raw, &o) // anything else names no token
	return o.Content
}

// templateText reads a chat template, or the one called default of a list.
func templateText(raw json.RawMessage) string {
	var t string
	if json.Unmarshal(raw, &t) == nil {
		return t
	}
	var list []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	_ = json.Unmarshal(raw, &list) // anything else is no template
	for _, l := range list {
		if l.Name == "default" {
			return l.Template
		}
	}
	return ""
}

// present returns nil for a missing value and for null.
func present(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	return raw
}

func unmarshal(name string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("tokenizer: %w: %s: %w", ErrCorrupt, name, err)
	}
	return nil
}
