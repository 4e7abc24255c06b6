//go:build !linux

package mem

func trimProgram() {}
