package kvcache

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/kernel"
)

// Every row of a full cache sees its path and all tokens before, or the newest
// of them, in their order.
func TestFull(t *testing.T) {
	for _, window := range []int{0, 1, 20, 300} {
		seeds(t, 2, func(t *testing.T, rng *rand.Rand) {
			store := NewStore(tagShape, portable)
			g := &tagger{t: t, cache: NewFull(store, 1<<20, window), store: store}
			g.operate(rng, 60, 100, func(what string, p *Pass, paths [][]int) {
				if p.Base != len(g.seq) {
					t.Fatalf("%s: the pass begins at slot %d, expected %d", what, p.Base, len(g.seq))
				}
				for r, path := range paths {
					want := append(slices.Clone(g.seq), path...)
					if window > 0 {
						want = want[max(0, len(want)-window):]
					}
					if got := everywhere(t, p, r); !slices.Equal(got, want) {
						t.Fatalf("%s: row %d sees %v, expected %v", what, r, got, want)
					}
				}
			}, nil)
		})
	}
}

// Pages come one at a time, as tokens do, and a context that is full says so.
func TestFullGrows(t *testing.T) {
	store := NewStore(tagShape, portable)
	c := NewFull(store, 3*kernel.Tile-1, 0)
	page := tagShape.PageBytes(portable)
	if want := int64(2 * 2 * kernel.Tile * 16 * 2 * 4); page != want {
		t.Errorf("a page takes %d bytes, expected %d", page, want)
	}
	for n := 0; n < 3*kernel.Tile-1; n += 37 {
		rows := min(37, 3*kernel.Tile-1-n)
		if _, err := c.Begin(rows, nil); err != nil {
			t.Fatal(err)
		}
		c.End()
		if got, want := c.Bytes(), tagShape.ContextBytes(portable, n+rows); got != want || want != page*int64((n+rows+255)/256) {
			t.Errorf("%d bytes for %d tokens, expected %d", got, n+rows, want)
		}
	}
	if _, err := c.Begin(1, nil); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, expected ErrFull", err)
	}
	c.Rewind(10)
	if _, err := c.Begin(3*kernel.Tile-10, nil); !errors.Is(err, ErrFull) || c.Len() != 10 {
		t.Errorf("error %v and %d tokens, expected ErrFull and 10", err, c.Len())
	}
	if _, err := c.Begin(3*kernel.Tile-11, nil); err != nil {
		t.Error(err)
	}
}

// Parents that do not come before their row are a bug, and so are rewinds to
// what is not there.
func TestMisuse(t *testing.T) {
	c := NewFull(NewStore(tagShape, portable), 100, 0)
	for name, f := range map[string]func(){
		"a parent that follows": func() { c.Begin(2, []int32{-1, 1}) },
		"a parent below -1":     func() { c.Begin(1, []int32{-2}) },
		"too few parents":       func() { c.Begin(2, []int32{-1}) },
		"a rewind forward":      func() { c.Rewind(1) },
		"a rewind below zero":   func() { c.Rewind(-1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

// A record begins each pass empty, with room for every slot.
func TestMass(t *testing.T) {
	store := NewStore(tagShape, portable)
	c := NewFull(store, 1000, 0)
	m := NewMass(tagShape, 3, 2)
	c.Record(m)
	for _, rows := range []int{1, 254, 1, 1, 600} {
		p, err := c.Begin(rows, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p.Mass != m {
			t.Fatal("the pass does not record")
		}
		c.End()
		want := (c.Len() + 255) / 256 * 16
		for l := range tagShape.Layers {
			for h := range tagShape.Heads {
				sums := m.Chunks(l, h)
				if len(sums) != want {
					t.Errorf("%d chunks for %d tokens, expected %d", len(sums), c.Len(), want)
				}
				for i, s := range sums {
					if s != 0 {
						t.Errorf("chunk %d begins with %v", i, s)
					}
					sums[i] = float32(1 + l + h)
				}
			}
		}
	}
	c.Record(nil)
	if p, err := c.Begin(1, nil); err != nil || p.Mass != nil {
		t.Errorf("error %v, mass %v, expected none", err, p.Mass)
	}
	q := []float32{1, 2, 3}
	m.SetQuery(1, 4, q)
	if got := m.queriesOf(1, 1)[1]; !slices.Equal(got, q) {
		t.Errorf("query of head 4 is %v, expected %v", got, q)
	}
}
