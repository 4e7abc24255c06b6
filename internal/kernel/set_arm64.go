//go:build !purego

package kernel

import "triforce/internal/cpu"

// accelerate replaces the portable kernels by those of the tier. Load, Move,
// Store of f32, Reset and Finish stay the portable ones: they touch a slot or a
// row now and then.
func accelerate(s *Set, tier cpu.Tier) bool {
	if tier != cpu.NEON {
		return false
	}
	accelerateProducts(s)
	accelerateAttention(s)
	return true
}
