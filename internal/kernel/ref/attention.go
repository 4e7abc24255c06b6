package ref

import (
	"encoding/binary"
	"math"

	"triforce/tensor"
)

// A cache tile holds the keys and values of Tile slots of one KV head, each of
// dim elements padded with zeros to D = a multiple of 16. With s the slot and
// i the element:
//
//	q8_0   keys    Tile·D uint8: (s/16)·16·D + (i/4)·64 + s%16·4 + i%4, value+128
//	       values  Tile·D int8:  (s/4)·4·D + i·4 + s%4
//	       scales of keys, then of values: Tile float32 each (max|x|/127)
//	f16    keys    Tile·D float16: (s/16)·16·D + i·16 + s%16
//	f32    values  Tile·D float16: s·D + i            (f32 likewise)
//
// so that the keys and the values of an aligned chunk of 16 slots, and their
// scales, are each contiguous.

// Span is the run of slots [Lo, Hi) of a tile that a row sees.
type Span struct{ Lo, Hi int32 }

// State of one row of attention, over the tiles so far (Milakov and Gimelshein
// 2018): D floats of output not yet divided by the sum, then the largest
// score, the sum of 2^(score - largest), and padding to a multiple of 16.

// StateLen is the number of floats of a row's state.
func StateLen(dim int) int { return padDim(dim) + 16 }

func padDim(dim int) int { return (dim + 15) / 16 * 16 }

// Reset empties the states of rows: largest score -Inf, all else zero.
func Reset(state []float32, dim, rows int) {
	n := StateLen(dim)
	clear(state[:rows*n])
	for r := range rows {
		state[r*n+padDim(dim)] = float32(math.Inf(-1))
	}
}

// Merge adds to each row's state that of the following tiles: the same
// arithmetic, and so the same bits, as if Attend had run over them in turn.
func Merge(state, next []float32, dim, rows int) {
	n, D := StateLen(dim), padDim(dim)
	for r := range rows {
		o := next[r*n : (r+1)*n]
		merge(state[r*n:], o[:D], o[D], o[D+1])
	}
}

// merge is one step of the recurrence over tiles. A tile that a row does not
// see has largest = -Inf and leaves the state as it is.
func merge(state, o []float32, largest, sum float32) {
	if math.IsInf(float64(largest), -1) {
		return
	}
	D := len(o)
	m := max(state[D], largest)
	a, b := Exp2(state[D]-m), Exp2(largest-m)
	for i, v := range o {
		state[i] = FMA(v, b, float32(state[i]*a))
	}
	state[D] = m
	state[D+1] = FMA(sum, b, float32(state[D+1]*a))
}

// Finish divides the outputs by their sums: dst[r·ldd + i], i < dim. A row
// that saw nothing gives zeros.
func Finish(dst []float32, ldd int, state []float32, dim, rows int) {
	n, D := StateLen(dim), padDim(dim)
	for r := range rows {
		s := state[r*n:]
		inv := float32(0)
		if s[D+1] > 0 {
			inv = 1 / s[D+1]
		}
		o := dst[r*ldd:][:dim]
		for i, v := range s[:dim] {
			o[i] = float32(v * inv)
		}
	}
}

// MassLen is the number of floats that Attend writes about a row and tile: for
// every chunk the sum of 2^(score - largest), then the largest score.
const MassLen = Tile/Chunk + 1

// Attention over one tile. For every row r with a non-empty span, in turn:
//
//	s[j] = score(q[r], k[j])                  j in span
//	p[j] = 2^(s[j] - max s), or 0 if s[j] - max s < floor[r] - max s
//	l = Σ p[j] in lanes of 16 slots,  o = Σ p[j]·v[j]
//	state[r] = merge(state[r], o, max s, l)
//	mass[r] = Σ p[j] by chunk, max s
//
// mass is that of the last rows only, or nil; a row with an empty span keeps its
// state and has its mass cleared, with -Inf as the largest score. So does a row
// whose largest score is below its floor: it leaves the tile out. A floor is the
// largest score that a row has, as far as is known, less NegligibleInt or
// NegligibleFloat. The score includes what Query was given as scale, which folds in
// log2(e). Slots from the least Lo to the largest Hi hold keys and values; others
// may be garbage.

