//go:build !purego

package kernel

import "triforce/internal/cpu"

// accelerate replaces the portable kernels by those of the tier.
func accelerate(s *Set, tier cpu.Tier) bool {
	if tier == cpu.AVX2 || tier == cpu.AVX512 || tier == cpu.AMX {
		accelerateProducts(s, tier)
		accelerateAttention(s, tier)
	}
	switch tier {
	case cpu.AVX2:
	case cpu.AVX512, cpu.AMX:
	default:
		return false
	}
	return true
}
