package model

import (
	"math"

	"triforce/internal/invariant"
	"triforce/internal/kernel"
)

// Of a long text most slots weigh next to nothing: their weight is lost to rounding
// beside the largest of all. A row leaves them out, that is, it does not read their
// values, and of a tile of which it leaves out all it makes no weights. The other
// weights are rounded to steps of the largest, so that many of them are small. What
// is the largest of all is known only in the end, but the row's newest slots and the
// first ones nearly always hold it, so they are looked at before the others. The
// rule is a function of the row alone, so it has the same bits in any batch.

const (
	// leastFloor is the number of slots that a row must see to leave any out: for
	// fewer, looking is not worth it.
	leastFloor = 8 * kernel.Tile
	// lookFirst and lookNewest are the slots that are looked at.
	lookFirst, lookNewest = 64, 128
)

// floors are the scores below which rows leave a slot out, as a worker found them
// for blocks of rows of a layer.
type floors struct {
	scores []float32 // (kvHeads, rows, group), or empty: no row leaves any out
	layers []int     // (kvHeads, blocks): the layer that they are of
}

func (f *floors) begin(a *Attention) {
	f.scores, f.layers = f.scores[:0], grown(f.layers, a.kvHeads*a.blocks)
	for i := range f.layers {
		f.layers[i] = -1
	}
	if a.tiles*kernel.Tile >= leastFloor && !a.pass.Sinks {
		f.scores = grown(f.scores, a.heads*a.rows)
	}
}

// of returns those of n queries from one on.
func (f *floors) of(query, n int) []float32 {
	if len(f.scores) == 0 {
		return nil
	}
	return f.scores[query : query+n]
}

// findFloors finds those of the block of rows that begins with lo, if the worker
// does not have them yet.
func (a *Attention) findFloors(worker, layer, kvHead, lo int) {
	f := &a.floors[worker]
	known := &f.layers[kvHead*a.blocks+lo/a.blockRows]
	if len(f.scores) == 0 || *known == layer {
		return
	}
	*known = layer
	rows := a.pass.Rows[lo:min(lo+a.blockRows, a.rows)]
	n := len(rows) * a.group
	at := a.index(kvHead, lo) * a.group
	peaks := f.of(at, n)
	for i := range peaks {
		peaks[i] = float32(math.Inf(-1))
	}
	from, to := int32(math.MaxInt32), int32(0) // the rows' newest slots
	for _, row := range rows {
		from, to = min(from, row.Hi-lookNewest), max(to, row.Hi)
	}
	args := &a.args[worker]
	args.Rows, args.Query = n, a.query[at*a.queryBytes:]
	args.State, args.Mass, args.Floor, args.Next = nil, nil, nil, nil
	for t := 0; t*kernel.Tile < int(to); t = max(t+1, int(from)/kernel.Tile) {
		args.Spans = a.spans[worker][:n]
		first := int32(t * kernel.Tile)
		for r, row := range rows {
			lo, hi := max(row.Lo, row.Hi-lookNewest)-first, row.Hi-first
			switch {
			case row.Hi-row.Lo < leastFloor:
				hi = 0
			case t == 0:
				lo, hi = row.Lo, lookFirst
			}
			hi = min(max(hi, 0), kernel.Tile)
			span := kernel.Span{Lo: min(max(lo, 0), hi), Hi: hi}
			for g := range a.group {
				args.Spans[r*a.group+g] = span
			}
		}
		if invariant.Enabled && t > 0 && !a.pass.Resident(t) {
			invariant.Failf("model: attention looks at tile %d, which is on disk", t)
		}
		tile := a.pass.Tile(layer, kvHead, t)
		if a.pass.Tree != nil && (t+1)*kernel.Tile > a.pass.Base {
			a.onTree(worker, layer, kvHead, lo, len(rows), t, func(args *kernel.AttendArgs, tile []byte, query int) {
				a.kv.Peak(args, tile, a.scratch[worker], peaks[query:])
			})
			continue
		}
		a.kv.Peak(args, tile, a.scratch[worker], peaks)
	}
	for i := range peaks {
		peaks[i] -= a.kv.Negligible
	}
}
