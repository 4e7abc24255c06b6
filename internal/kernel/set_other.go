//go:build !(amd64 || arm64) || purego

package kernel

import "triforce/internal/cpu"

func accelerate(*Set, cpu.Tier) bool { return false }
