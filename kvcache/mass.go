package kvcache

import "triforce/internal/kernel"

// Mass is the attention that the chunks of a cache were given in one pass, by
// layer and KV head: the sum over the heads of the group and over the newest
// Rows rows of the softmax weights of the chunk's slots.
type Mass struct {
	// Rows is how many rows of a pass count, from the last backwards.
	Rows int

	heads   int
	sums    [][]float32   // (layers·heads)(chunks)
	queries [][][]float32 // (layers·heads)(group)(dim): of the last row
}

// NewMass makes a recorder for the shape that counts the newest rows. group is
// the number of query heads that share a KV head.
func NewMass(shape Shape, group, rows int) *Mass {
	m := &Mass{Rows: rows, heads: shape.Heads, sums: make([][]float32, shape.Layers*shape.Heads)}
	for range m.sums {
		var q [][]float32
		for range group {
			q = append(q, make([]float32, shape.Dim))
		}
		m.queries = append(m.queries, q)
	}
	return m
}

// SetQuery records the rotated query of a head of the last row; head counts
// query heads.
func (m *Mass) SetQuery(layer, head int, q []float32) {
	group := len(m.queries[0])
	copy(m.queries[layer*m.heads+head/group][head%group], q)
}

func (m *Mass) queriesOf(layer, head int) [][]float32 { return m.queries[layer*m.heads+head] }

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