// Args is what Attend works on. Queries are rows of the stored form's
// QueryBytes, one after another.
type Args struct {
	Dim, Rows int
	State     []float32 // (rows, StateLen)
	Query     []byte    // (rows, QueryBytes)
	Spans     []Span    // (rows), or nil: all see the whole tile
	Floor     []float32 // (rows) or nil
	Mass      []float32 // (rows that are the last ones, MassLen)
	Next      []byte    // the tile that follows, or nil: a hint for fast memory
}

// Weights of softmax that are smaller than the largest of all by such powers of two
// are lost to rounding: to integers of 15 bits, of sums in float32.
const NegligibleInt, NegligibleFloat = 16, 24

// Span is what row r sees.
func (a *Args) Span(r int) Span {
	if a.Spans == nil {
		return Span{Hi: Tile}
	}
	return a.Spans[r]
}

// Unweighed is how many rows have no mass: the first ones.
func (a *Args) Unweighed() int { return a.Rows - len(a.Mass)/MassLen }

// MassOf is that of row r, or nil.
func (a *Args) MassOf(r int) []float32 {
	if r -= a.Unweighed(); r >= 0 {
		return a.Mass[r*MassLen : (r+1)*MassLen]
	}
	return nil
}

// Least is how far below row r's largest score over the tile a score may be to
// weigh anything, as a power of two: above what would underflow, at its floor.
func (a *Args) Least(r int, largest float32) float32 {
	if a.Floor == nil {
		return exp2Least
	}
	return max(exp2Least, a.Floor[r]-largest)
}

// Top is the integer that the largest weight of row r becomes in a tile with that
// largest score: of 15 bits, less a bit for every power of two that the score is
// below the largest of all.
func (a *Args) Top(r int, largest float32) float32 {
	if a.Floor == nil {
		return 32767
	}
	below := int32(min(largest-(a.Floor[r]+NegligibleInt), 0))
	return 32767 * math.Float32frombits(uint32(127+below)<<23)
}

// largest puts the scores of row r into p and returns the largest, of zeros the
// positive one.
func (a *Args) largest(score func(r, j int) float32, r int, p *[Tile]float32) float32 {
	largest := float32(math.Inf(-1))
	for j := max(a.Span(r).Lo, 0); j < a.Span(r).Hi; j++ {
		p[j] = score(r, int(j))
		largest = max(largest, p[j])
	}
	return largest + 0
}

// peaks raises peak of every row to its largest score.
func (a *Args) peaks(score func(r, j int) float32, peak []float32) {
	var p [Tile]float32
	for r := range a.Rows {
		peak[r] = max(peak[r], a.largest(score, r, &p))
	}
}

// scored runs the part that stored forms share: score gives s[j], and values
// turns the weights p of row r into o.
func (a *Args) scored(score func(r, j int) float32, values func(o, p []float32, span Span, top float32)) {
	D, n := padDim(a.Dim), StateLen(a.Dim)
	o := make([]float32, D)
	var p [Tile]float32
	for r := range a.Rows {
		span, mass := a.Span(r), a.MassOf(r)
		largest := a.largest(score, r, &p)
		if a.Floor != nil && largest < a.Floor[r] {
			largest, span = float32(math.Inf(-1)), Span{}
		}
		least := a.Least(r, largest)
		weighs := func(j int) bool { return j >= int(span.Lo) && j < int(span.Hi) && p[j]-largest >= least }
		var sum [lanes]float32
		for c := range Tile / Chunk {
			var chunk [lanes]float32
			for i := range Chunk {
				j := c*Chunk + i
				if weighs(j) {
					p[j] = Exp2(p[j] - largest)
				} else {
					p[j] = 0
				}
				chunk[i] = p[j]
				sum[i] += p[j]
			}
			if mass != nil {
				mass[c] = treeSum(chunk)
			}
		}
		if mass != nil {
			mass[Tile/Chunk] = largest
		}
		if span.Lo < span.Hi {
			values(o, p[:], span, a.Top(r, largest))
			merge(a.State[r*n:], o, largest, treeSum(sum))
		}
	}
}

// Q8TileBytes is the size of a q8_0 tile.
func Q8TileBytes(dim int) int { return Tile * (2*padDim(dim) + 8) }

func q8Key(D, s, i int) int   { return s/16*16*D + i/4*64 + s%16*4 + i%4 }
func q8Value(D, s, i int) int { return Tile*D + s/4*4*D + i*4 + s%4 }
func q8Scales(D, s int) (k, v int) {
	return 2*Tile*D + 4*s, 2*Tile*D + 4*Tile + 4*s
}

