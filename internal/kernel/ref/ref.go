// Package ref is the judge: every kernel written once in readable Go, with
// each rounding explicit, so that it gives the same bits on every machine and
// every tier can be held to it bit for bit. It shares nothing with the kernels
// that it judges.
//
// All functions are pure and safe for concurrent use on disjoint
// destinations. The layouts of packed matrices, activation rows and cache
// tiles are drawn beside the functions that read them.
package ref

import "math"

const (
	// Block is the number of activations that share a scale.
	Block = 32
	// Panel is the number of output rows that a packed matrix interleaves.
	Panel = 16
	// Tile is the number of cache slots that attention takes at a time. Tiles
	// are anchored at slot 0 and combined in ascending order.
	Tile = 256
	// Chunk is the number of slots whose keys are interleaved: the finest unit
	// that can be copied from cache to cache.
	Chunk = 16
	// lanes is the number of partial sums of every float reduction that is not
	// in one chain: element i goes to lane i mod lanes.
	lanes = 16
)

// FMA returns x·y + z with a single rounding, as vector units do.
func FMA(x, y, z float32) float32 {
	p := float64(x) * float64(y) // exact: 48 bits
	s := p + float64(z)
	// Rounding s to 24 bits would round twice. Find what the sum lost, and
	// move s to the neighbour with an odd last bit in that direction: then the
	// second rounding sees on which side of a tie it is.
	t := s - p
	lost := (p - (s - t)) + (float64(z) - t)
	if lost != 0 && !math.IsInf(s, 0) && s == s {
		if b := math.Float64bits(s); b&1 == 0 {
			if (lost > 0) == (s > 0) {
				b++
			} else {
				b--
			}
			s = math.Float64frombits(b)
		}
	}
	return float32(s)
}

// roundEven rounds to the nearest integer, ties to even.
func roundEven(x float32) float32 { return float32(math.RoundToEven(float64(x))) }

// exp2Least is the power of two below which Exp2 gives zero.
const exp2Least = -126

// Exp2 returns 2^x for x ≤ 127 with a relative error below 2^-22, and 0 for
// x < -126. Exp2(0) is exactly 1.
func Exp2(x float32) float32 {
	if !(x >= exp2Least) {
		return 0
	}
	n := roundEven(x)
	f := float32(x - n)
	p := FMA(f, 0x1.5bba14p-10, 0x1.3cea88p-7)
	p = FMA(f, p, 0x1.c6b752p-5)
	p = FMA(f, p, 0x1.ebf9bcp-3)
	p = FMA(f, p, 0x1.62e42ap-1)
	p = FMA(f, p, 1)
	return float32(p * math.Float32frombits(uint32(int32(n)+127)<<23))
}

// expLeast is the power of two below which Exp gives zero: nothing beside a sum of
// at least 1, and far from numbers that processors are slow to multiply.
const expLeast = -60

// Exp replaces each x by e^(x-top), or 0 below 2^-60, and returns their sum, by
// eight lanes and a tree. No x is larger than top.
func Exp(x []float32, top float32) float32 {
	var sums [8]float32
	for i, v := range x {
		t := float32(float32(v-top) * math.Log2E)
		x[i] = 0
		if t >= expLeast {
			x[i] = Exp2(t)
		}
		sums[i%8] += x[i]
	}
	for n := 4; n > 0; n /= 2 {
		for i := range n {
			sums[i] += sums[i+n]
		}
	}
	return sums[0]
}

// treeSum adds the lanes in a fixed tree: i and i+8, then +4, +2, +1.
func treeSum(v [lanes]float32) float32 {
	for n := lanes / 2; n > 0; n /= 2 {
		for i := range n {
			v[i] += v[i+n]
		}
	}
	return v[0]
}

// RMSNorm computes dst[i] = x[i]/sqrt(mean(x²)+eps) · weight[i] (Zhang and
// Sennrich 2019).
func RMSNorm(dst, x, weight []float32, eps float32) {
	var sum [lanes]float32
	for i, v := range x {
		sum[i%lanes] = FMA(v, v, sum[i%lanes])
	}
	mean := treeSum(sum) / float32(len(x))
	r := 1 / float32(math.Sqrt(float64(float32(mean+eps))))
	for i, v := range x {
		dst[i] = float32(v*r) * weight[i]
	}
}

// Rope rotates the pairs (x[i], x[i+half]) of one head by the angles whose
// cosines and sines are given, half = len(cos). Elements past 2·half stay.
func Rope(x, cos, sin []float32) {
	half := len(cos)
	for i := range half {
		a, b := x[i], x[i+half]
		x[i] = FMA(a, cos[i], -float32(b*sin[i]))
		x[i+half] = FMA(b, cos[i], float32(a*sin[i]))
	}
}

// SwiGLU computes dst[i] = gate[i]·sigmoid(gate[i])·up[i] (Shazeer 2020).
func SwiGLU(dst, gate, up []float32) {
	for i, g := range gate {
		t := min(max(float32(g*-math.Log2E), -126), 126)
		dst[i] = float32(g/float32(1+Exp2(t))) * up[i]
	}
}

// Add computes dst[i] += x[i].
func Add(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}

// Sum adds words, modulo 2^64.
func Sum(x []uint64) uint64 {
	sum := uint64(0)
	for _, v := range x {
		sum += v
	}
	return sum
}
