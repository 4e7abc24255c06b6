package kvcache

import (
	"fmt"

	"triforce/internal/kernel"
)

// Stream keeps the first tokens (sinks) and the newest (window), so that a
// model of short context serves a sequence of any length at constant cost
// (StreamingLLM: Xiao et al. 2023).
//
// Positions within the cache, not in the sequence, are what the model sees.
// Only distances matter to rotary embedding: those within the window are the
// same either way, so keys keep the rotation of their place in the sequence,
// and a query is turned a second time, by its place in the cache, for the
// sinks. No key is ever rotated again.
//
// Sinks are in tile 0, the window follows from tile 1 on. It moves down, whole
// chunks at a time, when its end reaches the end of the memory.
type Stream struct {
	*Store
	sinks, window int
	capacity      int // slots of the window's tiles
	held          int // sinks that are stored
	first         int // the token in slot kernel.Tile
	valid         int // the first token of the window that is stored
	length        int
	pass          Pass
}

// spare is how many tokens beyond the window survive its move, so that a
// rejected proposal can be rewound.
const spare = 128

// NewStream makes a cache of the first sinks and newest window tokens, for
// passes of up to maxRows rows. sinks is at most kernel.Tile.
func NewStream(store *Store, sinks, window, maxRows int) *Stream {
	room := window + spare + maxRows + kernel.Tile
	c := &Stream{Store: store, sinks: sinks, window: window, pass: Pass{Store: store}}
	c.capacity = (room + kernel.Tile - 1) / kernel.Tile * kernel.Tile
	c.expect(kernel.Tile + c.capacity)
	c.reserve(kernel.Tile + c.capacity)
	c.Rewind(0)
	return c
}

// Len is the number of tokens of the sequence.
func (c *Stream) Len() int { return c.length }

// Wants is the first token that a sequence of n tokens needs in the window:
// those between the sinks and it need not be fed (see Skip).
func (c *Stream) Wants(n int) int { return max(n-c.window, c.sinks) }

// Skip makes the cache stand for n tokens without those after its last: the
// window is empty.
func (c *Stream) Skip(n int) {
	if n < c.length {
		panic(fmt.Sprintf("kvcache: skip from token %d back to %d", c.length, n))
	}
	c.length, c.first, c.valid = n, n, n
}

// Begin makes room for rows.
func (c *Stream) Begin(rows int, parents []int32) (*Pass, error) {
	checkParents(rows, parents)
	if c.length == c.held && (c.held >= c.sinks || parents != nil) {
		c.first, c.valid = c.length, c.length // the window begins
	}
	p := &c.pass
	p.Sinks = true
	if c.length == c.held && c.held < c.sinks && parents == nil {
		return c.beginSinks(rows), nil
	}
	if c.length-c.first+rows > c.capacity {
		c.slide()
	}
	base := kernel.Tile + c.length - c.first
	p.plan(rows, parents, c.length, base, kernel.Tile+c.valid-c.first, c.window)
	for r := range p.Rows {
		row := &p.Rows[r]
		row.Sinks = int32(c.held)
		row.SinkPos = min(row.Pos, int32(c.held+c.window-1))
	}
	return p, nil
}

// beginSinks plans rows of which the first are sinks.
func (c *Stream) beginSinks(rows int) *Pass {
	p := &c.pass
	c.first, c.valid = c.sinks, c.sinks
	p.plan(rows, nil, c.length, c.length, 0, 0)
	for r := range p.Rows {
		row := &p.Rows[r]
		pos := int(row.Pos)
		if pos < c.sinks {
			row.Sinks, row.Lo, row.Hi = int32(pos+1), 0, 0
			continue
		}
		row.Slot = int32(kernel.Tile + pos - c.sinks)
		row.Sinks = int32(c.sinks)
		row.SinkPos = min(row.Pos, int32(c.sinks+c.window-1))
		row.Lo, row.Hi = max(kernel.Tile, row.Slot-int32(c.window)+1), row.Slot+1
	}
	return p
}

// slide moves the window to the start of its memory.
func (c *Stream) slide() {
	from := max(c.valid, c.length-c.window-spare)
	chunks := (from - c.first) / kernel.Chunk
	const tile = kernel.Tile / kernel.Chunk
	last := (c.length - c.first + kernel.Chunk - 1) / kernel.Chunk
	for l := range c.shape.Layers {
		for h := range c.shape.Heads {
			for i := chunks; i < last; i++ {
				c.copyChunk(l, h, tile+i-chunks, c.Store, tile+i)
			}
		}
	}
	c.first += chunks * kernel.Chunk
	c.valid = max(c.valid, c.first)
}

// End makes the rows of the pass part of the cache.
func (c *Stream) End() {
	if c.length == c.held {
		c.held = min(c.length+len(c.pass.Rows), c.first)
	}
	c.length += len(c.pass.Rows)
	c.pass.Rows = c.pass.Rows[:0]
}

// Rewind forgets all tokens from the n-th on. What the window has lost already
// stays lost: it is then shorter than it could be.
func (c *Stream) Rewind(n int) {
	if n < 0 || n > c.length {
		panic(fmt.Sprintf("kvcache: rewind to %d of %d tokens", n, c.length))
	}
	c.length, c.held = n, min(c.held, n)
	if n <= c.valid {
		c.first, c.valid = n, n
	}
}

// Keep forgets all rows from the base-th token on but those in path.
func (c *Stream) Keep(base int, path []int32) {
	c.keep(kernel.Tile+base-c.first, path)
	c.Rewind(base + len(path))
}
