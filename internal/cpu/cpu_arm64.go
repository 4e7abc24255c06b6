//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// Tiers lists what this processor can run, lowest first.
func Tiers() []Tier {
	tiers := []Tier{Reference, Portable}
	if cpu.ARM64.HasASIMD && cpu.ARM64.HasASIMDDP {
		tiers = append(tiers, NEON)
	}
	return tiers
}
