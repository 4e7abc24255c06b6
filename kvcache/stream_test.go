package kvcache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every row of a streaming cache sees the sinks and the newest window tokens,
// in their order; after rewinds beyond the spare tokens, and skips, as many of
// them as are left.
func TestStream(t *testing.T) {
	const most = 90
	for _, o := range []struct{ sinks, window int }{{4, 64}, {0, 50}, {16, 700}, {1, 1}, {256, 300}} {
		t.Run(fmt.Sprintf("sinks=%d/window=%d", o.sinks, o.window), func(t *testing.T) {
			seeds(t, 4, func(t *testing.T, rng *rand.Rand) {
				store := NewStore(tagShape, portable)
				c := NewStream(store, o.sinks, o.window, most)
				g := &tagger{t: t, cache: c, store: store}
				held := 0 // sinks that the cache should have
				lost := 0 // no token from here on may be lost
				before := store.Bytes()
				// shorten follows Rewind and Keep.
				shorten := func() { held, lost = min(held, len(g.seq)), min(lost, len(g.seq)) }
				// after is how many sinks there are with the rows of a pass.
				after := func(rows int, tree bool) int {
					shorten()
					if held == len(g.seq) && !tree {
						return max(held, min(o.sinks, held+rows))
					}
					return held
				}
				g.ended = func(rows int, tree bool) { held = after(rows, tree) }
				check := func(what string, p *Pass, paths [][]int) {
					t.Helper()
					sinks := after(len(paths), p.Tree != nil)
					lost = max(lost, len(g.seq)-o.window-spare)
					for r, path := range paths {
						got, row := everywhere(t, p, r), p.Rows[r]
						all := append(slices.Clone(g.seq), path...)
						pos := len(all) - 1
						mine := min(sinks, pos+1)
						if int(row.Sinks) != mine || !slices.Equal(got[:mine], all[:mine]) {
							t.Fatalf("%s: row %d of %d tokens sees %d sinks, %v, expected %v", what, r, len(all), row.Sinks, got, all[:mine])
						}
						place := pos // in the cache
						if pos >= sinks {
							place = min(pos, sinks+o.window-1)
						}
						if int(row.SinkPos) != place {
							t.Fatalf("%s: row %d at %d sees the sinks from %d, expected %d", what, r, pos, row.SinkPos, place)
						}
						// The rest is the newest: as many as there may be, or
						// all that are left.
						rest := got[mine:]
						newest := max(sinks, pos+1-o.window)
						from := len(all) - len(rest)
						if from < mine || !slices.Equal(rest, all[from:]) {
							t.Fatalf("%s: row %d of %d tokens sees %v, which are not the newest of %v", what, r, len(all), rest, all)
						}
						if pos >= sinks && (from < newest || from > max(newest, lost)) {
							t.Fatalf("%s: row %d of %d tokens sees those from %d, expected %d, or at most %d", what, r, len(all), from, newest, max(newest, lost))
						}
					}
				}
				skip := func() string {
					n := len(g.seq) + rng.IntN(2*o.window+10)
					shorten()
					c.Skip(n)
					for len(g.seq) < n {
						g.seq = append(g.seq, -7) // never seen
					}
					lost = n
					return fmt.Sprintf("skip to %d", n)
				}
				g.operate(rng, 80, most, check, skip)
				if store.Bytes() != before {
					t.Errorf("memory grew from %d to %d bytes", before, store.Bytes())
				}
			})
		})
	}
}

// Keeping some of the rows that hold sinks forgets the others.
func TestStreamKeepsSinks(t *testing.T) {
	store := NewStore(tagShape, portable)
	c := NewStream(store, 8, 20, 16)
	g := &tagger{t: t, cache: c, store: store}
	_, tags, _ := g.begin(12, nil)
	c.End()
	c.Keep(0, []int32{0, 1, 2})
	g.seq = tags[:3]
	p, _, paths := g.begin(9, nil)
	for r, path := range paths {
		if got, want := everywhere(t, p, r), slices.Concat(g.seq, path); !slices.Equal(got, want) {
			t.Errorf("row %d sees %v, expected %v", r, got, want)
		}
	}
}
