package model

import (
	"triforce/internal/kernel"
	"triforce/tensor"
)

// Batch is the rows of one forward pass, which follow the tokens of a cache.
type Batch struct {
	Tokens []int32
	// Parents[i] is the row that row i follows, or -1 for the last token of
	// the cache; nil means that each row follows the one before.
	Parents []int32
	// Logits is how many rows, from the last backwards, want logits.
	Logits int
	// States, if not nil, holds for each row the state (Config.State) that a
	// target had after the token before it, or nil where that is not known.
	States [][]float32
}

// Embedding is a matrix of which rows are looked up: as stored, or, if the
// output head is the same matrix and can be unpacked, as packed, so that the
// stored one need not be in memory too.
type Embedding struct {
	Stored tensor.Tensor
	Packed *kernel.Matrix // or nil
}

// Lookup writes the embedding of a token.
func (e *Embedding) Lookup(dst []float32, token int32) {
	if e.Packed != nil {
		e.Packed.Row(dst, int(token))
		return
	}
	tensor.Dequantize(dst, e.Stored.DType, e.Stored.Row(int(token)))
}
