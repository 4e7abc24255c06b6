//go:build !linux

package mem

func advise([]byte)  {}
func discard([]byte) {}
