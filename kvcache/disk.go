package kvcache

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"triforce/internal/kernel"
	"triforce/internal/mem"
)

// A store on disk keeps its newest pages in memory and the others in a file:
//
//	layer 0: slab of page 0 │ slab of page 1 │ … │ room up to the context
//	layer 1: …
//
// A slab is the tiles of all heads of one layer in one page, padded to whole
// blocks. A pass reads layer after layer, and so the file from its beginning to
// its end, in large pieces. Pages before disk.first are in the file only; the
// others are in memory, and may be in the file too.

// ErrDisk marks a failure of the file that holds a cache. The cache is as it
// was before the call that failed, which may be tried again.
var ErrDisk = errors.New("the file of the KV cache failed")

// File is where a store keeps what does not fit into memory. Reads and writes
// may come concurrently; they are of whole blocks of FileBlock bytes.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Reserve takes the space for n bytes from an offset on.
	Reserve(at, n int64) error
	Name() string
}

// FileBlock is what offsets, lengths and addresses of reads and writes of a
// File are multiples of.
const FileBlock = 4096

// DiskOptions says how a store shares its pages between memory and a file.
type DiskOptions struct {
	// RAM is the memory that it may take, buffers included.
	RAM int64
	// Context and Rows are the most tokens in all and in one pass.
	Context, Rows int
	// Create makes the file. It is called when the first page leaves memory.
	Create func() (File, error)
	// Unchecked leaves out the checksums of what is read.
	Unchecked bool
	// Clock measures the time spent waiting.
	Clock func() time.Duration
}

// DiskStats is what a store has read and written.
type DiskStats struct {
	// Bytes are in the file now; Read and Written went to and fro.
	Bytes, Read, Written int64
	// Waiting is the time that passes spent waiting for the file, Reading that
	// in which at least one read was under way.
	Waiting, Reading time.Duration
}

// Since is what happened after before.
func (s DiskStats) Since(before DiskStats) DiskStats {
	s.Read -= before.Read
	s.Written -= before.Written
	s.Waiting -= before.Waiting
	s.Reading -= before.Reading
	return s
}

// Bandwidth is the bytes that were read in a second of reading, or 0.
func (s DiskStats) Bandwidth() float64 {
	if s.Reading <= 0 {
		return 0
	}
	return float64(s.Read) / s.Reading.Seconds()
}

// disk is the part of a store that is in a file. One goroutine calls its
// methods, but for fetch, tile and release, which the workers of a pass call.
type disk struct {
	opt    DiskOptions
	s      *Store
	slab   int   // bytes
	stride int64 // bytes between layers
	limit  int   // pages in memory

	first   int // pages before it are in the file only
	queued  int // pages before it are written, or with the writer
	written int
	spare   [][]byte // memory of pages
	sums    []uint64 // (pages, layers): checksums of slabs

	file   File // nil until a page leaves memory
	room   int  // pages that the file has space for; the writer's
	writes chan pageWrite
	wrote  chan error
	ended  sync.WaitGroup
	ring   ring
	stats  DiskStats
}

type pageWrite struct {
	page   int
	memory []byte
}

// ringBytes is the most that is read ahead.
const ringBytes = 32 << 20

// leastRing is the slabs that are read ahead at least: one segment while
// another is in use.
const leastRing = 2 * Segment

func slabBytes(shape Shape, set *kernel.Set) int {
	n := shape.Heads * set.KV[shape.Type].TileBytes(shape.Dim)
	return (n + FileBlock - 1) / FileBlock * FileBlock
}

// leastPages are in memory at least: those that a pass may write to, and the one
// before, at which its attention looks first.
func leastPages(rows int) int { return (rows+kernel.Tile-2)/kernel.Tile + 2 }

// LeastRAM is the least memory that a store on disk can do with, for passes of
// up to rows rows.
func (s Shape) LeastRAM(set *kernel.Set, rows int) int64 {
	return int64(leastPages(rows))*s.PageBytes(set) + (leastRing+1)*int64(slabBytes(s, set))
}

// DiskBytes is the space that n tokens take in the file.
func (s Shape) DiskBytes(set *kernel.Set, n int) int64 {
	return int64((n+kernel.Tile-1)/kernel.Tile) * int64(s.Layers) * int64(slabBytes(s, set))
}

