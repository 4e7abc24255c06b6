package sample

import (
	"math"
	"math/bits"
)

// Noise is a counter-based random generator: every number is a pure function of
// a key and a counter, so any of them can be had at any time, in any order.
type Noise struct{ key uint64 }

// A Stream keeps numbers drawn for different purposes apart.
type Stream uint64

const (
	Coupling  Stream = iota // Gumbel noise of a token at a position
	Rejection               // accepting and drawing under the rejection rule
)

// weyl is 2^64 divided by the golden ratio, the increment of SplitMix64.
const weyl = 0x9e3779b97f4a7c15

// mix is the finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection
// in which each input bit flips each output bit half of the time.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// NoiseAt is the generator for one purpose at one position.
func NoiseAt(seed uint64, stream Stream, pos int) Noise {
	key := mix(seed + weyl)
	key = mix(key + weyl*(uint64(stream)+1))
	return Noise{mix(key + weyl*(uint64(pos)+1))}
}

func (n Noise) bits(i uint64) uint64 { return mix(n.key + weyl*(i+1)) }

// Uniform is number i, strictly between 0 and 1 in steps of 2^-52.
func (n Noise) Uniform(i uint64) float64 { return uniform(n.bits(i)) }

// uniform keeps 52 bits: half a step more is then exact, and never rounds to 1.
func uniform(bits uint64) float64 { return (float64(bits>>12) + 0.5) * 0x1p-52 }

// Gumbel is number i of the standard Gumbel distribution.
func (n Noise) Gumbel(i uint64) float64 { return -math.Log(-math.Log(n.Uniform(i))) }

// gumbelBound is at least Gumbel(i), and quickly had: -log u >= 1-u, and 1-u is
// at least 2^-(k+1) where k leading bits of u are ones.
func (n Noise) gumbelBound(i uint64) float64 {
	return float64(bits.LeadingZeros64(^n.bits(i))+1) * math.Ln2
}
