// Package mmap maps whole files into memory for reading.
//
// A File owns its Data, which must not be written to and is gone after Close.
// Reading Data and calling Release are safe for concurrent use; Close is not
// safe beside either. A file that shrinks while it is mapped faults on access,
// as with any memory map. Systems without a supported mmap read the file into
// memory instead.
package mmap

import (
	"fmt"
	"io/fs"
	"math"
	"os"
	"unsafe"
)

// File is a file mapped for reading.
type File struct {
	// Data is the file's content, empty for an empty file.
	Data []byte
	// memory marks Data that was never mapped.
	memory bool
}

// Memory is a File over bytes in memory, which it keeps until Close.
func Memory(data []byte) *File { return &File{Data: data, memory: true} }

// Open maps the regular file at path. Errors are of type *fs.PathError.
func Open(path string) (*File, error) {
	// Stat comes first because opening a pipe would wait for its writer.
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return nil, fail(path, fmt.Errorf("is a folder, expected a file"))
	case !info.Mode().IsRegular():
		return nil, fail(path, fmt.Errorf("is not a regular file (mode %v)", info.Mode()))
	case info.Size() > math.MaxInt:
		return nil, fail(path, fmt.Errorf("has %d bytes, at most %d fit the address space", info.Size(), math.MaxInt))
	case info.Size() == 0:
		return &File{}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := load(f, int(info.Size()))
	if err != nil {
		return nil, fail(path, err)
	}
	return &File{Data: data}, nil
}

// Close unmaps the file; a second Close does nothing.
func (f *File) Close() error {
	data := f.Data
	f.Data = nil
	if len(data) == 0 || f.memory {
		return nil
	}
	return unload(data)
}

// around is how much the system brings into memory when a page is asked for, at a
// multiple of that.
const around = 64 << 10

// Release lets the system take back the memory of the pages that Data[off:off+n]
// is in, and of those that came along with them. It is only advice: the bytes stay
// readable and are read from the file again when needed.
func (f *File) Release(off, n int) {
	start := int(uintptr(unsafe.Pointer(unsafe.SliceData(f.Data))) % around)
	lo := max((start+off)/around*around-start, 0)
	hi := min((start+off+n+around-1)/around*around-start, len(f.Data))
	if lo < hi && !f.memory {
		drop(f.Data[lo:hi])
	}
}

func fail(path string, err error) error {
	return &fs.PathError{Op: "map", Path: path, Err: err}
}
