package bpe

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"triforce/tokenizer"
)

// splitter is one step of a pre-tokenizer: it passes the parts of a text on,
// in order. first says that the text is the beginning of what is encoded.
type splitter interface {
	split(text string, first bool, yield emit)
}

func (scan scanner) split(text string, first bool, yield emit) {
	for text != "" {
		n := scan(text)
		yield(text[:n], first)
		text, first = text[n:], false
	}
}

// namedPreTokenizer returns the steps that GGUF metadata calls name.
func namedPreTokenizer(name string) ([]splitter, error) {
	var patterns []string
	switch name {
	case "default", "":
		patterns = []string{`[\p{P}\$\+<=>\^~\|]+`, gpt2Pattern, `\p{N}+`, `[0-9][0-9][0-9]`}
	case "gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "roberta-bpe", "gigachat", "mellum", "modern-bert":
		patterns = []string{gpt2Pattern}
	case "starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b":
		patterns = []string{`\p{N}`, gpt2Pattern}
	case "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "smaug-bpe", "dbrx", "chatglm-bpe", "glm4":
		patterns = []string{foldedMarks + llama3Numbers + newlineAware}
	case "qwen2", "stablelm2", "deepseek-r1-qwen", "hunyuan", "megrez", "kormo", "grok-2":
		patterns = []string{foldedMarks + qwen2Numbers + newlineAware}
	case "falcon":
		patterns = []string{"[\\p{P}\\$\\+<=>\\^~\\|`]+", gpt2Pattern, `[0-9][0-9][0-9]`}
	case "deepseek-coder":
		patterns = []string{`[\r\n]`, `\s?\p{L}+`, `\s?\p{P}+`, `[一-龥ࠀ-一가-퟿]+`, `\p{N}`}
	case "tekken":
		patterns = []string{`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` +
			`|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}` +
			`| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`}
	default:
		return nil, fmt.Errorf("bpe: %w: pre-tokenizer %.60q", tokenizer.ErrUnsupported, name)
	}
	steps := make([]splitter, len(patterns))
	for i, p := range patterns {
		var err error
		if steps[i], err = newSplit(p, false, isolated, false); err != nil {
			return nil, err
		}
	}
	return steps, nil
}

// preTokenizer is one object of tokenizer.json; which fields count depends on
// its type.
type preTokenizer struct {
	Type           string            `json:"type"`
	PreTokenizers  []json.RawMessage `json:"pretokenizers"`
	Pattern        pattern           `json:"pattern"`
	Behavior       behavior          `json:"behavior"`
	Invert         bool              `json:"invert"`
	Individual     bool              `json:"individual_digits"`
	AddPrefixSpace *bool             `json:"add_prefix_space"`
	UseRegex       *bool             `json:"use_regex"`
	Replacement    string            `json:"replacement"`
	PrependScheme  string            `json:"prepend_scheme"`
	Split          *bool             `json:"split"`
	Delimiter      string            `json:"delimiter"`
}

// pattern is a regular expression or plain text.
type pattern struct {
	Regex  *string `json:"Regex"`
	String *string `json:"String"`
}

func isTrue(b *bool, def bool) bool {
	if b == nil {
		return def
	}
	return *b
}

