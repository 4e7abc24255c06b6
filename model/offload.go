package model

import (
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// attendOffloaded runs over the tiles of a layer of a cache that is partly on
// disk. All rows and heads take one segment before the next, so that each is
// read once; which worker folds what is fixed, so that nobody waits for others
// between segments. The folds are those of any other pass.
//
// If a segment cannot be read, the pass has failed, and its states mean nothing.
func (a *Attention) attendOffloaded(w *par.Worker, layer int) {
	if a.pass.Err() != nil {
		return // in a layer before
	}
	items, workers := a.kvHeads*a.blocks, w.Team() // which may be fewer than there is scratch for
	for s := range a.segments {
		if !a.pass.Fetch(layer, s, w.ID) {
			return
		}
		for i := range items {
			turn := i
			if a.kept > 1 {
				turn += s // states of their own: anybody may fold them
			}
			mine := turn%workers == w.ID
			if s == 0 && (mine || a.kept > 1) { // the first tile is at hand now
				a.findFloors(w.ID, layer, i/a.blocks, i%a.blocks*a.blockRows)
			}
			if mine {
				a.attendSegment(w.ID, layer, i/a.blocks, i%a.blocks, s)
			}
		}
		a.pass.Release(layer, s, w.ID, workers)
	}
}

// attendSegment folds a segment into the states of a block of rows.
func (a *Attention) attendSegment(worker, layer, kvHead, block, s int) {
	lo := block * a.blockRows
	rows := a.pass.Rows[lo:min(lo+a.blockRows, a.rows)]
	n := len(rows) * a.group
	size := n * kernel.StateLen(a.dim)
	at := a.index(kvHead, lo) * a.group * kernel.StateLen(a.dim)
	switch {
	case a.kept > 1:
		a.fold(a.states[s*len(a.states)/a.kept+at:][:size], worker, layer, kvHead, lo, rows, s)
	case s == 0:
		a.fold(a.states[at:][:size], worker, layer, kvHead, lo, rows, s)
	default:
		part := a.partial[worker][:size]
		a.fold(part, worker, layer, kvHead, lo, rows, s)
		a.set.Merge(a.states[at:][:size], part, a.dim, n)
	}
}
