//go:build !amd64 || purego

package cpu

// Missing returns the tier above the best, and the features that it needs and
// this processor, or its system, lacks; false if there is none above.
func Missing() (Tier, []string, bool) { return 0, nil, false }
