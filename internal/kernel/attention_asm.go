//go:build amd64 && !purego

package kernel

import (
	"math"
	"math/bits"
	"unsafe"

	"triforce/internal/cpu"
	"triforce/internal/kernel/ref"
)

// attention is attention over one stored form on one tier: phases through scratch
// memory, each over all rows. Scores are taken in groups of 64 slots; the merge
// begins with the largest; softmax turns scores into weights, of q8_0 into
// integers that lie behind them, and values ends the merge. Rows that see nothing
// or leave the tile out have no step of the merge after the first two.
//
// Scratch holds for every row its scores (Tile float32), then for every row a step
// of the merge, and then for every row of q8_0 its integers (3·Tile bytes, in a
// layout of the tier's).
type attention struct {
	size       int // bytes of an element of keys and values
	ints       bool
	weight     int // bytes of a slot's weight; of an integer's upper half on AVX-512
	step       int // slots that values takes at a time
	queryBytes func(dim int) int

	// Rows that share what is loaded of the tile.
	scoreRows, valueRows int

	scores  func(s *float32, q *byte, ldq int, k *byte, scale *float32, dim, rows, groups int, ahead *byte, pace int)
	largest func(s *float32, step *float32, rows, groups int)
	softmax func(s *float32, p *byte, scale *float32, state *float32, ld int, step *float32, mass *float32, first, rows, groups int, ahead *byte, pace int)
	values  func(state *float32, ld int, step *float32, p *byte, v *byte, dim, rows, n int, ahead *byte, pace int)

	// What scores and softmax ask for of the next tile, in percent; values the rest.
	// most is what scores alone ask for where they take most of the time, if not zero.
	ahead [2]int
	most  int

	// What takes over from a number of rows on, for heads of one or two times 64.
	many     *attention
	manyRows int

	// What takes over if slots may be left out, where many would only up to a number of
	// rows. Its softmax and values go by what steps of the merge say of a tile, not by
	// groups of slots.
	sparse     *attention
	sparseRows int
}

const (
	group    = 64 // slots
	rowBytes = 4 * Tile
	intBytes = 3 * Tile
)

// mergeStep is a row's step of the merge, as the kernels know it.
type mergeStep struct {
	scale   float32    // of the integers; before that, the largest of them
	factors [2]float32 // of the state and of this tile
	largest float32    // score
	inverse float32    // of the scale
	least   float32    // how far below the largest a score may be; before that, how low
	row     int32
	mass    int32 // where its masses are, in bytes, or -1

	// Of a tile of which slots may be left out: the chunks with scores that are not too
	// low, and the quads of slots whose weights are small, and larger.
	chunks       uint64
	light, heavy uint64
}

const stepBytes = int(unsafe.Sizeof(mergeStep{}))