// Hadamard multiplies x in place by the Walsh-Hadamard matrix of its length n,
// a power of two, without the factor 1/√n: butterflies at distance 1, 2, 4, …
func Hadamard(x []float32) {
	for d := 1; d < len(x); d *= 2 {
		for i := range x {
			if i&d == 0 {
				a, b := x[i], x[i+d]
				x[i], x[i+d] = a+b, a-b
			}
		}
	}
}

// MaxDim is the largest head that the judge has room for.
const MaxDim = 1024

// spread fills y with x, padded with zeros to D elements, with every run of n
// multiplied by the Hadamard matrix, n being the largest power of two that
// divides D. Keys have a few elements much larger than the others, which would
// take up the whole range of eight bits; the product spreads them evenly
// (Ashkboos et al. 2024). Done to queries too, it leaves scores as they were,
// n times as large.
func spread(buf *[MaxDim]float32, x []float32) (y []float32, n int) {
	D := padDim(len(x))
	n = D & -D
	y = buf[:D]
	clear(y[copy(y, x):])
	for i := 0; i < D; i += n {
		Hadamard(y[i : i+n])
	}
	return y, n
}

// Q8Store quantizes the key, spread, and the value of one slot into a q8_0
// tile.
func Q8Store(tile []byte, slot int, k, v []float32) {
	D := padDim(len(k))
	var buf [MaxDim]float32
	k, _ = spread(&buf, k)
	ks, vs := q8Scales(D, slot)
	putF32(tile[ks:], quantizeVector(k, largest(k), func(i int, q int32) { tile[q8Key(D, slot, i)] = byte(q + 128) }))
	putF32(tile[vs:], quantizeVector(v, largest(v), func(i int, q int32) { tile[q8Value(D, slot, i)] = byte(int8(q)) }))
	for i := len(v); i < D; i++ {
		tile[q8Value(D, slot, i)] = 0
	}
}

// tiny is below what is worth scaling up to integers: their scales' inverses
// are finite.
const tiny = 0x1p-112

func magnitude(x float32) float32 { return float32(math.Abs(float64(x))) }

func largest(x []float32) float32 {
	amax := float32(0)
	for _, v := range x {
		amax = max(amax, magnitude(v))
	}
	return amax
}

// quantizeVector gives set the integers round(x/d) and returns d = amax/127.
// They are zero if amax is tiny.
func quantizeVector(x []float32, amax float32, set func(i int, q int32)) float32 {
	inv := float32(0)
	if amax >= tiny {
		inv = 127 / amax
	}
	for i, v := range x {
		set(i, int32(roundEven(float32(v*inv))))
	}
	return amax / 127
}

// Q8Load returns the key and value of one slot of a q8_0 tile.
func Q8Load(k, v []float32, tile []byte, slot int) {
	D := padDim(len(k))
	var buf, out [MaxDim]float32
	ks, vs := q8Scales(D, slot)
	scale := getF32(tile[ks:])
	for i := 0; i < D; i += 4 {
		c := tile[q8Key(D, slot, i):][:4]
		for j, c := range c {
			buf[i+j] = float32(int32(c)-128) * scale
		}
	}
	scale = getF32(tile[vs:])
	values := tile[q8Value(D, slot, 0):]
	for i := range v {
		v[i] = float32(int8(values[4*i])) * scale
	}
	key, n := spread(&out, buf[:D])
	for i := range k {
		k[i] = key[i] / float32(n)
	}
}

// Q8QueryBytes is the size of a query row for q8_0 tiles: D int8, the scale as
// float32, and -128 times the sum of the integers as int32.
func Q8QueryBytes(dim int) int { return padDim(dim) + 8 }

// Q8Query quantizes a query, spread as keys are, and folds scale into its
// scale: d·(scale/n). Sums of its pairs, too, are at most 127d before they are
// rounded, so that 16 bits hold what a pair yields with any keys from 0 to 255:
// 255·(127+1).
func Q8Query(dst []byte, q []float32, scale float32) {
	D := padDim(len(q))
	var buf [MaxDim]float32
	q, n := spread(&buf, q)
	scale /= float32(n)
	amax := largest(q)
	for i := 0; i < D; i += 2 {
		amax = max(amax, magnitude(q[i]+q[i+1]))
	}
	sum := int32(0)
	d := quantizeVector(q, amax, func(i int, q int32) {
		dst[i] = byte(int8(q))
		sum += q
	})
	putF32(dst[D:], float32(d*scale))
	binary.LittleEndian.PutUint32(dst[D+4:], uint32(-128*sum))
}

