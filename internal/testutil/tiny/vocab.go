package tiny

import (
	"fmt"
	"strings"

	"triforce/weights/gguf"
)

// Vocab is a kind of vocabulary. Both have printable ASCII, a few words and
// every byte; they begin with <unk>, <s> and </s>.
type Vocab uint8

// The kinds.
const (
	// SentencePiece spells spaces as ▁ and unknown characters as bytes.
	SentencePiece Vocab = iota
	// ByteLevel spells every byte as a character, as GPT-2 does.
	ByteLevel
)

// Kinds of tokens in metadata.
const (
	normal  = 1
	unknown = 2
	control = 3
	unused  = 5
	byteOf  = 6
)

// The first tokens.
const (
	Unk = iota
	BOS
	EOS
	specials
)

// words are the tokens that merges make, the most eager first; _ is a space.
var words = strings.Fields(`
	th the _the in er an on re nd and _and _a _w _s or en ing of _of _in ll it as
	he _he ou _b ed is _is was _was
`)

// merges returns every pair of tokens that makes a word.
func (v Vocab) merges() [][2]string {
	known := map[string]bool{}
	for _, t := range v.Tokens(0) {
		known[t] = true
	}
	var all [][2]string
	for _, w := range v.words() {
		for i := range w {
			if i > 0 && known[w[:i]] && known[w[i:]] {
				all = append(all, [2]string{w[:i], w[i:]})
			}
		}
	}
	return all
}

func (v Vocab) words() []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = strings.ReplaceAll(w, "_", v.space())
	}
	return all
}

func (v Vocab) space() string {
	if v == ByteLevel {
		return "Ġ"
	}
	return "▁"
}

// Tokens lists the vocabulary with so many unused tokens at its end.
func (v Vocab) Tokens(padding int) []string {
	all := []string{"<unk>", "<s>", "</s>"}
	if v == ByteLevel {
		for b := range 256 {
			all = append(all, byteChar(byte(b)))
		}
	} else {
		for b := range 256 {
			all = append(all, fmt.Sprintf("<0x%02X>", b))
		}
		for c := '!'; c <= '~'; c++ {
			all = append(all, string(c))
		}
		all = append(all, v.space())
	}
	all = append(all, v.words()...)
	for i := range padding {
		all = append(all, fmt.Sprintf("<unused%d>", i))
	}
	return all
}

// byteChar is GPT-2's character for a byte: itself if it is printable Latin-1,
// else the next of those from U+0100 on.
func byteChar(b byte) string {
	printable := func(b int) bool { return b > ' ' && b <= '~' || b >= 0xA1 && b != 0xAD }
	if printable(int(b)) {
		return string(rune(b))
	}
	at := rune(0x100)
	for i := range int(b) {
		if !printable(i) {
			at++
		}
	}
	return string(at)
}

// meta returns the keys of tokenizer.ggml.
func (v Vocab) meta(padding int) []gguf.KV {
	tokens := v.Tokens(padding)
	types, scores := make([]int64, len(tokens)), make([]float64, len(tokens))
	for i := range tokens {
		types[i] = normal
		switch {
		case i == Unk:
			types[i] = unknown
		case i < specials:
			types[i] = control
		case i >= len(tokens)-padding:
			types[i] = unused
		case v == SentencePiece && i < specials+256:
			types[i] = byteOf
		case v == SentencePiece:
			scores[i] = -float64(i)
		}
	}
	const key = "tokenizer.ggml."
	kv := []gguf.KV{
		{Key: key + "tokens", Value: tokens},
		{Key: key + "token_type", Value: types},
		{Key: key + "unknown_token_id", Value: Unk},
		{Key: key + "bos_token_id", Value: BOS},
		{Key: key + "eos_token_id", Value: EOS},
	}
	if v == SentencePiece {
		return append(kv,
			gguf.KV{Key: key + "model", Value: "llama"},
			gguf.KV{Key: key + "scores", Value: scores})
	}
	var lines []string
	for _, p := range v.merges() {
		lines = append(lines, p[0]+" "+p[1])
	}
	return append(kv,
		gguf.KV{Key: key + "model", Value: "gpt2"},
		gguf.KV{Key: key + "pre", Value: "gpt-2"},
		gguf.KV{Key: key + "merges", Value: lines})
}