// accelerateAttention installs attention.
func accelerateAttention(s *Set, tier cpu.Tier) {
	ahead := [2]int{33, 34}
	if tier == cpu.AVX2 { // softmax is a small part of its time
		ahead = [2]int{50, 0}
	}
	q8 := attention{size: 1, ints: true, step: 4, queryBytes: ref.Q8QueryBytes, ahead: ahead}
	q8.largest = largestAVX2
	if tier != cpu.AVX2 {
		q8.largest = largestAVX512
	}
	f16 := attention{size: 2, largest: q8.largest, weight: 4, step: 1, queryBytes: ref.FloatQueryBytes, scoreRows: 6, valueRows: 6, ahead: ahead}
	f32 := f16
	f32.size = 4
	switch tier {
	case cpu.AVX2:
		q8.scoreRows, q8.valueRows, q8.weight = 4, 4, 2
		q8.scores, q8.softmax, q8.values = scoresQ8AVX2, softmaxIntsAVX2, valuesQ8AVX2
		f16.scores, f16.softmax, f16.values = scoresF16AVX2, softmaxFloatsAVX2, valuesF16AVX2
		f32.scores, f32.softmax, f32.values = scoresF32AVX2, softmaxFloatsAVX2, valuesF32AVX2
	case cpu.AVX512, cpu.AMX:
		q8.scoreRows, q8.valueRows = 6, 3
		q8.weight = 1
		q8.scores, q8.softmax, q8.values = scoresQ8AVX512, softmaxIntsAVX512, valuesQ8AVX512
		f16.scores, f16.softmax, f16.values = scoresF16AVX512, softmaxFloatsAVX512, valuesF16AVX512
		f32.scores, f32.softmax, f32.values = scoresF32AVX512, softmaxFloatsAVX512, valuesF32AVX512
	}
	if tier == cpu.AMX {
		tiles := q8
		tiles.scoreRows, tiles.valueRows, tiles.step = 0, 0, group
		tiles.scores, tiles.values = scoresQ8AMX, valuesQ8AMX
		q8.many, q8.manyRows, q8.sparseRows = &tiles, 9, 31
	}
	sparse := q8
	if tier == cpu.AVX2 {
		sparse.largest, sparse.softmax, sparse.values = sparseLargestAVX2, sparseSoftmaxAVX2, sparseValuesAVX2
		sparse.most = 80
	} else {
		sparse.largest, sparse.softmax, sparse.values = sparseLargestAVX512, sparseSoftmaxAVX512, sparseValuesAVX512
		sparse.ahead = [2]int{40, 30}
	}
	q8.sparse = &sparse
	for t, f := range map[KVType]*attention{KVQ8: &q8, KVF16: &f16, KVF32: &f32} {
		kv := &s.KV[t]
		kv.QueryBytes, kv.ScratchBytes, kv.Attend, kv.Peak = f.queryBytes, f.scratchBytes, f.attend, f.peak
	}
	s.KV[KVQ8].Query, s.KV[KVQ8].Store, s.KV[KVF16].Store = q8Query, q8Store, f16Store
	s.Merge = merge
}

func (f *attention) scratchBytes(_, rows int) int {
	n := rowBytes + stepBytes
	if f.ints {
		n += intBytes
	}
	return rows * n
}

func (f *attention) attend(a *AttendArgs, tile, scratch []byte) { f.run(a, tile, scratch, nil) }

func (f *attention) peak(a *AttendArgs, tile, scratch []byte, peak []float32) {
	f.run(a, tile, scratch, peak)
}

// run is Attend, or, with somewhere to put it, Peak. What kernels are given stays
// in registers: memory that was just written to in parts is slow to read.
func (f *attention) run(a *AttendArgs, tile, scratch []byte, peak []float32) {
	lo, hi := seen(a)
	if lo >= hi {
		return
	}
	start, end := lo&^(group-1), (hi+group-1)&^(group-1) // slots of whole groups
	groups := (end - start) / group
	ld := StateLen(a.Dim)
	dim := ld - 16
	half := Tile * dim * f.size // bytes of keys, and of values
	sparse := false
	many := f.many != nil && a.Rows >= f.manyRows && (dim == 64 || dim == 128)
	switch {
	case f.sparse != nil && a.Floor != nil && (!many || a.Rows <= f.sparseRows):
		f, sparse = f.sparse, true
	case many:
		f = f.many
	}

	scores := unsafe.Slice(float(scratch), a.Rows*Tile)
	step := float(scratch[a.Rows*rowBytes:])
	steps := unsafe.Slice((*mergeStep)(unsafe.Pointer(step)), a.Rows)
	weights := scratch
	var keyScale, valueScale *float32
	if f.ints {
		weights = scratch[a.Rows*(rowBytes+stepBytes):]
		keyScale = float(tile[2*half+4*start:])
	}

	alone := sparse && a.Rows == 1
	next := plan{tile: a.Next, first: f.ahead[0], second: f.ahead[1]}
	if a.Next == nil {
		next = plan{tile: tile[half:], first: 100}
	} else {
		if alone { // values of the next when it is known which
			next.tile = a.Next[:half]
		}
		if f.most > 0 && (alone || a.Rows > 6) {
			next.first, next.second = f.most, 0
		}
	}

	from, pace := next.part(0, next.first, f.work(a.Rows, groups, 0, dim).scores)
	f.scores(&scores[start], &a.Query[0], f.queryBytes(a.Dim), &tile[start*dim*f.size], keyScale, dim, a.Rows, groups, from, pace)
	if a.Spans != nil {
		for r := range a.Rows {
			see(a, scores[r*Tile:(r+1)*Tile], r, start, end)
		}
	}
	if sparse {
		for r := range a.Rows { // below that by more than rounding may take from a difference
			steps[r].least = a.Floor[r] - 0x1p-16
		}
	}
	f.largest(&scores[start], step, a.Rows, groups)
	if peak != nil {
		for r := range a.Rows {
			peak[r] = max(peak[r], steps[r].largest)
		}
		return
	}
	rows := closeUp(a, steps, start)
	if rows == 0 {
		return
	}
	var mass *float32
	if len(a.Mass) > 0 {
		mass = &a.Mass[0]
	}
	if sparse { // steps say what to take
		start = 0
	}
	if f.ints {
		valueScale = float(tile[2*half+4*(Tile+start):])
	}
	asks := groups * rows
	if sparse {
		asks = 2 * rows
	}
	from, pace = next.part(next.first, next.second, asks)
	f.softmax(&scores[start], &weights[start*f.weight], valueScale, &a.State[dim], ld, step, mass, start/group, rows, groups, from, pace)
	first, taken, left := lo/f.step, 0, 0
	if sparse {
		first, left = 0, max(quads(steps[:rows])*dim/16, 1)
		if alone { // several rows need most of the values
			fetchAsm(&tile[half], steps[0].light|steps[0].heavy, 4*dim)
		}
	} else {
		taken = (hi+f.step-1)/f.step - first
		left = f.work(rows, groups, taken, dim).values
	}
	lo = first * f.step
	from, pace = next.part(next.first+next.second, 100-next.first-next.second, left)
	f.values(&a.State[0], ld, step, &weights[lo*f.weight], &tile[half+lo*dim*f.size], dim, rows, taken, from, pace)
}

