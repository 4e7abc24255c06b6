//go:build !linux

package mem

func trimProgram() {}

func release([][]byte) {}
