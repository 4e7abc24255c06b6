// Package scratch keeps bytes on disk that a process does not want in memory.
//
// A File is private: only its owner may open it, and where the system allows it
// has no name from the moment that it is there, so that nothing is left of it
// whatever ends the process. Reading goes past the system's cache of files
// where the file system takes direct I/O and that measures better; otherwise
// through the cache, from which what was read is dropped again.
//
// A File may be read and written concurrently. Offsets, lengths and addresses
// of what is read and written must be multiples of Block (Alloc makes such
// memory). It owns its descriptors; Close gives them and the disk space back.
package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"triforce/internal/mem"
)

// Block is what offsets, lengths and addresses are multiples of.
const Block = 4096

// Alloc returns n zero bytes that a File can read into.
func Alloc(n int) []byte { return mem.AllocAt(n, Block) }

// File is a file without a name.
type File struct {
	name   string   // as it was
	cached *os.File // through the cache of files
	direct *os.File // past it, or nil
	choice choice
	remove bool // it still has its name
}

// Create makes an empty file in the folder.
func Create(dir string) (*File, error) {
	c, err := os.CreateTemp(dir, "triforce-kv-*") // 0600
	if err != nil {
		return nil, err
	}
	f := &File{name: c.Name(), cached: c}
	f.direct = openDirect(f.name) // nil if the file system takes none
	f.remove = os.Remove(f.name) != nil
	if f.direct == nil {
		f.choice.use = through
	}
	return f, nil
}

// Name is what the file was called.
func (f *File) Name() string { return filepath.ToSlash(f.name) }

// ReadAt reads whole blocks.
func (f *File) ReadAt(p []byte, at int64) (int, error) {
	way := f.choice.pick()
	if way == past {
		start := time.Now()
		n, err := f.direct.ReadAt(p, at)
		if !refused(err) {
			f.choice.saw(past, len(p), time.Since(start))
			return n, err
		}
		f.choice.settle(through)
	}
	start := time.Now()
	n, err := f.cached.ReadAt(p, at)
	f.choice.saw(through, len(p), time.Since(start))
	drop(f.cached, at, int64(len(p)))
	return n, err
}

// WriteAt writes whole blocks.
func (f *File) WriteAt(p []byte, at int64) (int, error) {
	if f.direct != nil {
		if n, err := f.direct.WriteAt(p, at); !refused(err) {
			return n, err
		}
	}
	n, err := f.cached.WriteAt(p, at)
	if err == nil {
		flush(f.cached, at, int64(n))
	}
	return n, err
}

// Reserve takes disk space for n bytes from an offset on, in one piece if the
// file system has one. Where it cannot reserve, nothing happens.
func (f *File) Reserve(at, n int64) error { return reserve(f.cached, at, n) }

// Direct reports whether reading goes past the system's cache.
func (f *File) Direct() bool { return f.choice.pick() == past }

// Close gives the file's space back.
func (f *File) Close() error {
	err := f.cached.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	if f.remove {
		err = errors.Join(err, os.Remove(f.name))
	}
	return err
}

// way is how a file is read.
type way uint8

const (
	unknown way = iota
	past        // direct I/O
	through     // the cache of files
)

// choice finds out which way is faster: it takes turns until each has read
// probe bytes, and then stays with the better.
type choice struct {
	mu    sync.Mutex
	use   way // or unknown
	turn  int
	bytes [3]int64
	spent [3]time.Duration
}

const (
	probe     = 24 << 20
	probeTurn = 8 // reads in a row, so that reading ahead has a chance
)

func (c *choice) pick() way {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.use != unknown {
		return c.use
	}
	c.turn++
	if c.turn/probeTurn%2 == 0 {
		return past
	}
	return through
}

func (c *choice) saw(w way, n int, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.use != unknown {
		return
	}
	c.bytes[w] += int64(n)
	c.spent[w] += d
	if c.bytes[past] >= probe && c.bytes[through] >= probe {
		c.use = past
		if c.rate(through) > c.rate(past) {
			c.use = through
		}
	}
}

func (c *choice) rate(w way) float64 { return float64(c.bytes[w]) / max(c.spent[w].Seconds(), 1e-9) }

func (c *choice) settle(w way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.use = w
}

// Speed is what a folder's disk does, in bytes per second.
type Speed struct{ Read, Write float64 }

// measured is how much Measure writes and reads, measuring how much at a time.
const (
	measured  = 128 << 20
	measuring = 1 << 20
	measurers = 2 // requests in flight
)

// Measure writes a file in the folder, reads it back and removes it. Both go
// past the system's cache where the file system can.
func Measure(dir string) (s Speed, err error) {
	f, err := Create(dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if f.direct != nil {
		f.choice.settle(past)
	}
	b := Alloc(measuring)
	for i := range b {
		b[i] = byte(i>>3 ^ i)
	}
	start := time.Now()
	for at := int64(0); at < measured; at += measuring {
		if _, err := f.WriteAt(b, at); err != nil {
			return s, err
		}
	}
	s.Write = measured / time.Since(start).Seconds()
	start = time.Now()
	if err := f.readAll(measured); err != nil {
		return s, err
	}
	s.Read = measured / time.Since(start).Seconds()
	return s, nil
}

// readAll reads the file once, in large pieces.
func (f *File) readAll(size int64) error {
	var wg sync.WaitGroup
	errs := make([]error, measurers)
	for i := range errs {
		wg.Go(func() {
			b := Alloc(measuring)
			for at := int64(i) * measuring; at < size && errs[i] == nil; at += measurers * measuring {
				_, errs[i] = f.ReadAt(b, at)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Check reports whether files can be made in the folder.
func Check(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s: is a file, expected a folder", dir)
	}
	if err != nil {
		return err
	}
	f, err := Create(dir)
	if err != nil {
		return err
	}
	return f.Close()
}
