package model

import (
	"math"
	"math/bits"

	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
)

// Attention computes softmax(Q·Kᵀ/√dim)·V for the rows of a pass over the
// tiles of a cache. It owns the scratch of one sequence in a pass.
//
// Work is cut by KV head, by blocks of rows and, when there are few of those,
// by runs of segments. However it is cut, a row's result is the same fold, bit
// for bit: over the tiles of each segment, and over the segments, in ascending
// order.
type Attention struct {
	set            *kernel.Set
	kv             *kernel.KVKernels
	heads, kvHeads int
	dim            int
	group          int // query heads that share a KV head
	scale          float32
	queryBytes     int

	query, sink []byte    // (kvHeads, rows, group, queryBytes); sink rotated for sinks
	states      []float32 // (kept, kvHeads, rows, group, StateLen)
	masses      []float32 // (tiles, kvHeads, rows that count, group, MassLen)
	scratch     [][]byte  // by worker
	partial     [][]float32
	args        []kernel.AttendArgs
	spans       [][]kernel.Span
	lines       []line
	floors      []floors // by worker

	// The cut of the current pass.
	pass      *kvcache.Pass
	rows      int
	blockRows int
	blocks    int
	tiles     int
	segments  int
	runs      int
	kept      int // states of a row: one, or one a segment if there are runs
	massFrom  int // the first row whose mass is recorded, or rows
}

// blockQueries is how many queries attend to a tile in one call: many, since the tile
// comes from memory for each call, and so few that what they write there stays in the
// second cache, 2 KB each.
const blockQueries = 96

// segment is how many tiles are folded into a state of their own. It must not
// depend on the pass: folds of other tiles have other bits.
const segment = kvcache.Segment

// NewAttention makes the scratch for workers workers.
func NewAttention(set *kernel.Set, kvType kernel.KVType, heads, kvHeads, dim, workers int) *Attention {
	a := &Attention{
		set: set, kv: &set.KV[kvType],
		heads: heads, kvHeads: kvHeads, dim: dim, group: heads / kvHeads,
		scale: float32(math.Log2E / math.Sqrt(float64(dim))),
	}
	a.queryBytes, a.floors = a.kv.QueryBytes(dim), make([]floors, workers)
	a.blockRows = max(1, blockQueries/a.group)
	perCall := a.blockRows * a.group
	for range workers {
		a.scratch = append(a.scratch, make([]byte, a.kv.ScratchBytes(dim, perCall)))
		a.partial = append(a.partial, make([]float32, perCall*kernel.StateLen(dim)))
		a.args = append(a.args, kernel.AttendArgs{Dim: dim})
		a.spans = append(a.spans, make([]kernel.Span, perCall))
		a.lines = append(a.lines, line{tile: make([]byte, a.kv.TileBytes(dim))})
	}
	return a
}

// Twin returns the attention of another sequence in the same passes. The two
// share what belongs to the workers, each of which does one thing at a time.
func (a *Attention) Twin() *Attention {
	t := *a
	t.query, t.sink, t.states, t.masses, t.pass = nil, nil, nil, nil, nil
	t.floors = make([]floors, len(a.floors))
	return &t
}

