//go:build linux || darwin || dragonfly || freebsd || netbsd || openbsd

package mmap

import (
	"os"

	"golang.org/x/sys/unix"
)

func load(f *os.File, size int) ([]byte, error) {
	data, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	// Weights are read front to back, once: read far ahead. Advice may fail.
	_ = unix.Madvise(data, unix.MADV_SEQUENTIAL)
	return data, nil
}

func unload(data []byte) error { return os.NewSyscallError("munmap", unix.Munmap(data)) }

func drop(pages []byte) { _ = unix.Madvise(pages, unix.MADV_DONTNEED) }
