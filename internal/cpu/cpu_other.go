//go:build !(amd64 || arm64) || purego

package cpu

// Tiers lists what this processor can run, lowest first.
func Tiers() []Tier { return []Tier{Reference, Portable} }