// NewDiskStore makes an empty store that keeps in memory what o.RAM allows, at
// least what LeastRAM says.
func NewDiskStore(shape Shape, set *kernel.Set, o DiskOptions) *Store {
	s := NewStore(shape, set)
	s.arena.Block = 0 // pages are few and used again
	d := &disk{opt: o, s: s, slab: slabBytes(shape, set)}
	pages := (o.Context + kernel.Tile - 1) / kernel.Tile
	d.stride = int64(pages) * int64(d.slab)
	d.sums = make([]uint64, pages*shape.Layers)
	// A quarter of what is not needed for more, or a page, is for reading ahead,
	// and what whole pages leave over.
	page, slab := int64(s.pageBytes()), int64(d.slab)
	over := max(0, o.RAM-shape.LeastRAM(set, o.Rows))
	slots := leastRing + min(over, max(over/4, page), ringBytes)/slab
	d.limit = max(leastPages(o.Rows), int((o.RAM-(slots+1)*slab)/page))
	slots = max(slots, min((o.RAM-int64(d.limit)*page)/slab-1, leastRing+ringBytes/slab))
	d.ring.init(d, int(slots))
	s.disk = d
	return s
}

// begin makes room for rows rows from slot base on, and hands pages that will
// have to leave memory to the writer.
func (d *disk) begin(base, rows int) error {
	if err := d.collect(false); err != nil {
		return err
	}
	page, last := base/kernel.Tile, (base+rows-1)/kernel.Tile
	if page < d.queued { // what was written will change
		if err := d.collect(true); err != nil {
			return err
		}
		d.queued, d.written = min(d.queued, page), min(d.written, page)
	}
	if max(page-1, 0) < d.first {
		if err := d.bring(page); err != nil {
			return err
		}
	}
	for d.queued < page && last+2-d.queued > d.limit {
		if err := d.write(); err != nil {
			return err
		}
	}
	for last+1-d.first > d.limit {
		if d.first == d.queued {
			panic("kvcache: a page must leave memory that is still written to")
		}
		for d.first >= d.written {
			if err := d.next(); err != nil {
				return err
			}
		}
		d.spare = append(d.spare, d.s.pages[d.first])
		d.s.pages[d.first] = nil
		d.first++
	}
	for len(d.s.pages) <= last {
		d.s.pages = append(d.s.pages, d.memory())
	}
	return nil
}

// memory returns the memory of a page.
func (d *disk) memory() []byte {
	if n := len(d.spare); n > 0 {
		p := d.spare[n-1]
		d.spare = d.spare[:n-1]
		return p
	}
	return d.s.arena.Take(d.s.pageBytes())
}

// bring gets a page back into memory, to be written to, with the one before. What
// followed it is forgotten.
func (d *disk) bring(page int) error {
	d.ring.reset()
	first, forgotten := max(page-1, 0), d.s.pages[min(max(page+1, d.first), len(d.s.pages)):]
	d.spare = append(d.spare, forgotten...)
	d.s.pages = d.s.pages[:len(d.s.pages)-len(forgotten)]
	var memory [2][]byte
	for i := first; i <= page && i < d.first; i++ {
		memory[i-first] = d.memory()
		if err := d.readPage(i, memory[i-first]); err != nil {
			d.spare = append(d.spare, memory[:i-first+1]...)
			return err
		}
	}
	if page < d.first {
		d.s.pages = d.s.pages[:page+1]
		d.queued, d.written = page, page
	}
	for i := first; i <= page && i < d.first; i++ {
		d.s.pages[i] = memory[i-first]
	}
	d.first = first
	return nil
}

// open makes the file, and those who read and write it.
func (d *disk) open() error {
	if d.file != nil {
		return nil
	}
	f, err := d.opt.Create()
	if err != nil {
		return fmt.Errorf("kvcache: %w: %w", ErrDisk, err)
	}
	d.file = f
	d.writes, d.wrote = make(chan pageWrite, d.limit), make(chan error, d.limit)
	d.ended.Go(d.writer)
	d.ring.open()
	return nil
}

// write hands the next page to the writer.
func (d *disk) write() error {
	if err := d.open(); err != nil {
		return err
	}
	d.writes <- pageWrite{d.queued, d.s.pages[d.queued]}
	d.queued++
	return nil
}

// collect takes note of pages that were written; if all is set, of all that the
// writer has.
func (d *disk) collect(all bool) error {
	for d.written < d.queued && (all || len(d.wrote) > 0) {
		if err := d.next(); err != nil {
			return err
		}
	}
	return nil
}

// next waits for the writer to be done with a page. If it failed, this page and
// those that follow are to be written again.
func (d *disk) next() error {
	err := <-d.wrote
	if err == nil {
		d.written++
		d.stats.Written += int64(d.slab * d.s.shape.Layers)
		return nil
	}
	for range d.queued - d.written - 1 {
		<-d.wrote
	}
	d.queued = d.written
	return err
}

func (d *disk) writer() {
	buf := mem.AllocAt(d.slab, FileBlock)
	for w := range d.writes {
		d.wrote <- d.writePage(w, buf)
	}
}

