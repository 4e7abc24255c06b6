package bpe

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"triforce/tokenizer"
)

// normalizer rewrites a text before it is split.
type normalizer func(string) string

// parseNormalizer turns an object of tokenizer.json into a function, nil if
// raw is.
func parseNormalizer(raw json.RawMessage) (normalizer, error) {
	if raw == nil {
		return nil, nil
	}
	var p struct {
		Type        string            `json:"type"`
		Normalizers []json.RawMessage `json:"normalizers"`
		Prepend     string            `json:"prepend"`
		Pattern     pattern           `json:"pattern"`
		Content     string            `json:"content"`
		Left        bool              `json:"strip_left"`
		Right       bool              `json:"strip_right"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("bpe: %w: normalizer: %w", tokenizer.ErrCorrupt, err)
	}
	switch p.Type {
	case "Sequence":
		var all []normalizer
		for _, r := range p.Normalizers {
			n, err := parseNormalizer(r)
			if err != nil {
				return nil, err
			}
			all = append(all, n)
		}
		return func(s string) string {
			for _, n := range all {
				s = n(s)
			}
			return s
		}, nil
	case "NFC":
		return norm.NFC.String, nil
	case "NFD":
		return norm.NFD.String, nil
	case "NFKC":
		return norm.NFKC.String, nil
	case "NFKD":
		return norm.NFKD.String, nil
	case "Lowercase":
		return lowercase, nil
	case "Prepend":
		return func(s string) string {
			if s == "" {
				return s
			}
			return p.Prepend + s
		}, nil
	case "Strip":
		return func(s string) string {
			if p.Left {
				s = strings.TrimLeftFunc(s, unicode.IsSpace)
			}
			if p.Right {
				s = strings.TrimRightFunc(s, unicode.IsSpace)
			}
			return s
		}, nil
	case "Replace":
		switch {
		case p.Pattern.String != nil && *p.Pattern.String != "":
			return func(s string) string { return strings.ReplaceAll(s, *p.Pattern.String, p.Content) }, nil
		case p.Pattern.Regex != nil:
			return regexReplace(*p.Pattern.Regex, p.Content)
		}
		return nil, fmt.Errorf("bpe: %w: normalizer Replace without pattern", tokenizer.ErrCorrupt)
	}
	return nil, fmt.Errorf("bpe: %w: normalizer %.60q", tokenizer.ErrUnsupported, p.Type)
}

func regexReplace(pattern, content string) (normalizer, error) {
	re, err := compile(pattern)
	if err != nil {
		return nil, err
	}
	split := regexSplit{re: re, how: isolated}
	return func(s string) string {
		var out strings.Builder
		for _, part := range split.spans(s) {
			if part.match {
				out.WriteString(content)
			} else {
				out.WriteString(s[part.start:part.end])
			}
		}
		return out.String()
	}, nil
}

// lowercase lowers characters and keeps bytes that are not UTF-8.
func lowercase(s string) string {
	var out strings.Builder
	out.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError:
			out.WriteString(s[i : i+n])
		case r == 'İ':
			out.WriteString("i̇") // the one character whose lower case is two
		default:
			out.WriteRune(unicode.ToLower(r))
		}
		i += n
	}
	return out.String()
}
