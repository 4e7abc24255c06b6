package model

import "triforce/tensor"

// Batch is the rows of one forward pass, which follow the tokens of a cache.
type Batch struct {
	Tokens []int32
	// Parents[i] is the row that row i follows, or -1 for the last token of
	// the cache; nil means that each row follows the one before.
	Parents []int32
	// Logits is how many rows, from the last backwards, want logits.
	Logits int
}

// Embedding is a stored matrix of which rows are looked up.
type Embedding struct{ tensor.Tensor }

// Lookup writes the embedding of a token.
func (e *Embedding) Lookup(dst []float32, token int32) {
	tensor.Dequantize(dst, e.DType, e.Row(int(token)))
}