// q8Scores returns the scores of a q8_0 tile.
func (a *Args) q8Scores(tile []byte) func(r, j int) float32 {
	D := padDim(a.Dim)
	return func(r, j int) float32 {
		q := a.Query[r*Q8QueryBytes(a.Dim):]
		dot := int32(binary.LittleEndian.Uint32(q[D+4:]))
		for i := range D {
			dot += int32(tile[q8Key(D, j, i)]) * int32(int8(q[i]))
		}
		ks, _ := q8Scales(D, j)
		return float32(float32(dot)*getF32(tile[ks:])) * getF32(q[D:])
	}
}

// Q8Peak is Peak over a q8_0 tile.
func Q8Peak(a *Args, tile []byte, peak []float32) { a.peaks(a.q8Scores(tile), peak) }

// Q8Attend is Attend over a q8_0 tile. Scores are integer dot products:
// (float(q·k)·kscale)·qscale. The weights times their value's scale are
// rounded to integers, w[j] = round(p[j]·vscale[j]·inv), inv = top/max(p·vscale),
// so that the sums over values are integers too:
// o[i] = float(Σ w[j]·v[j][i])·(max(p·vscale)/top).
func Q8Attend(a *Args, tile []byte) {
	D := padDim(a.Dim)
	a.scored(a.q8Scores(tile), func(o, p []float32, span Span, top float32) {
		_, vs := q8Scales(D, 0)
		var w [Tile]float32
		largest := float32(0)
		for j := span.Lo; j < span.Hi; j++ {
			w[j] = float32(p[j] * getF32(tile[vs+4*int(j):]))
			largest = max(largest, w[j])
		}
		inv := float32(0)
		if largest >= tiny {
			inv = top / largest
		}
		for i := range o {
			sum := int32(0)
			for j := span.Lo; j < span.Hi; j++ {
				sum += int32(roundEven(float32(w[j]*inv))) * int32(int8(tile[q8Value(D, int(j), i)]))
			}
			o[i] = float32(sum) * (largest / top)
		}
	})
}

// F16TileBytes is the size of an f16 tile.
func F16TileBytes(dim int) int { return Tile * padDim(dim) * 2 * 2 }

// F32TileBytes is the size of an f32 tile.
func F32TileBytes(dim int) int { return Tile * padDim(dim) * 2 * 4 }

func floatKey(D, s, i int) int   { return s/16*16*D + i*16 + s%16 }
func floatValue(D, s, i int) int { return Tile*D + s*D + i }

// F16Store rounds the key and value of one slot into an f16 tile. What is too
// large for float16 becomes the largest: an infinity would make the sums of rows
// that do not see the slot, in which it counts zero times, no number.
func F16Store(tile []byte, slot int, k, v []float32) {
	D := padDim(len(k))
	for i := range D {
		var ki, vi float32
		if i < len(k) {
			ki, vi = Saturate16(k[i]), Saturate16(v[i])
		}
		binary.LittleEndian.PutUint16(tile[2*floatKey(D, slot, i):], tensor.F32ToF16(ki))
		binary.LittleEndian.PutUint16(tile[2*floatValue(D, slot, i):], tensor.F32ToF16(vi))
	}
}

// Saturate16 brings x within the range of float16.
func Saturate16(x float32) float32 { return min(max(x, -65504), 65504) }

// F32Store keeps the key and value of one slot in an f32 tile.
func F32Store(tile []byte, slot int, k, v []float32) {
	D := padDim(len(k))
	for i := range D {
		var ki, vi float32
		if i < len(k) {
			ki, vi = k[i], v[i]
		}
		putF32(tile[4*floatKey(D, slot, i):], ki)
		putF32(tile[4*floatValue(D, slot, i):], vi)
	}
}

// F16Load returns the key and value of one slot of an f16 tile.
func F16Load(k, v []float32, tile []byte, slot int) {
	D := padDim(len(k))
	for i := range k {
		k[i] = f16(tile[2*floatKey(D, slot, i):])
		v[i] = f16(tile[2*floatValue(D, slot, i):])
	}
}

// F32Load returns the key and value of one slot of an f32 tile.
func F32Load(k, v []float32, tile []byte, slot int) {
	D := padDim(len(k))
	for i := range k {
		k[i] = getF32(tile[4*floatKey(D, slot, i):])
		v[i] = getF32(tile[4*floatValue(D, slot, i):])
	}
}

