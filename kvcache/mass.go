package kvcache

import "triforce/internal/kernel"

// Mass is the attention that the chunks of a cache were given in one pass, by
// layer and KV head: the sum over the heads of the group and over the newest
// Rows rows of the softmax weights of the chunk's slots.
type Mass struct {
	// Rows is how many rows of a pass count, from the last backwards.
	Rows int

	heads int
	sums  [][]float32 // (layers·heads)(chunks)
}

// NewMass makes a recorder for the shape that counts the newest rows.
func NewMass(shape Shape, rows int) *Mass {
	return &Mass{Rows: rows, heads: shape.Heads, sums: make([][]float32, shape.Layers*shape.Heads)}
}

// Chunks returns the masses of one layer's head by chunk. Workers of a pass
// may add to those of different tiles at the same time.
func (m *Mass) Chunks(layer, head int) []float32 { return m.sums[layer*m.heads+head] }

// begin clears the record and makes it as long as the slots need.
func (m *Mass) begin(slots int) {
	n := (slots + kernel.Tile - 1) / kernel.Tile * (kernel.Tile / kernel.Chunk)
	for i, s := range m.sums {
		if cap(s) < n {
			s = make([]float32, n, 2*n)
		}
		s = s[:n]
		clear(s)
		m.sums[i] = s
	}
}
