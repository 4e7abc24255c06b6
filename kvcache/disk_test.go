package kvcache

import (
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// memFile is a File in memory.
type memFile struct {
	mu   sync.Mutex
	data []byte
	open bool
}

func (f *memFile) ReadAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at%FileBlock != 0 || len(p)%FileBlock != 0 {
		panic("kvcache: a read is not of whole blocks")
	}
	if n := copy(p, f.data[min(at, int64(len(f.data))):]); n < len(p) {
		return n, io.EOF
	}
	return len(p), nil
}

func (f *memFile) WriteAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := int(at) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	return copy(f.data[at:], p), nil
}

func (f *memFile) Reserve(int64, int64) error { return nil }
func (f *memFile) Name() string               { return "memory" }
func (f *memFile) Close() error               { f.open = false; return nil }

// A cache on disk holds, after any passes and rewinds, however far back, the
// tokens that one in memory holds, and takes no more memory than it may.
func TestDisk(t *testing.T) {
	team := par.NewTeam(2)
	defer team.Close()
	const context, rows = 20 * kernel.Tile, 150
	seeds(t, 6, func(t *testing.T, rng *rand.Rand) {
		file := &memFile{open: true}
		start := time.Now()
		ram := tagShape.LeastRAM(portable, rows) + rng.Int64N(4*tagShape.PageBytes(portable))
		store := NewDiskStore(tagShape, portable, DiskOptions{RAM: ram, Context: context, Rows: rows,
			Create: func() (File, error) { return file, nil }, Clock: func() time.Duration { return time.Since(start) }})
		c := NewFull(store, context, 0)
		var want []int
		next := 0
		for range 200 {
			if rng.IntN(8) == 0 {
				n := rng.IntN(len(want) + 1)
				if rng.IntN(3) > 0 {
					n = max(n, len(want)-rng.IntN(100))
				}
				c.Rewind(n)
				want = want[:n]
				if got := onDisk(t, c, team); !slices.Equal(got, want) {
					t.Fatalf("%d tokens after a rewind: other tokens than those that were stored", len(want))
				}
			}
			n := 1 + rng.IntN(rows)
			if len(want)+n > context {
				continue
			}
			p, err := c.Begin(n, nil)
			if err != nil {
				t.Fatal(err)
			}
			if rng.IntN(5) == 0 {
				continue // given up: without End nothing has happened
			}
			for r := range n {
				next++
				put(store, int(p.Rows[r].Slot), next)
				want = append(want, next)
			}
			c.End()
			if got := store.Bytes(); got > ram {
				t.Fatalf("the store takes %d bytes, expected at most %d", got, ram)
			}
			if rng.IntN(4) == 0 {
				if got := onDisk(t, c, team); !slices.Equal(got, want) {
					t.Fatalf("%d tokens, %d on disk: other tokens than those that were stored", len(want), store.disk.first*kernel.Tile)
				}
			}
		}
		if d := store.Disk(); d.Written == 0 || d.Read == 0 {
			t.Error("nothing was on disk")
		}
		if err := c.Close(); err != nil || file.open {
			t.Errorf("the file is open after Close: %v", err)
		}
	})
}

// onDisk returns the tags of all slots, of which each layer and head must have
// the same.
func onDisk(t *testing.T, c *Full, team *par.Team) []int {
	t.Helper()
	var mu sync.Mutex
	tags := make([]int, c.Len())
	err := c.scan(team, func(layer, head, lo, hi int) {
		k, v := make([]float32, c.shape.Dim), make([]float32, c.shape.Dim)
		mu.Lock()
		defer mu.Unlock()
		for slot := lo * kernel.Tile; slot < min(hi*kernel.Tile, c.Len()); slot++ {
			c.Get(layer, head, slot, k, v)
			tag := (int(k[0]) - 2*layer - head) / 8
			if tags[slot] == 0 {
				tags[slot] = tag
			}
			if tags[slot] != tag || v[0] != -k[0] {
				tags[slot] = -1
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return tags
}
