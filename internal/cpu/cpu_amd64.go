//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// Tiers lists what this processor can run, lowest first.
func Tiers() []Tier {
	tiers := []Tier{Reference, Portable}
	x := &cpu.X86
	avx2 := x.HasAVX2 && x.HasFMA && x.HasAVX && x.HasOSXSAVE && hasF16C()
	if !avx2 {
		return tiers
	}
	tiers = append(tiers, AVX2)
	if x.HasBMI1 && x.HasBMI2 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL && x.HasAVX512VNNI {
		tiers = append(tiers, AVX512)
		if x.HasAMXTile && x.HasAMXInt8 && mayUseTiles() {
			tiers = append(tiers, AMX)
		}
	}
	return tiers
}

// cpuid executes the CPUID instruction.
func cpuid(leaf, subleaf uint32) (eax, ebx, ecx, edx uint32)

// hasF16C reports half-precision conversion, which x/sys/cpu does not list.
func hasF16C() bool {
	_, _, ecx, _ := cpuid(1, 0)
	return ecx&(1<<29) != 0
}