// quads is how many steps sparse values takes: small weights in twos. AVX-512 takes all
// in twos, and the larger once more, which is as many to one or two.
func quads(steps []mergeStep) int {
	n := 0
	for i := range steps {
		n += bits.OnesCount64(steps[i].heavy) + (bits.OnesCount64(steps[i].light)+1)/2
	}
	return n
}

// closeUp leaves steps of those rows that see something and do not leave the tile
// out, and completes them. It returns how many there are.
func closeUp(a *AttendArgs, steps []mergeStep, start int) int {
	n, unweighed := 0, a.Unweighed()
	for r := range steps {
		largest := steps[r].largest
		if math.IsInf(float64(largest), -1) || a.Floor != nil && largest < a.Floor[r] {
			setLargest(a, r, float32(math.Inf(-1)))
			continue
		}
		s := &steps[n]
		s.row, s.largest = int32(r), largest
		s.scale, s.least = a.Top(r, largest), a.Least(r, largest)
		s.chunks = steps[r].chunks << (start / Chunk)
		if s.mass = -1; r >= unweighed {
			setLargest(a, r, largest)
			s.mass = int32((r - unweighed) * MassLen * 4)
		}
		n++
	}
	return n
}

// plan has the phases ask for the next tile while this one is at work, each for
// its percentage; of the last tile, for its values while scores are made.
type plan struct {
	tile          []byte
	first, second int // percent; the third phase asks for the rest
}

// part is from where on a phase asks, for which part (in percent), and how many
// bytes in each of n steps.
func (p *plan) part(from, percent, n int) (*byte, int) {
	at := min(len(p.tile)*from/100, len(p.tile)-1)
	return &p.tile[at], int(over(uint32(len(p.tile)*percent/100), uint32(n)))
}

// work is the steps of two phases that a plan goes by: 16 slots by four bytes of
// the query (two of them) in scores, and 16 elements of values; in those of AMX, 64
// scores of a row and 32 elements of a row. In softmax a step is 64 scores of a row,
// or, if it is sparse, half of its work on a row.
type work struct{ scores, values int }

func (f *attention) work(rows, groups, steps, dim int) work {
	n := work{groups * rows, rows * dim / 32}
	if f.scoreRows > 0 {
		twice := dim / 2
		if f.ints {
			twice = dim / 8
		}
		n.scores = groups * group / Chunk * int(over(uint32(rows), uint32(f.scoreRows))) * twice
		n.values = steps * int(over(uint32(rows), uint32(f.valueRows))) * dim / 16
	}
	return n
}
