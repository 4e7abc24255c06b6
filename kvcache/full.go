package kvcache

import (
	"fmt"

	"triforce/internal/kernel"
)

// Full keeps every token: slot i holds token i. Its pages come as the sequence
// grows.
type Full struct {
	*Store
	context int
	window  int
	length  int
	pass    Pass
}

// NewFull makes a cache of up to context tokens. If window is not zero, rows
// see only that many of the newest tokens, themselves included (sliding-window
// attention).
func NewFull(store *Store, context, window int) *Full {
	return &Full{Store: store, context: context, window: window, pass: Pass{Store: store}}
}

// Len is the number of tokens.
func (c *Full) Len() int { return c.length }

// Begin makes room for rows; it fails with ErrFull if they exceed the context,
// with ErrDisk if pages could not leave memory, and with ErrNoPages if a pool has
// none left.
func (c *Full) Begin(rows int, parents []int32) (*Pass, error) {
	checkParents(rows, parents)
	if c.length+rows > c.context {
		return nil, fmt.Errorf("kvcache: %d tokens and %d more exceed the context of %d: %w", c.length, rows, c.context, ErrFull)
	}
	if err := c.room(c.length, rows); err != nil {
		return nil, err
	}
	c.pass.plan(rows, parents, c.length, c.length, 0, c.window)
	if c.disk != nil {
		c.disk.ring.plan(c.pass.lowest() / kernel.Tile / Segment * Segment)
	}
	if c.pass.Mass != nil {
		c.pass.Mass.begin(c.length + rows)
	}
	return &c.pass, nil
}

// room makes room for rows from slot base on.
func (c *Full) room(base, rows int) error {
	if c.disk != nil {
		return c.disk.begin(base, rows)
	}
	if c.pool != nil {
		return c.pooled(base, rows)
	}
	c.reserve(base + rows)
	return nil
}

// End makes the rows of the pass part of the cache.
func (c *Full) End() {
	c.length += len(c.pass.Rows)
	c.pass.Rows = c.pass.Rows[:0]
}

// Record makes passes add the attention that chunks are given to m; nil stops
// that.
func (c *Full) Record(m *Mass) {
	c.pass.Mass = m
	if m == nil {
		c.pass.took = nil
	}
}

// Rewind forgets all tokens from the n-th on. Their pages stay for the tokens
// to come.
func (c *Full) Rewind(n int) {
	if n < 0 || n > c.length {
		panic(fmt.Sprintf("kvcache: rewind to %d of %d tokens", n, c.length))
	}
	c.length = n
}

// Keep forgets all rows from the base-th token on but those in path.
func (c *Full) Keep(base int, path []int32) {
	c.keep(base, path)
	c.length = base + len(path)
}

// keep moves the rows of path, which start at slot base, together.
func (s *Store) keep(base int, path []int32) {
	for i, r := range path {
		s.move(base+i, base+int(r))
	}
}
