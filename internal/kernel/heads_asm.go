//go:build (amd64 || arm64) && !purego

package kernel

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// What surrounds the phases of attention on all processors: what a row sees,
// storing a slot, merging states.

// over is a/b, rounded up.
func over[T int | uint32](a, b T) T { return (a + b - 1) / b }

// seen is the run of slots that some row sees. It clears the masses of the rows,
// and ends those of rows that see nothing.
func seen(a *AttendArgs) (lo, hi int) {
	clear(a.Mass)
	if a.Spans == nil {
		return 0, Tile
	}
	lo, hi = Tile, 0
	for r, s := range a.Spans[:a.Rows] {
		if s.Lo < s.Hi {
			lo, hi = min(lo, int(s.Lo)), max(hi, int(s.Hi))
		} else {
			setLargest(a, r, float32(math.Inf(-1)))
		}
	}
	return lo, hi
}

// setLargest notes the largest score of row r, if it has a mass.
func setLargest(a *AttendArgs, r int, score float32) {
	if mass := a.MassOf(r); mass != nil {
		mass[Tile/Chunk] = score
	}
}

// see sets those of the scores s of row r between slots start and end to -Inf
// that the row does not see.
func see(a *AttendArgs, s []float32, r, start, end int) {
	none := float32(math.Inf(-1))
	lo, hi := int(a.Spans[r].Lo), int(a.Spans[r].Hi)
	for j := start; j < min(lo, end); j++ {
		s[j] = none
	}
	for j := max(hi, start); j < end; j++ {
		s[j] = none
	}
}

func float(b []byte) *float32 { return (*float32)(unsafe.Pointer(&b[0])) }

// maxHead is the size of heads up to which Store and Query need no memory.
const maxHead = 256

// padded returns x with zeros up to a multiple of 16, in buf if they fit.
func padded(x []float32, buf *[maxHead]float32) []float32 {
	n := StateLen(len(x)) - 16
	y := buf[:]
	if n > maxHead {
		y = make([]float32, n)
	}
	copy(y, x)
	return y[:n]
}

// spread multiplies x by Hadamard matrices, as ref.Q8Store does, and returns
// their size.
func spread(x []float32) int {
	n := len(x) & -len(x)
	for i := 0; i < len(x); i += n {
		hadamardAsm(&x[i], n)
	}
	return n
}

// q8Query is ref.Q8Query.
func q8Query(dst []byte, q []float32, scale float32) {
	var buf [maxHead]float32
	var sums [8]int32
	x := padded(q, &buf)
	size := spread(x)
	d := quantizeQueryAsm(&dst[0], &x[0], len(x), &sums)
	sum := int32(0)
	for _, s := range sums {
		sum += s
	}
	tail := dst[len(x):]
	binary.LittleEndian.PutUint32(tail, math.Float32bits(d*(scale/float32(size))))
	binary.LittleEndian.PutUint32(tail[4:], uint32(-128*sum))
}

func q8Store(tile []byte, slot int, k, v []float32) {
	var buf [maxHead]float32
	x := padded(k, &buf)
	spread(x)
	q8Put(tile, slot, x, true)
	clear(x)
	copy(x, v)
	q8Put(tile, slot, x, false)
}

// q8Put quantizes x as the key or the value of a slot.
func q8Put(tile []byte, slot int, x []float32, key bool) {
	var ints [maxHead]byte
	D := len(x)
	q := ints[:]
	if D > maxHead {
		q = make([]byte, D)
	}
	d := math.Float32bits(quantizeHeadAsm(&q[0], &x[0], D))
	scales := tile[2*Tile*D:]
	if key {
		binary.LittleEndian.PutUint32(scales[4*slot:], d)
		keys := tile[slot/Chunk*Chunk*D+slot%Chunk*4:]
		for i := 0; i < D; i += 4 {
			biased := binary.LittleEndian.Uint32(q[i:]) ^ 0x80808080
			binary.LittleEndian.PutUint32(keys[i*Chunk:], biased)
		}
		return
	}
	binary.LittleEndian.PutUint32(scales[4*Tile+4*slot:], d)
	values := tile[Tile*D+slot/4*4*D+slot%4:]
	for i, b := range q[:D] {
		values[i*4] = b
	}
}

func f16Store(tile []byte, slot int, k, v []float32) {
	var buf [maxHead]float32
	var halves [maxHead]uint16
	x := padded(k, &buf)
	D := len(x)
	h := halves[:]
	if D > maxHead {
		h = make([]uint16, D)
	}
	saturate(x)
	halfAsm(&h[0], &x[0], D)
	keys := tile[2*(slot/Chunk*Chunk*D+slot%Chunk):]
	for i, b := range h[:D] {
		binary.LittleEndian.PutUint16(keys[2*i*Chunk:], b)
	}
	clear(x)
	copy(x, v)
	saturate(x)
	halfAsm((*uint16)(unsafe.Pointer(&tile[2*(Tile+slot)*D])), &x[0], D)
}

// merge is ref.Merge.
func merge(state, next []float32, dim, rows int) {
	n := StateLen(dim)
	D := n - 16
	for r := range rows {
		s, o := state[r*n:(r+1)*n], next[r*n:(r+1)*n]
		mergeRow(s, o[:D], o[D], o[D+1])
	}
}

// mergeRow adds to a state the output of what follows, its largest score (-Inf
// if the row saw nothing there) and its sum.
func mergeRow(state, o []float32, largest, sum float32) {
	if math.IsInf(float64(largest), -1) {
		return
	}
	mergeAsm(&state[0], &o[0], largest, sum, len(o))
}
