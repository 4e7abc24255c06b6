package kvcache

import (
	"math"

	"triforce/internal/kernel"
)

// A view over a full cache on disk does not read for itself what it newly
// chooses: a pass over the full cache has all chunks in memory at some time.
// But which of them matter is known only after the pass. So each choice also
// says which chunks it would take next, and the pass that follows leaves copies
// of them; the next choice is among those, what the view shows already, and
// what is in memory. Only a view that shows nothing yet reads the cache for
// itself, once from beginning to end.

const chunksPerTile = kernel.Tile / kernel.Chunk

// lack is a chunk that must be read, and where it goes.
type lack struct{ dst, chunk int }

// hopes is how many chunks a choice of n hopes to have next, besides its own.
func hopes(n int) int { return max(2, n/2) }

// take keeps copies of the chunks that the next choice may want, of the tiles
// from lo to before hi, as they come by.
func (v *View) take(layer, head, lo, hi int) {
	c := &v.choices[layer*v.shape.Heads+head]
	for i, chunk := range c.likely {
		if t := int(chunk) / chunksPerTile; t >= lo && t < hi {
			v.stage.copyChunk(layer, head, i, v.full.Store, int(chunk))
			c.brought[i] = true
		}
	}
}

// atHand takes the chunks that would have to be read out of a choice, and notes
// the best of them for the next. Scores are of groups of per chunks.
func (v *View) atHand(c *choice, scores []float32, per int) {
	for len(c.hand) < len(c.chosen) {
		c.hand = append(c.hand, false)
	}
	for chunk := range v.start {
		c.hand[chunk] = c.chosen[chunk] || v.full.Resident(chunk/chunksPerTile)
	}
	for i, chunk := range c.likely {
		if c.brought[i] && int(chunk) < v.start {
			c.hand[chunk] = true
		}
	}
	_, threshold := c.best(scores, min((v.chosen+hopes(v.chosen))/per, len(scores)))
	for g, s := range scores {
		near := true
		for i := g * per; i < (g+1)*per; i++ {
			near = near && c.hand[i]
			if !c.hand[i] && s >= threshold && len(c.hoped) < hopes(v.chosen) {
				c.hoped = append(c.hoped, int32(i))
			}
		}
		if !near && !v.anew {
			scores[g] = float32(math.Inf(-1))
		}
	}
	if v.anew {
		c.hoped = c.hoped[:0] // all is read now
	}
}

// get copies a chunk of the full cache, or notes that it must be read.
func (v *View) get(layer, head int, c *choice, dst, chunk int) {
	if v.full.Resident(chunk / chunksPerTile) {
		v.copyChunk(layer, head, dst, v.full.Store, chunk)
		return
	}
	for i, have := range c.likely {
		if int(have) == chunk && c.brought[i] {
			v.copyChunk(layer, head, dst, v.stage, i)
			return
		}
	}
	c.missing = append(c.missing, lack{dst, chunk})
}

// averageFromDisk makes the mean keys of chunks that are on disk.
func (v *View) averageFromDisk() error {
	n := v.full.Len() / kernel.Chunk
	if v.chosen == 0 || v.opt.Rule != ByMean || v.meant >= n || v.full.Resident(v.meant/chunksPerTile) {
		return nil
	}
	err := v.full.scan(v.team, func(layer, head, lo, hi int) {
		from, to := max(v.meant, lo*chunksPerTile), min(n, hi*chunksPerTile)
		if from < to {
			v.average(layer, head, &v.choices[layer*v.shape.Heads+head], from, to)
		}
	})
	if err == nil {
		v.meant = n
	}
	return err
}

// readMissing reads what the view lacks.
func (v *View) readMissing() error {
	if v.stage == nil {
		return nil
	}
	lacking := false
	for i := range v.choices {
		lacking = lacking || len(v.choices[i].missing) > 0
	}
	var err error
	if lacking {
		err = v.full.scan(v.team, func(layer, head, lo, hi int) {
			for _, m := range v.choices[layer*v.shape.Heads+head].missing {
				if t := m.chunk / chunksPerTile; t >= lo && t < hi {
					v.copyChunk(layer, head, m.dst, v.full.Store, m.chunk)
				}
			}
		})
	}
	for i := range v.choices {
		v.choices[i].missing = v.choices[i].missing[:0]
	}
	return err
}
