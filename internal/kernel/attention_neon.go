//go:build arm64 && !purego

package kernel

import (
	"math"
	"unsafe"

	"triforce/internal/kernel/ref"
)

// attention is attention over one stored form, in three phases: scores of all
// rows, the softmax of each, the values weighted for all rows, which then merge
// into the states. The tile that follows is not asked for ahead of time:
// processors do so for what is read in order.
//
// Scratch holds for every row its scores, which become its weights in place
// (Tile float32; of q8_0 bytes of integers, 32 for a chunk), then for every row
// the weighted values (D float32), then for every row the scale of its integers
// (float32).
type attention struct {
	size       int // bytes of an element of keys and values
	ints       bool
	queryBytes func(dim int) int

	// Kernels for 1, 2, 3 and 4 rows; those of integers or those of floats.
	scoreInts   [4]func(s *float32, q *byte, ldq int, k *byte, scale *float32, dim int, chunks int)
	scoreFloats [4]func(s *float32, q *byte, ldq int, k *byte, dim int, chunks int)
	valueInts   [4]func(o *float32, scale *float32, p *byte, v *byte, dim int, chunks int)
	valueFloats [4]func(o *float32, p *float32, v *byte, dim int, slots int)
}

const rowBytes = 4 * Tile // of scores

// accelerateAttention installs attention.
func accelerateAttention(s *Set) {
	forms := [numKVTypes]attention{
		KVQ8: {size: 1, ints: true, queryBytes: ref.Q8QueryBytes,
			scoreInts: [4]func(*float32, *byte, int, *byte, *float32, int, int){scoresQ8Rows1NEON, scoresQ8Rows2NEON, scoresQ8Rows3NEON, scoresQ8Rows4NEON},
			valueInts: [4]func(*float32, *float32, *byte, *byte, int, int){valuesQ8Rows1NEON, valuesQ8Rows2NEON, valuesQ8Rows3NEON, valuesQ8Rows4NEON}},
		KVF16: {size: 2, queryBytes: ref.FloatQueryBytes,
			scoreFloats: [4]func(*float32, *byte, int, *byte, int, int){scoresF16Rows1NEON, scoresF16Rows2NEON, scoresF16Rows3NEON, scoresF16Rows4NEON},
			valueFloats: [4]func(*float32, *float32, *byte, int, int){valuesF16Rows1NEON, valuesF16Rows2NEON, valuesF16Rows3NEON, valuesF16Rows4NEON}},
		KVF32: {size: 4, queryBytes: ref.FloatQueryBytes,
			scoreFloats: [4]func(*float32, *byte, int, *byte, int, int){scoresF32Rows1NEON, scoresF32Rows2NEON, scoresF32Rows3NEON, scoresF32Rows4NEON},
			valueFloats: [4]func(*float32, *float32, *byte, int, int){valuesF32Rows1NEON, valuesF32Rows2NEON, valuesF32Rows3NEON, valuesF32Rows4NEON}},
	}
	for t, f := range forms {
		s.KV[t].ScratchBytes, s.KV[t].Attend, s.KV[t].Peak = f.scratchBytes, f.attend, f.peak
	}
	s.KV[KVQ8].Query, s.KV[KVQ8].Store, s.KV[KVF16].Store = q8Query, q8Store, f16Store
	s.Merge = merge
}

func (f *attention) scratchBytes(dim, rows int) int {
	return rows * (rowBytes + 4*(StateLen(dim)-16) + 4)
}

const most = 4 // rows that share what is loaded of the tile

// scores puts the scores of n chunks from the first on into scratch, with -Inf where
// a row does not see.
func (f *attention) scores(a *AttendArgs, tile, scratch []byte, first, n int) []float32 {
	dim := StateLen(a.Dim) - 16
	scores := unsafe.Slice(float(scratch), a.Rows*Tile)
	for r := 0; r < a.Rows; r += most {
		k := min(most, a.Rows-r)
		s, key := &scores[r*Tile+first*Chunk], &tile[first*Chunk*dim*f.size]
		q, ldq := &a.Query[r*f.queryBytes(a.Dim)], f.queryBytes(a.Dim)
		if f.ints {
			f.scoreInts[k-1](s, q, ldq, key, float(tile[2*Tile*dim*f.size+4*first*Chunk:]), dim, n)
		} else {
			f.scoreFloats[k-1](s, q, ldq, key, dim, n)
		}
	}
	if a.Spans != nil {
		for r := range a.Rows {
			see(a, scores[r*Tile:(r+1)*Tile], r, first*Chunk, (first+n)*Chunk)
		}
	}
	return scores
}

// peak is Peak.
func (f *attention) peak(a *AttendArgs, tile, scratch []byte, peak []float32) {
	lo, hi := seen(a)
	if lo >= hi {
		return
	}
	first, n := lo/Chunk, over(hi, Chunk)-lo/Chunk // chunks
	scores := f.scores(a, tile, scratch, first, n)
	for r := range a.Rows {
		peak[r] = max(peak[r], largest(scores[r*Tile+first*Chunk:][:n*Chunk]))
	}
}

