package kvcache

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"

	"triforce/internal/kernel"
)

var snapshotShape = Shape{Layers: 1, Heads: 1, Dim: 4, Type: kernel.KVQ8}

// newSnapshot returns a snapshot of empty caches.
func newSnapshot() *Snapshot {
	store := func() *Store {
		s := NewStore(snapshotShape, portable)
		s.arena.Block = 0 // no more memory than a page at a time
		return s
	}
	return &Snapshot{
		Model: "m", Draft: "d",
		Target: NewFull(store(), 600, 0), Stream: NewStream(store(), 4, 16, 8),
	}
}

// savedSnapshot is the content of a snapshot of a few tokens.
func savedSnapshot(tb testing.TB, path string) []byte {
	s := newSnapshot()
	for range 40 {
		for _, c := range []Cache{s.Target, s.Stream} {
			if _, err := c.Begin(7, nil); err != nil {
				tb.Fatal(err)
			}
			c.End()
		}
		s.Tokens = append(s.Tokens, 1, 2, 3, 4, 5, 6, 7)
	}
	if err := s.Save(path, nil); err != nil {
		tb.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// appendBlock appends a block with a checksum that matches.
func appendBlock(dst, content []byte, enc *zstd.Encoder) []byte {
	frame := enc.EncodeAll(content, nil)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(content)))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(frame)))
	dst = binary.LittleEndian.AppendUint64(dst, xxhash.Sum64(content))
	return append(dst, frame...)
}

// Whatever a file holds, loading it gives caches that work or an error that
// leaves them empty. The input is a file as it is, or, if header is not empty,
// what a file with matching checksums says in its header, with data as tokens
// and as the compressed rest of the file.
func FuzzSnapshot(f *testing.F) {
	path := filepath.Join(f.TempDir(), "snapshot")
	whole := savedSnapshot(f, path)
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		f.Fatal(err)
	}
	// The header and the tokens of the whole one, and what follows them.
	r := &blockReader{r: bytes.NewReader(whole[8:]), left: int64(len(whole))}
	if r.dec, err = zstd.NewReader(nil); err != nil {
		f.Fatal(err)
	}
	head, err := r.block("header", -1, maxHeaderBytes)
	if err != nil {
		f.Fatal(err)
	}
	tokens, err := r.block("tokens", -1, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	rest := whole[8+r.at:]
	f.Add([]byte{}, whole, []byte{})
	f.Add([]byte{}, whole[:len(whole)/2], []byte{})
	f.Add(head, tokens, rest)
	for _, edit := range []func(h *snapshotHeader){
		func(h *snapshotHeader) { h.Tokens = 1 << 40 },
		func(h *snapshotHeader) { h.Length = -1 },
		func(h *snapshotHeader) { h.Stream.First = 1 << 50 },
		func(h *snapshotHeader) { h.Stream.Held = -3 },
		func(h *snapshotHeader) { h.Stream = nil },
	} {
		var h snapshotHeader
		if err := json.Unmarshal(head, &h); err != nil {
			f.Fatal(err)
		}
		edit(&h)
		b, err := json.Marshal(h)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, tokens, rest)
	}
	f.Fuzz(func(t *testing.T, header, data, rest []byte) {
		file := data
		if len(header) > 0 {
			file = appendBlock([]byte(snapshotMagic), header, enc)
			file = append(appendBlock(file, data, enc), rest...)
		}
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		s := newSnapshot()
		if err := s.Load(path, nil); err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Fatalf("error is %v, expected ErrSnapshot", err)
			}
			if s.Tokens != nil || s.Target.Len() != 0 || s.Stream.Len() != 0 {
				t.Fatal("something was loaded from a bad file")
			}
			return
		}
		// What was loaded can be gone on with and saved again.
		for _, c := range []Cache{s.Target, s.Stream} {
			if c.Len() > len(s.Tokens) {
				t.Fatalf("a cache of %d tokens with a history of %d", c.Len(), len(s.Tokens))
			}
			if _, err := c.Begin(1, nil); err == nil {
				c.End()
			}
			c.Rewind(c.Len() / 2)
		}
		again := newSnapshot()
		if err := errors.Join(s.Save(path, nil), again.Load(path, nil)); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(again.Tokens, s.Tokens) || again.Target.Len() != s.Target.Len() || again.Stream.Len() != s.Stream.Len() {
			t.Fatal("saving what was loaded lost something")
		}
	})
}
