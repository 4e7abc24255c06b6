//go:build !purego

package cpu

import (
	"maps"
	"slices"

	"golang.org/x/sys/cpu"
)

// Missing returns the tier above the best, and the features that it needs and
// this processor, or its system, lacks; false if there is none above.
func Missing() (Tier, []string, bool) {
	x := &cpu.X86
	for _, t := range []struct {
		tier     Tier
		features map[string]bool
	}{
		{AVX2, map[string]bool{"AVX": x.HasAVX && x.HasOSXSAVE, "AVX2": x.HasAVX2, "FMA": x.HasFMA, "F16C": hasF16C()}},
		{AVX512, map[string]bool{"AVX512F": x.HasAVX512F, "AVX512BW": x.HasAVX512BW, "AVX512DQ": x.HasAVX512DQ,
			"AVX512VL": x.HasAVX512VL, "AVX512VNNI": x.HasAVX512VNNI}},
		{AMX, map[string]bool{"AMX-TILE": x.HasAMXTile, "AMX-INT8": x.HasAMXInt8, "the system's permission": !x.HasAMXTile || mayUseTiles()}},
	} {
		if t.tier <= Best() {
			continue
		}
		return t.tier, lacking(t.features), true
	}
	return 0, nil, false
}

// lacking lists the features that are not there.
func lacking(features map[string]bool) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(features)), func(name string) bool { return features[name] })
}