// largest is the largest score, of zeros the positive one.
func largest(s []float32) float32 {
	var top [4]float32
	copy(top[:], s)
	for ; len(s) >= 4; s = s[4:] {
		for i := range top {
			top[i] = max(top[i], s[i])
		}
	}
	return max(top[0], top[1], top[2], top[3]) + 0
}

func (f *attention) attend(a *AttendArgs, tile, scratch []byte) {
	lo, hi := seen(a)
	if lo >= hi {
		return
	}
	first, n := lo/Chunk, over(hi, Chunk)-lo/Chunk // chunks
	ld := StateLen(a.Dim)
	dim := ld - 16
	half := Tile * dim * f.size // bytes of keys, and of values
	scores := f.scores(a, tile, scratch, first, n)
	valueScales := tile[2*half:]
	if f.ints {
		valueScales = valueScales[4*Tile:]
	}
	output := unsafe.Slice(float(scratch[a.Rows*rowBytes:]), a.Rows*(dim+1))
	if f.ints && a.Floor != nil {
		sparse(a, scratch, scores, first, n, valueScales, tile[half:], output)
		return
	}
	scale := output[a.Rows*dim:]
	for r := 0; r < a.Rows; r += most {
		k, counts := min(most, a.Rows-r), 0
		var tops [most][4]float32 // the largest score, the sum of powers, the largest weight
		for i := range k {
			tops[i][0] = float32(math.Inf(-1))
			switch span := a.Span(r + i); {
			case span.Lo >= span.Hi:
			case a.Floor != nil && largest(scores[(r+i)*Tile+first*Chunk:][:n*Chunk]) < a.Floor[r+i]:
				setLargest(a, r+i, tops[i][0])
			default:
				scale[r+i] = f.softmax(a, scores[(r+i)*Tile:][:Tile], r+i, first, n, valueScales, &tops[i])
				counts++
			}
		}
		if counts == 0 {
			continue
		}
		if f.ints {
			f.valueInts[k-1](&output[r*dim], &scale[r], &scratch[r*rowBytes+32*first], &tile[half+first*Chunk*dim], dim, n)
		} else {
			f.valueFloats[k-1](&output[r*dim], &scores[r*Tile+lo], &tile[half+lo*dim*f.size], dim, hi-lo)
		}
		for i := range k {
			mergeRow(a.State[(r+i)*ld:][:ld], output[(r+i)*dim:][:dim], tops[i][0], tops[i][1])
		}
	}
}

// softmax turns the scores of row r over n chunks into weights, and returns the
// scale of those that are integers.
func (f *attention) softmax(a *AttendArgs, s []float32, r, first, n int, scales []byte, top *[4]float32) float32 {
	var mass *float32
	if m := a.MassOf(r); m != nil {
		mass = &m[first]
	}
	floor := float32(math.Inf(-1))
	if a.Floor != nil {
		floor = a.Floor[r]
	}
	at := &s[first*Chunk]
	if f.ints {
		softmaxIntsNEON(at, float(scales[4*first*Chunk:]), mass, floor, n, top)
	} else {
		softmaxFloatsNEON(at, nil, mass, floor, n, top)
	}
	setLargest(a, r, top[0])
	if !f.ints {
		return 1
	}
	inv, scale := integers(a, r, top)
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), rowBytes)
	roundNEON(&bytes[32*first], at, -inv, n)
	return scale
}

// integers returns what makes integers of the weights of row r, and their scale.
func integers(a *AttendArgs, r int, top *[4]float32) (inv, scale float32) {
	largest, integer := top[2], a.Top(r, top[0])
	if largest >= 0x1p-112 {
		inv = integer / largest
	}
	return inv, largest / integer
}

// sparse goes on with integers after the scores of n chunks from the first on, for
// rows that leave slots out: row by row, since each needs others.
func sparse(a *AttendArgs, scratch []byte, scores []float32, first, n int, scales, values []byte, output []float32) {
	ld := StateLen(a.Dim)
	dim := ld - 16
	for r := range a.Rows {
		if span := a.Span(r); span.Lo >= span.Hi {
			continue
		}
		var mass *float32
		if m := a.MassOf(r); m != nil {
			mass = &m[first]
		}
		var top [4]float32
		var chunks, small, large uint64
		s := &scores[r*Tile+first*Chunk]
		sparseSoftmaxNEON(s, float(scales[4*first*Chunk:]), mass, a.Floor[r], n, &top, &chunks)
		if top[0] < a.Floor[r] {
			setLargest(a, r, float32(math.Inf(-1)))
			continue
		}
		setLargest(a, r, top[0])
		inv, scale := integers(a, r, &top)
		bytes := &scratch[r*rowBytes+32*first]
		sparseRoundNEON(bytes, s, -inv, chunks, &small, &large)
		sparseValuesNEON(&output[0], scale, bytes, &values[first*Chunk*dim], dim, small, large)
		mergeRow(a.State[r*ld:][:ld], output[:dim], top[0], top[1])
	}
}
