package hub

import "strings"

// Pair is a target and a draft that belong together: they share a vocabulary,
// and their architecture is one that triforce runs.
type Pair struct {
	Name          string // a short one, for the target
	Target, Draft Name   // Draft is zero where none is known
	About         string
}

// Catalogue lists pairs to begin with.
func Catalogue() []Pair {
	name := func(repo, quant string) Name { return Name{Repo: repo, Quant: quant} }
	return []Pair{
		{"smollm2", name("bartowski/SmolLM2-1.7B-Instruct-GGUF", "Q4_K_M"), name("bartowski/SmolLM2-135M-Instruct-GGUF", "Q4_K_M"),
			"1.7B chat model for small machines, context 8K"},
		{"smollm2-135m", name("bartowski/SmolLM2-135M-Instruct-GGUF", "Q8_0"), Name{},
			"135M chat model to try things with, context 8K"},
		{"llama3.2", name("bartowski/Llama-3.2-3B-Instruct-GGUF", "Q4_K_M"), name("bartowski/Llama-3.2-1B-Instruct-GGUF", "Q4_K_M"),
			"3B chat model, context 128K"},
		{"llama3.1", name("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "Q4_K_M"), name("bartowski/Llama-3.2-1B-Instruct-GGUF", "Q4_K_M"),
			"8B chat model, context 128K"},
		{"llama2-128k", name("TheBloke/Yarn-Llama-2-7B-128K-GGUF", "Q4_K_M"), name("TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF", "Q4_K_M"),
			"7B model without chat, context 128K; its attention is what hierarchies gain most from"},
	}
}

// Lookup returns the pair of a short name.
func Lookup(name string) (Pair, bool) {
	for _, p := range Catalogue() {
		if strings.EqualFold(p.Name, name) {
			return p, true
		}
	}
	return Pair{}, false
}