// FloatQueryBytes is the size of a query row for f16 and f32 tiles: D float32.
func FloatQueryBytes(dim int) int { return 4 * padDim(dim) }

// FloatQuery multiplies a query by scale.
func FloatQuery(dst []byte, q []float32, scale float32) {
	clear(dst[:FloatQueryBytes(len(q))])
	for i, v := range q {
		putF32(dst[4*i:], float32(v*scale))
	}
}

// Q8Move copies the key and value of a slot of a q8_0 tile over those of a slot
// of the same or another tile.
func Q8Move(dst []byte, to int, src []byte, from, dim int) {
	D := padDim(dim)
	for i := range D {
		dst[q8Key(D, to, i)] = src[q8Key(D, from, i)]
		dst[q8Value(D, to, i)] = src[q8Value(D, from, i)]
	}
	tk, tv := q8Scales(D, to)
	fk, fv := q8Scales(D, from)
	copy(dst[tk:tk+4], src[fk:fk+4])
	copy(dst[tv:tv+4], src[fv:fv+4])
}

// F16Move is Q8Move for f16 tiles.
func F16Move(dst []byte, to int, src []byte, from, dim int) { floatMove(dst, to, src, from, dim, 2) }

// F32Move is Q8Move for f32 tiles.
func F32Move(dst []byte, to int, src []byte, from, dim int) { floatMove(dst, to, src, from, dim, 4) }

func floatMove(dst []byte, to int, src []byte, from, dim, size int) {
	D := padDim(dim)
	for i := range D {
		t, f := size*floatKey(D, to, i), size*floatKey(D, from, i)
		copy(dst[t:t+size], src[f:f+size])
	}
	t, f := size*floatValue(D, to, 0), size*floatValue(D, from, 0)
	copy(dst[t:t+size*D], src[f:f+size*D])
}

// CopyChunk copies the 16 slots of one chunk to a chunk of another tile of the
// same size and form.
func CopyChunk(scales bool, dst []byte, to int, src []byte, from, dim int) {
	half := Tile * padDim(dim) // keys, in elements
	size := len(src) / (2 * half)
	n := Chunk * padDim(dim) * size
	copy(dst[to*n:(to+1)*n], src[from*n:])
	copy(dst[half*size+to*n:half*size+(to+1)*n], src[half*size+from*n:])
	if scales {
		for at := 2 * half; at < len(src); at += 4 * Tile {
			copy(dst[at+4*Chunk*to:at+4*Chunk*(to+1)], src[at+4*Chunk*from:])
		}
	}
}

// F16Attend is Attend over an f16 tile: scores and outputs are chains of fused
// multiply-adds over ascending elements and slots.
func F16Attend(a *Args, tile []byte) { a.floatAttend(f16At(tile)) }

// F32Attend is Attend over an f32 tile.
func F32Attend(a *Args, tile []byte) { a.floatAttend(f32At(tile)) }

// F16Peak is Peak over an f16 tile.
func F16Peak(a *Args, tile []byte, peak []float32) { a.peaks(a.floatScores(f16At(tile)), peak) }

// F32Peak is Peak over an f32 tile.
func F32Peak(a *Args, tile []byte, peak []float32) { a.peaks(a.floatScores(f32At(tile)), peak) }

func f16At(tile []byte) func(int) float32 { return func(i int) float32 { return f16(tile[2*i:]) } }
func f32At(tile []byte) func(int) float32 { return func(i int) float32 { return getF32(tile[4*i:]) } }

// floatScores returns the scores of a tile of floats.
func (a *Args) floatScores(at func(int) float32) func(r, j int) float32 {
	D := padDim(a.Dim)
	return func(r, j int) float32 {
		q := a.Query[r*FloatQueryBytes(a.Dim):]
		s := float32(0)
		for i := range D {
			s = FMA(getF32(q[4*i:]), at(floatKey(D, j, i)), s)
		}
		return s
	}
}

func (a *Args) floatAttend(at func(int) float32) {
	D := padDim(a.Dim)
	a.scored(a.floatScores(at), func(o, p []float32, span Span, _ float32) {
		for i := range o {
			s := float32(0)
			for j := span.Lo; j < span.Hi; j++ {
				s = FMA(p[j], at(floatValue(D, int(j), i)), s)
			}
			o[i] = s
		}
	})
}
