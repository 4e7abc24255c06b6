//go:build !(linux || darwin || dragonfly || freebsd || netbsd || openbsd)

package mmap

import (
	"io"
	"os"
)

func load(f *os.File, size int) ([]byte, error) {
	data := make([]byte, size)
	_, err := io.ReadFull(f, data)
	return data, err
}

func unload([]byte) error { return nil }

func drop([]byte) {}