// reserveBytes is about how much space a layer takes at a time.
const reserveBytes = 8 << 20

func (d *disk) writePage(w pageWrite, buf []byte) error {
	if w.page >= d.room {
		n := min(max(1, reserveBytes/d.slab), int(d.stride)/d.slab-d.room)
		for l := range d.s.shape.Layers {
			at := int64(l)*d.stride + int64(d.room)*int64(d.slab)
			if err := d.file.Reserve(at, int64(n)*int64(d.slab)); err != nil {
				return d.failed(at, "taking %d bytes of space: %w", n*d.slab, err)
			}
		}
		d.room += n
	}
	size := d.s.pageBytes() / d.s.shape.Layers
	for l := range d.s.shape.Layers {
		copy(buf, w.memory[l*size:(l+1)*size])
		d.sums[w.page*d.s.shape.Layers+l] = xxh3.Hash(buf)
		at := d.at(l, w.page)
		if n, err := d.file.WriteAt(buf, at); err != nil || n < len(buf) {
			return d.failed(at, "wrote %d of %d bytes: %w", n, len(buf), orShort(err, io.ErrShortWrite))
		}
	}
	return nil
}

func orShort(err, short error) error {
	if err == nil {
		return short
	}
	return err
}

// at is where a slab is.
func (d *disk) at(layer, page int) int64 { return int64(layer)*d.stride + int64(page)*int64(d.slab) }

func (d *disk) failed(at int64, format string, args ...any) error {
	return fmt.Errorf("kvcache: %w: %s: offset %d: %w", ErrDisk, d.file.Name(), at, fmt.Errorf(format, args...))
}

// read fills buf with the slabs of consecutive pages of a layer and checks
// them.
func (d *disk) read(buf []byte, layer, page int) error {
	at := d.at(layer, page)
	n, err := d.file.ReadAt(buf, at)
	if n < len(buf) {
		return d.failed(at, "read %d of %d bytes: %w", n, len(buf), orShort(err, io.ErrUnexpectedEOF))
	}
	if d.opt.Unchecked {
		return nil
	}
	for i := range len(buf) / d.slab {
		found, want := xxh3.Hash(buf[i*d.slab:(i+1)*d.slab]), d.sums[(page+i)*d.s.shape.Layers+layer]
		if found != want {
			return d.failed(d.at(layer, page+i), "%d bytes with the checksum %016x, expected %016x: the disk or another program changed them",
				d.slab, found, want)
		}
	}
	return nil
}

// readPage reads a page from the file.
func (d *disk) readPage(page int, memory []byte) error {
	if err := d.collect(true); err != nil {
		return err
	}
	buf := mem.AllocAt(d.slab, FileBlock)
	size := d.s.pageBytes() / d.s.shape.Layers
	for l := range d.s.shape.Layers {
		if err := d.read(buf, l, page); err != nil {
			return err
		}
		copy(memory[l*size:(l+1)*size], buf)
	}
	return nil
}

// bytes is the memory that is taken.
func (d *disk) bytes() int64 {
	n := int64(len(d.s.pages)-d.first+len(d.spare)) * int64(d.s.pageBytes())
	if d.file != nil {
		n += int64(len(d.ring.slots)+1) * int64(d.slab)
	}
	return n
}

// close ends those who read and write, and gives the file back.
func (d *disk) close() error {
	if d.file == nil {
		return nil
	}
	close(d.writes)
	d.ring.close()
	d.ended.Wait()
	err := d.file.Close()
	d.file = nil
	return err
}

// Close gives back what the store has besides memory.
func (s *Store) Close() error {
	if s.disk == nil {
		return nil
	}
	return s.disk.close()
}

// Disk says what the store has in its file; all zero if it has none.
func (s *Store) Disk() DiskStats {
	if s.disk == nil {
		return DiskStats{}
	}
	d := s.disk
	st := d.stats
	st.Bytes = int64(d.written) * int64(d.slab*s.shape.Layers)
	st.Read, st.Reading = d.ring.meter()
	st.Waiting = d.ring.waited
	return st
}

// PassBytes is what a pass over all tokens reads from the file.
func (s *Store) PassBytes() int64 {
	if s.disk == nil {
		return 0
	}
	return int64(s.disk.first) * int64(s.disk.slab*s.shape.Layers)
}

// Resident reports whether tile t is in memory for good. Other tiles are there
// between Fetch and Release of their segment.
func (s *Store) Resident(t int) bool { return s.disk == nil || t >= s.disk.first }

// page returns the memory of page t, or reads it into buf.
func (s *Store) page(t int, buf []byte) ([]byte, error) {
	if s.Resident(t) {
		return s.pages[t], nil
	}
	return buf, s.disk.readPage(t, buf)
}
