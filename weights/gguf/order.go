package gguf

import (
	"fmt"
	"math"
	"strings"

	"triforce/tensor"
	"triforce/weights"
)

// orders computes the row orders of one model's Q and K. Architecture "llama"
// stores the rotary pair (j, j+R/2) of a head of D rows, of which the first R
// rotate, in rows 2j and 2j+1; the rows from R on stay where they are.
type orders struct {
	meta weights.Meta
	// known holds the orders so far: all layers share them.
	known map[orderKey][]int32
}

type orderKey struct {
	rows  int
	heads int64
}

// apply gives t its order if it is stored in another than a model's. A bias has
// its elements moved instead, in a copy.
func (o *orders) apply(t *tensor.Tensor) error {
	order, err := o.of(t)
	if err != nil || order == nil {
		return err
	}
	if len(order) == t.Rows {
		t.Order = order
		return nil
	}
	data := make([]byte, 0, len(t.Data))
	n := t.DType.BlockBytes()
	for _, at := range order {
		data = append(data, t.Data[int(at)*n:(int(at)+1)*n]...)
	}
	t.Data = data
	return nil
}

// of returns where the file stores each row of t, or each element if t is a
// bias; nil if everything is in its place.
func (o *orders) of(t *tensor.Tensor) ([]int32, error) {
	if o.meta.String("general.architecture", "") != "llama" {
		return nil, nil
	}
	name, isBias := strings.CutSuffix(t.Name, ".bias")
	if !isBias {
		name = strings.TrimSuffix(t.Name, ".weight")
	}
	isQ, isK := strings.HasSuffix(name, ".attn_q"), strings.HasSuffix(name, ".attn_k")
	if !isQ && !isK || name == t.Name {
		return nil, nil
	}
	rows := t.Rows
	if isBias {
		if rows != 1 || t.DType.BlockSize() != 1 {
			return nil, fmt.Errorf("expected a vector of an unquantized format, found %d rows of %v: %w", rows, t.DType, weights.ErrCorrupt)
		}
		rows = t.Cols
	}
	heads, err := o.heads("llama.attention.head_count", 0)
	if isK && err == nil {
		heads, err = o.heads("llama.attention.head_count_kv", heads)
	}
	if err != nil {
		return nil, err
	}
	if int64(rows)%heads != 0 || rows > math.MaxInt32 {
		return nil, fmt.Errorf("expected rows for each of %d heads, found %d rows: %w", heads, rows, weights.ErrCorrupt)
	}
	key := orderKey{rows, heads}
	if order, ok := o.known[key]; ok {
		return order, nil
	}
	dim := rows / int(heads)
	rotary := o.meta.Int("llama.rope.dimension_count", int64(dim))
	if rotary < 0 || rotary > int64(dim) || rotary%2 != 0 {
		return nil, fmt.Errorf("expected an even llama.rope.dimension_count of at most %d rows a head, found %d: %w", dim, rotary, weights.ErrCorrupt)
	}
	order := interleaved(rows, dim, int(rotary))
	if o.known == nil {
		o.known = map[orderKey][]int32{}
	}
	o.known[key] = order
	return order, nil
}

func (o *orders) heads(key string, def int64) (int64, error) {
	if _, isList := o.meta.Value(key).([]int64); isList {
		return 0, fmt.Errorf("%s that differs by layer: %w", key, weights.ErrUnsupported)
	}
	n := o.meta.Int(key, def)
	if n < 1 {
		return 0, fmt.Errorf("expected a positive %s in the metadata, found %v: %w", key, o.meta[key], weights.ErrCorrupt)
	}
	return n, nil
}

// interleaved returns the stored place of each row, for heads of dim rows of
// which the first rotary are rotated.
func interleaved(rows, dim, rotary int) []int32 {
	order := make([]int32, rows)
	for r := range order {
		head, j := r/dim*dim, r%dim
		switch {
		case j < rotary/2:
			j = 2 * j
		case j < rotary:
			j = 2*(j-rotary/2) + 1
		}
		order[r] = int32(head + j)
	}
	return order
}