// parsePreTokenizer turns an object of tokenizer.json into steps.
func parsePreTokenizer(raw json.RawMessage) ([]splitter, error) {
	var p preTokenizer
	if err := json.Unmarshal(raw, &p); err != nil {
		return nil, fmt.Errorf("bpe: %w: pre_tokenizer: %w", tokenizer.ErrCorrupt, err)
	}
	one := func(s splitter, err error) ([]splitter, error) { return []splitter{s}, err }
	switch p.Type {
	case "Sequence":
		var all []splitter
		for _, r := range p.PreTokenizers {
			steps, err := parsePreTokenizer(r)
			if err != nil {
				return nil, err
			}
			all = append(all, steps...)
		}
		return all, nil
	case "Split":
		switch {
		case p.Behavior < isolated || p.Behavior > contiguous:
			return nil, fmt.Errorf("bpe: %w: pre_tokenizer Split without behavior", tokenizer.ErrCorrupt)
		case p.Pattern.Regex != nil:
			return one(newSplit(*p.Pattern.Regex, false, p.Behavior, p.Invert))
		case p.Pattern.String != nil:
			return one(newSplit(*p.Pattern.String, true, p.Behavior, p.Invert))
		}
		return nil, fmt.Errorf("bpe: %w: pre_tokenizer Split without pattern", tokenizer.ErrCorrupt)
	case "ByteLevel":
		var steps []splitter
		if isTrue(p.AddPrefixSpace, true) {
			steps = append(steps, prefixSpace{})
		}
		if isTrue(p.UseRegex, true) {
			steps = append(steps, scanner(scanGPT2))
		}
		return steps, nil
	case "Digits":
		how := contiguous
		if p.Individual {
			how = isolated
		}
		return []splitter{runeSplit{unicode.IsNumber, how}}, nil
	case "Punctuation":
		how := p.Behavior
		if how == 0 {
			how = isolated
		}
		return []splitter{runeSplit{isPunctuation, how}}, nil
	case "WhitespaceSplit":
		return []splitter{runeSplit{unicode.IsSpace, removed}}, nil
	case "Whitespace":
		return one(newSplit(`\w+|[^\w\s]+`, false, removed, true))
	case "CharDelimiterSplit":
		r, n := utf8.DecodeRuneInString(p.Delimiter)
		if n == 0 || n < len(p.Delimiter) {
			return nil, fmt.Errorf("bpe: %w: delimiter %.40q is not one character", tokenizer.ErrCorrupt, p.Delimiter)
		}
		return []splitter{runeSplit{func(c rune) bool { return c == r }, removed}}, nil
	case "Metaspace":
		m := metaspace{replacement: p.Replacement, prepend: p.PrependScheme, cut: isTrue(p.Split, true)}
		if m.prepend == "" {
			m.prepend = "always"
			if !isTrue(p.AddPrefixSpace, true) {
				m.prepend = "never"
			}
		}
		if utf8.RuneCountInString(m.replacement) != 1 {
			return nil, fmt.Errorf("bpe: %w: space replacement %.40q is not one character", tokenizer.ErrCorrupt, m.replacement)
		}
		return []splitter{m}, nil
	}
	return nil, fmt.Errorf("bpe: %w: pre_tokenizer %.60q", tokenizer.ErrUnsupported, p.Type)
}

// prefixSpace puts a space before a text that does not begin with one.
type prefixSpace struct{}

func (prefixSpace) split(text string, first bool, yield emit) {
	if text[0] != ' ' {
		text = " " + text
	}
	yield(text, first)
}

// metaspace spells spaces as another character and splits before each.
type metaspace struct {
	replacement string
	prepend     string // always, first or never
	cut         bool
}

func (m metaspace) split(text string, first bool, yield emit) {
	text = strings.ReplaceAll(text, " ", m.replacement)
	if (m.prepend == "always" || m.prepend == "first" && first) && !strings.HasPrefix(text, m.replacement) {
		text = m.replacement + text
	}
	for m.cut {
		n := 0
		if strings.HasPrefix(text, m.replacement) {
			n = len(m.replacement)
		}
		i := strings.Index(text[n:], m.replacement)
		if i < 0 {
			break
		}
		yield(text[:n+i], first)
		text, first = text[n+i:], false
	}
	yield(text, first)
}

// isPunctuation follows tokenizer.json: ASCII symbols count.
func isPunctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return '!' <= r && r <= '/' || ':' <= r && r <= '@' || '[' <= r && r <= '`' || '{' <= r && r <= '~'
	}
	return unicode.IsPunct(r)
}