// Begin plans the work for a pass. One worker calls it. If byHeads is set, no head's
// tiles are shared: whoever has made a head's queries may attend with it at once
// (AttendHead), without a Sync before, and Finish only reads.
func (a *Attention) Begin(pass *kvcache.Pass, byHeads bool) {
	a.pass, a.rows = pass, len(pass.Rows)
	a.blocks = over(a.rows, a.blockRows)
	last := int32(1)
	for _, r := range pass.Rows {
		last = max(last, r.Hi)
	}
	a.tiles = over(int(last), kernel.Tile)
	// Some sixteen items of work a worker make up for their unequal lengths: at a
	// layer's end one waits for the other's last. With half of that, or a quarter if
	// rows are many, runs are not worth the states of all segments that they keep.
	items, workers, least := a.kvHeads*a.blocks, len(a.scratch), 8
	if a.blocks > 1 {
		least = 4
	}
	a.segments = over(a.tiles, segment)
	a.runs = 1
	if workers > 1 && items < least*workers && !byHeads {
		a.runs = min(16*workers/items, a.segments)
	}
	a.kept = 1
	if a.runs > 1 {
		a.kept = a.segments
	}
	a.states = grown(a.states, a.kept*a.heads*a.rows*kernel.StateLen(a.dim))
	a.query = grown(a.query, a.heads*a.rows*a.queryBytes)
	if pass.Sinks {
		a.sink = grown(a.sink, a.heads*a.rows*a.queryBytes)
	}
	a.massFrom = a.rows
	for i := range a.floors {
		a.floors[i].begin(a)
	}
	if pass.Mass != nil {
		a.massFrom = max(0, a.rows-pass.Mass.Rows)
		a.masses = grown(a.masses, a.tiles*a.heads*(a.rows-a.massFrom)*kernel.MassLen)
	}
}

// grown returns s with length n, in new memory if it must be.
func grown[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/8)
	}
	return s[:n]
}

// SetQuery prepares the query of one head of a row, already rotated. sinks is
// the query as the sinks see it, or nil.
func (a *Attention) SetQuery(row, head int, q, sinks []float32) {
	at := a.index(head/a.group, row)*a.group + head%a.group
	a.kv.Query(a.query[at*a.queryBytes:(at+1)*a.queryBytes], q, a.scale)
	if sinks != nil {
		a.kv.Query(a.sink[at*a.queryBytes:(at+1)*a.queryBytes], sinks, a.scale)
	}
}

func (a *Attention) index(kvHead, row int) int { return kvHead*a.rows + row }

// Attend runs over the tiles of a layer, for all sequences of a pass. Every
// worker calls it; a Sync must follow, and then Finish.
func Attend(w *par.Worker, layer int, sequences []*Attention) {
	total := 0
	for _, a := range sequences {
		total += a.items()
	}
	for i := range w.Each(total) {
		for _, a := range sequences {
			if n := a.items(); i >= n {
				i -= n
				continue
			}
			a.attend(w.ID, layer, i/a.runs/a.blocks, i/a.runs%a.blocks, i%a.runs)
			break
		}
	}
	for _, a := range sequences {
		if a.pass.Offloaded() {
			a.attendOffloaded(w, layer)
		}
	}
}

// AttendHead does for one KV head of a sequence what Attend does for all.
func (a *Attention) AttendHead(worker, layer, kvHead int) {
	for block := range a.blocks {
		a.attend(worker, layer, kvHead, block, 0)
	}
}

// items is the number of pieces of work in a layer that workers share freely.
func (a *Attention) items() int {
	if a.pass.Offloaded() {
		return 0
	}
	return a.kvHeads * a.blocks * a.runs
}

// attend folds one run of segments into the states of a block of rows.
func (a *Attention) attend(worker, layer, kvHead, block, run int) {
	lo := block * a.blockRows
	rows := a.pass.Rows[lo:min(lo+a.blockRows, a.rows)]
	n := len(rows) * a.group
	size := n * kernel.StateLen(a.dim)
	at := a.index(kvHead, lo) * a.group * kernel.StateLen(a.dim)
	a.findFloors(worker, layer, kvHead, lo)
	of := func(i int) []float32 { return a.states[i*len(a.states)/a.kept+at:][:size] }
	for s := run * a.segments / a.runs; s < (run+1)*a.segments/a.runs; s++ {
		switch {
		case s == 0 || a.kept > 1:
			a.fold(of(s), worker, layer, kvHead, lo, rows, s)
		default:
			part := a.partial[worker][:size]
			a.fold(part, worker, layer, kvHead, lo, rows, s)
			a.set.Merge(of(0), part, a.dim, n)
		}
	}
}

