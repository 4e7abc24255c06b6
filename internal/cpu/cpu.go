// Package cpu turns the processor's feature bits into a Tier: the set of
// kernels that it can run. A tier requires all of its bits, and includes the
// tiers below it.
package cpu

import (
	"fmt"
	"strings"
)

// Tier is an instruction set that kernels are written for, in ascending order
// within an architecture.
type Tier uint8

// The tiers. Reference is the judge: plain Go with float activations and
// dequantized weights.
const (
	Reference Tier = iota
	Portable       // plain Go
	AVX2           // AVX2, FMA, F16C
	AVX512         // AVX2 and AVX-512 F, BW, DQ, VL, VNNI
	AMX            // AVX512 and AMX TILE, INT8
	NEON           // Advanced SIMD with dot products
)

var names = [...]string{"reference", "portable", "avx2", "avx512", "amx", "neon"}

// String returns the tier's name in lower case, such as "avx512".
func (t Tier) String() string { return names[t] }

// Parse returns the tier called name, or an error that lists the names.
func Parse(name string) (Tier, error) {
	for i, n := range names {
		if n == name {
			return Tier(i), nil
		}
	}
	return 0, fmt.Errorf("cpu: no tier %q; the tiers are %s", name, strings.Join(names[:], ", "))
}

// Best is the highest tier that this processor has.
func Best() Tier {
	tiers := Tiers()
	return tiers[len(tiers)-1]
}
