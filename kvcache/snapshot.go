package kvcache

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"triforce/internal/kernel"
	"triforce/internal/replace"
)

// A snapshot file is
//
//	magic     8 bytes "triforce"
//	header    a block of JSON (snapshotHeader)
//	tokens    a block: int32 each
//	pages     a block for every page of the target's cache, then of the draft's
//
// and a block is its size, its compressed size and the xxhash64 of its content
// (all little endian, 8 bytes each), then the content as a zstd frame.

// ErrSnapshot marks a snapshot that is damaged or does not belong to the model
// and options at hand.
var ErrSnapshot = errors.New("snapshot cannot be used")

const (
	snapshotMagic   = "triforce"
	snapshotVersion = 1
	maxHeaderBytes  = 1 << 16
)

// Snapshot is what a session saves: the tokens and the caches that stand for
// them.
type Snapshot struct {
	// Model and Draft identify the weights; a snapshot of others is refused.
	// Draft is empty if there is no draft cache.
	Model, Draft string
	// Tokens is the history; the target's cache holds a prefix of it.
	Tokens []int32
	Target *Full
	Stream *Stream // or nil
}

// snapshotHeader describes the blocks that follow.
type snapshotHeader struct {
	Version      int
	Model, Draft string
	Tokens       int
	Target       Shape
	Window       int
	Length       int
	Stream       *streamHeader `json:",omitempty"`
}

// streamHeader is the state of a Stream.
type streamHeader struct {
	Shape                                            Shape
	Sinks, Window, Held, First, Valid, Length, Pages int
}

// Save writes the snapshot to path: to a temporary file beside it, synced, and
// renamed, so that at any moment there is one whole snapshot. Progress, if not
// nil, is told how many of the bytes are written.
func (s *Snapshot) Save(path string, progress func(done, total int64)) error {
	h := snapshotHeader{
		Version: snapshotVersion, Model: s.Model, Draft: s.Draft, Tokens: len(s.Tokens),
		Target: s.Target.shape, Window: s.Target.window, Length: s.Target.length,
	}
	if c := s.Stream; c != nil {
		h.Stream = &streamHeader{c.shape, c.sinks, c.window, c.held, c.first, c.valid, c.length, len(c.pages)}
	}
	err := replace.File(path, 0o600, func(f io.Writer) error {
		w := bufio.NewWriterSize(f, 1<<20)
		if err := h.write(w, s, progress); err != nil {
			return err
		}
		return w.Flush()
	})
	if err != nil {
		return fmt.Errorf("snapshot: %s: %w", path, err)
	}
	return nil
}