// fold folds the tiles of segment s into empty states of the rows from lo on.
func (a *Attention) fold(states []float32, worker, layer, kvHead, lo int, rows []kvcache.Row, s int) {
	at := a.index(kvHead, lo) * a.group
	n := len(rows) * a.group
	args := &a.args[worker]
	args.Rows, args.State, args.Floor = n, states, a.floors[worker].of(at, n)
	a.set.Reset(states, a.dim, n)
	wholeFrom, wholeTo := a.whole(rows)
	for t := s * segment; t < min((s+1)*segment, a.tiles); t++ {
		if args.Spans = nil; t < wholeFrom || t >= wholeTo {
			args.Spans = a.spans[worker][:n]
			if !a.see(args.Spans, rows, t) {
				a.clearMass(t, kvHead, lo, len(rows))
				continue
			}
		}
		args.Query = a.query[at*a.queryBytes:]
		if t == 0 && a.pass.Sinks {
			args.Query = a.sink[at*a.queryBytes:]
		}
		args.Mass = a.mass(t, kvHead, lo, len(rows))
		args.Next = nil
		if t+1 < a.tiles && (a.pass.Resident(t+1) || t+1 < (s+1)*segment) {
			args.Next = a.pass.Tile(layer, kvHead, t+1)
		}
		if a.pass.Tree != nil && (t+1)*kernel.Tile > a.pass.Base {
			a.onTree(worker, layer, kvHead, lo, len(rows), t, func(args *kernel.AttendArgs, tile []byte, _ int) {
				a.kv.Attend(args, tile, a.scratch[worker])
			})
			continue
		}
		a.kv.Attend(args, a.pass.Tile(layer, kvHead, t), a.scratch[worker])
	}
}

// whole is the run of tiles of which all rows see every slot.
func (a *Attention) whole(rows []kvcache.Row) (from, to int) {
	lo, hi := int32(0), int32(math.MaxInt32)
	if a.pass.Sinks {
		lo = kernel.Tile
	}
	for _, row := range rows {
		lo, hi = max(lo, row.Lo), min(hi, row.Hi)
	}
	return over(int(lo), kernel.Tile), int(hi) / kernel.Tile
}

// see fills in what rows see of tile t and reports whether any sees any.
func (a *Attention) see(spans []kernel.Span, rows []kvcache.Row, t int) bool {
	any := false
	first := int32(t * kernel.Tile)
	for r, row := range rows {
		lo, hi := max(row.Lo-first, 0), min(row.Hi-first, kernel.Tile)
		if t == 0 && a.pass.Sinks {
			lo, hi = 0, row.Sinks
		}
		if lo >= hi {
			lo, hi = 0, 0
		} else {
			any = true
		}
		for g := range a.group {
			spans[r*a.group+g] = kernel.Span{Lo: lo, Hi: hi}
		}
	}
	return any
}

// line is a worker's copy of a tile in which the path to one row of a tree
// stands in a line.
type line struct {
	tile []byte
	rows [kernel.Tile]int32 // the row whose key and value each slot has
}

// onTree runs do on tile t, in which there are rows of a tree, for the queries of
// one row after the other, as if the path to it stood in consecutive slots: a sum
// over other slots has other bits. The worker's args are for all rows from lo on;
// do is told which query of those its own begin with.
func (a *Attention) onTree(worker, layer, kvHead, lo, rows, t int, do func(args *kernel.AttendArgs, tile []byte, query int)) {
	args, l := &a.args[worker], &a.lines[worker]
	base := a.pass.Base - t*kernel.Tile // of the tree in the tile
	copy(l.tile, a.pass.Tile(layer, kvHead, t))
	for i := range l.rows {
		l.rows[i] = int32(i - base)
	}
	all := *args
	args.Rows = a.group
	words := (a.rows + 63) / 64
	for r := range rows {
		slot := base
		for w, set := range a.pass.Tree[(lo+r)*words : (lo+r+1)*words] {
			for ; set != 0; set &= set - 1 {
				row := int32(w*64 + bits.TrailingZeros64(set))
				if slot >= 0 && slot < kernel.Tile && l.rows[slot] != row {
					from := a.pass.Base + int(row)
					a.kv.Move(l.tile, slot, a.pass.Tile(layer, kvHead, from/kernel.Tile), from%kernel.Tile, a.dim)
					l.rows[slot] = row
				}
				slot++
			}
		}
		at := r * a.group
		if all.Spans != nil {
			args.Spans = all.Spans[at : at+a.group]
		}
		if all.Floor != nil {
			args.Floor = all.Floor[at:]
		}
		if all.State != nil {
			args.State = all.State[at*kernel.StateLen(a.dim):]
		}
		args.Query = all.Query[at*a.queryBytes:]
		args.Mass = nil
		if first := all.Unweighed(); at >= first {
			args.Mass = all.Mass[(at-first)*kernel.MassLen:][:a.group*kernel.MassLen]
		}
		do(args, l.tile, at)
	}
	*args = all
}

// mass returns where tile t's masses of the queries of n rows from one on are kept:
// of those that count, which are the last.
func (a *Attention) mass(t, kvHead, row, n int) []float32 {
	from := max(row, a.massFrom)
	if n -= from - row; n <= 0 {
		return nil
	}
	at := ((t*a.kvHeads+kvHead)*(a.rows-a.massFrom) + from - a.massFrom) * a.group
	return a.masses[at*kernel.MassLen:][:n*a.group*kernel.MassLen]
}

// clearMass makes those of a tile that no row sees.
func (a *Attention) clearMass(t, kvHead, row, n int) {
	mass := a.mass(t, kvHead, row, n)
	for i := range mass {
		mass[i] = 0
		if i%kernel.MassLen == kernel.MassLen-1 {
			mass[i] = float32(math.Inf(-1))
		}
	}
}

// Finish merges the segments of one row and writes its output, (heads, dim), to
// dst. Different workers may finish different rows.
func (a *Attention) Finish(dst []float32, row int) {
	n := kernel.StateLen(a.dim)
	size := len(a.states) / a.kept
	for kvHead := range a.kvHeads {
		at := a.index(kvHead, row) * a.group * n
		state := a.states[at : at+a.group*n]
		for s := 1; s < a.kept; s++ {
			a.set.Merge(state, a.states[s*size+at:][:a.group*n], a.dim, a.group)
		}
		a.set.Finish(dst[kvHead*a.group*a.dim:], a.dim, state, a.dim, a.group)
	}
}

// Weigh adds the attention of the newest rows to the record of the pass, after
// all rows are finished. Every worker calls it; a Sync must follow.
func (a *Attention) Weigh(w *par.Worker, layer int) {
	const chunks = kernel.MassLen - 1 // of a tile
	lo, hi := w.Share(a.kvHeads*a.tiles, 1)
	n := kernel.StateLen(a.dim)
	queries := (a.rows - a.massFrom) * a.group
	for i := lo; i < hi; i++ {
		kvHead, t := i/a.tiles, i%a.tiles
		sums := (*[chunks]float32)(a.pass.Mass.Chunks(layer, kvHead)[t*chunks:])
		mass := a.mass(t, kvHead, a.massFrom, a.rows-a.massFrom)
		states := a.states[a.index(kvHead, a.massFrom)*a.group*n:][:queries*n]
		for q := range queries {
			m := (*[kernel.MassLen]float32)(mass[q*kernel.MassLen:])
			state := states[(q+1)*n-16:]
			weight := exp2(m[chunks]-state[0]) / state[1]
			if weight == 0 { // such as that of a tile that the row left out
				continue
			}
			for c := range sums {
				sums[c] += float32(weight * m[c])
			}
		}
	}
}

// exp2 is 2^x for x ≤ 0, to four digits, and 0 below 2^-30: enough for ranking.
func exp2(x float32) float32 {
	if !(x > -30) {
		return 0
	}
	n := int32(x - 0.5) // the nearest
	f := (x - float32(n)) * math.Ln2
	p := 1 + float32(f*(1./4))
	p = 1 + float32(float32(f*(1./3))*p)
	p = 1 + float32(float32(f*(1./2))*p)
	p = 1 + float32(f*p)
	return float32(p * math.Float32frombits(uint32(n+127)<<23))
}