func (h *snapshotHeader) write(w io.Writer, s *Snapshot, progress func(done, total int64)) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	defer enc.Close()
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	ids := make([]byte, 0, 4*len(s.Tokens))
	for _, t := range s.Tokens {
		ids = binary.LittleEndian.AppendUint32(ids, uint32(t))
	}
	if _, err := io.WriteString(w, snapshotMagic); err != nil {
		return err
	}
	var frame []byte
	block := func(b []byte) error {
		frame = enc.EncodeAll(b, frame[:0])
		var size [24]byte
		binary.LittleEndian.PutUint64(size[:], uint64(len(b)))
		binary.LittleEndian.PutUint64(size[8:], uint64(len(frame)))
		binary.LittleEndian.PutUint64(size[16:], xxhash.Sum64(b))
		if _, err := w.Write(size[:]); err != nil {
			return err
		}
		_, err := w.Write(frame)
		return err
	}
	if err := block(head); err != nil {
		return err
	}
	if err := block(ids); err != nil {
		return err
	}
	full, n := s.Target, tiles(h.Length)
	var buf []byte
	if !full.Resident(0) {
		buf = make([]byte, full.pageBytes())
	}
	for t := range n {
		p, err := full.page(t, buf)
		if err != nil {
			return err
		}
		if err := block(p); err != nil {
			return err
		}
		if progress != nil {
			progress(int64(t+1)*int64(len(p)), int64(n)*int64(len(p)))
		}
	}
	if s.Stream != nil {
		for _, p := range s.Stream.pages {
			if err := block(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// tiles is how many hold n tokens.
func tiles(n int) int { return (n + kernel.Tile - 1) / kernel.Tile }

// Load reads the snapshot at path into s, whose caches must be empty and of the
// same shape as those that were saved. A snapshot with a draft cache can be
// loaded without one, and the other way round. On error, which wraps
// ErrSnapshot if the file is at fault, nothing is changed.
func (s *Snapshot) Load(path string, progress func(done, total int64)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	r := &blockReader{path: path, r: bufio.NewReaderSize(f, 1<<20), left: info.Size()}
	if err := r.load(s, progress); errors.Is(err, ErrDisk) {
		return err
	} else if err != nil {
		return fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return nil
}

// SnapshotInfo is what the header of a snapshot says.
type SnapshotInfo struct {
	Model, Draft   string
	Tokens, Length int // of the history, and those of them that are cached
	Shape          Shape
	FileBytes      int64
}

// InspectSnapshot reads the header of the snapshot at path. Errors wrap
// ErrSnapshot if the file is at fault.
func InspectSnapshot(path string) (*SnapshotInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	r := &blockReader{path: path, r: f, left: info.Size()}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(1<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	defer dec.Close()
	r.dec = dec
	h, err := r.header()
	if err == nil && h.Version != snapshotVersion {
		err = r.errorf("version %d, expected %d", h.Version, snapshotVersion)
	}
	if err == nil && (h.Tokens < h.Length || h.Length < 0) {
		err = r.errorf("it holds %d tokens, %d of them cached", h.Tokens, h.Length)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return &SnapshotInfo{Model: h.Model, Draft: h.Draft, Tokens: h.Tokens, Length: h.Length, Shape: h.Target, FileBytes: info.Size()}, nil
}

// blockReader reads the blocks of a file and knows where it is.
type blockReader struct {
	path     string
	r        io.Reader
	at, left int64
	dec      *zstd.Decoder
	frame    []byte
}

func (r *blockReader) errorf(format string, args ...any) error {
	return fmt.Errorf("%s: offset %d: %s", r.path, r.at, fmt.Sprintf(format, args...))
}

func (r *blockReader) read(b []byte) error {
	if int64(len(b)) > r.left {
		return r.errorf("expected %d bytes, found the last %d", len(b), r.left)
	}
	if _, err := io.ReadFull(r.r, b); err != nil {
		return r.errorf("%v", err)
	}
	r.at += int64(len(b))
	r.left -= int64(len(b))
	return nil
}

// block reads a block of the given size, or of up to limit bytes if size is
// negative.
func (r *blockReader) block(what string, size, limit int64) ([]byte, error) {
	return r.blockInto(what, size, limit, nil)
}

// blockInto is block into the memory of into, if that is enough.
func (r *blockReader) blockInto(what string, size, limit int64, into []byte) ([]byte, error) {
	start := r.at
	var head [24]byte
	if err := r.read(head[:]); err != nil {
		return nil, err
	}
	raw, packed := binary.LittleEndian.Uint64(head[:]), binary.LittleEndian.Uint64(head[8:])
	if size >= 0 && raw != uint64(size) || size < 0 && raw > uint64(limit) {
		r.at = start
		return nil, r.errorf("%s of %d bytes, expected %d", what, raw, max(size, limit))
	}
	if packed > uint64(r.left) {
		return nil, r.errorf("%s of %d compressed bytes, found the last %d of the file", what, packed, r.left)
	}
	if uint64(cap(r.frame)) < packed {
		r.frame = make([]byte, packed)
	}
	r.frame = r.frame[:packed]
	if err := r.read(r.frame); err != nil {
		return nil, err
	}
	if uint64(cap(into)) < raw {
		into = make([]byte, 0, raw)
	}
	b, err := r.dec.DecodeAll(r.frame, into[:0])
	if err != nil || uint64(len(b)) != raw || xxhash.Sum64(b) != binary.LittleEndian.Uint64(head[16:]) {
		r.at = start
		return nil, r.errorf("%s is damaged: its checksum does not match", what)
	}
	return b, nil
}

// header reads what comes before the tokens.
func (r *blockReader) header() (*snapshotHeader, error) {
	magic := make([]byte, len(snapshotMagic))
	if err := r.read(magic); err != nil {
		return nil, err
	}
	if string(magic) != snapshotMagic {
		r.at = 0
		return nil, r.errorf("expected a snapshot that begins with %q, found %q", snapshotMagic, magic)
	}
	head, err := r.block("header", -1, maxHeaderBytes)
	if err != nil {
		return nil, err
	}
	h := &snapshotHeader{}
	d := json.NewDecoder(bytes.NewReader(head))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil {
		return nil, r.errorf("header: %v", err)
	}
	return h, nil
}

func (r *blockReader) load(s *Snapshot, progress func(done, total int64)) error {
	// No block is larger than a page, and pages are checked against the shapes
	// at hand; the decoder needs no window beyond that.
	limit := uint64(max(maxHeaderBytes, 4*(s.Target.context+1), s.Target.pageBytes()))
	if s.Stream != nil {
		limit = max(limit, uint64(s.Stream.pageBytes()))
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderMaxMemory(max(limit, 1<<20)), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer dec.Close()
	r.dec = dec
	h, err := r.header()
	if err != nil {
		return err
	}
	if err := h.check(r, s); err != nil {
		return err
	}
	ids, err := r.block("tokens", 4*int64(h.Tokens), 0)
	if err != nil {
		return err
	}
	tokens := make([]int32, h.Tokens)
	for i := range tokens {
		tokens[i] = int32(binary.LittleEndian.Uint32(ids[4*i:]))
	}
	// Pages beyond a cache's length do not count, so it stays empty on error.
	size := s.Target.pageBytes()
	page := make([]byte, 0, size)
	for t := range tiles(h.Length) {
		if page, err = r.page(t, size, page); err != nil {
			return err
		}
		if err := s.Target.room(t*kernel.Tile, kernel.Tile); err != nil {
			return err
		}
		copy(s.Target.pages[t], page)
		if progress != nil {
			progress(int64(t+1)*int64(size), int64(tiles(h.Length))*int64(size))
		}
	}
	var window [][]byte
	if h.Stream != nil && s.Stream != nil {
		for i := range s.Stream.pages {
			p, err := r.page(i, s.Stream.pageBytes(), nil)
			if err != nil {
				return err
			}
			window = append(window, p)
		}
		if r.left != 0 {
			return r.errorf("%d bytes follow the last block", r.left)
		}
	}
	s.Tokens = tokens
	s.Target.length = h.Length
	if c := s.Stream; window != nil {
		for i, p := range window {
			copy(c.pages[i], p)
		}
		c.held, c.first, c.valid, c.length = h.Stream.Held, h.Stream.First, h.Stream.Valid, h.Stream.Length
	}
	return nil
}

// page reads the block of a page of the given size.
func (r *blockReader) page(i, size int, into []byte) ([]byte, error) {
	return r.blockInto(fmt.Sprintf("page %d", i), int64(size), 0, into)
}

// check compares what was saved with what is at hand.
func (h *snapshotHeader) check(r *blockReader, s *Snapshot) error {
	t := s.Target
	switch {
	case h.Version != snapshotVersion:
		return r.errorf("version %d, expected %d", h.Version, snapshotVersion)
	case h.Model != s.Model:
		return r.errorf("it was made with another model: %s, expected %s", h.Model, s.Model)
	case h.Target.Type != t.shape.Type:
		return r.errorf("it holds a cache of another type: %v, expected %v", h.Target.Type, t.shape.Type)
	case h.Target != t.shape || h.Window != t.window:
		return r.errorf("it holds a cache of %+v, expected %+v", h.Target, t.shape)
	case h.Tokens < h.Length || h.Length < 0 || h.Tokens > t.context+1:
		return r.errorf("it holds %d tokens, %d of them cached; the context has room for %d", h.Tokens, h.Length, t.context)
	}
	g, c := h.Stream, s.Stream
	if g == nil || c == nil {
		return nil
	}
	switch {
	case h.Draft != s.Draft:
		return r.errorf("it was made with another draft: %s, expected %s", h.Draft, s.Draft)
	case g.Shape != c.shape || g.Sinks != c.sinks || g.Window != c.window || g.Pages != len(c.pages):
		return r.errorf("it holds a draft cache of %d sinks, %d tokens and %d pages, expected %d, %d and %d", g.Sinks, g.Window, g.Pages, c.sinks, c.window, len(c.pages))
	case g.Length < 0 || g.Length > h.Tokens || g.Held < 0 || g.Held > min(g.Sinks, g.Length) ||
		g.First < g.Held || g.Valid < g.First || max(g.Valid, g.First) > max(g.Length, g.Sinks) || g.Length-g.First > c.capacity:
		return r.errorf("its draft cache makes no sense")
	}
	return nil
}

func (s *Store) pageBytes() int { return s.shape.Layers * s.shape.Heads * s.tileBytes }
