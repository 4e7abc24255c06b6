package kvcache

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
)

// The tests store for every token a key and a value that say which it is: its
// number among all tokens ever fed, and the layer and head. A sequence is then
// a list of such tags, and what a row sees can be read back.

var portable = kernel.For(cpu.Portable)

// maxTagDim is the largest head of the tests' shapes.
const maxTagDim = 5

// tagShape is small, with more than one layer and head.
var tagShape = Shape{Layers: 2, Heads: 2, Dim: 3, Type: kernel.KVF32}

// tagger feeds a cache and keeps the sequence that it should stand for.
type tagger struct {
	t     testing.TB
	cache Cache
	store *Store
	seq   []int // the tag of each token
	next  int
	ended func(rows int, tree bool) // if not nil, told of each pass that ends
}

// begin starts a pass of new tokens and stores their keys. It returns the tags
// and, for each row, those that come before it in its path, itself included.
func (g *tagger) begin(rows int, parents []int32) (p *Pass, tags []int, paths [][]int) {
	g.t.Helper()
	if g.cache.Len() != len(g.seq) {
		g.t.Fatalf("the cache has %d tokens, expected %d", g.cache.Len(), len(g.seq))
	}
	p, err := g.cache.Begin(rows, parents)
	if err != nil {
		g.t.Fatal(err)
	}
	for r := range rows {
		g.next++
		tags = append(tags, g.next)
		up := r - 1
		if parents != nil {
			up = int(parents[r])
		}
		var path []int
		if up >= 0 {
			path = paths[up]
		}
		paths = append(paths, append(path[:len(path):len(path)], g.next))
		if pos := len(g.seq) + len(path); int(p.Rows[r].Pos) != pos {
			g.t.Fatalf("row %d is at position %d, expected %d", r, p.Rows[r].Pos, pos)
		}
		put(g.store, int(p.Rows[r].Slot), g.next)
	}
	return p, tags, paths
}

// put stores a tag in every layer and head.
func put(s *Store, slot, tag int) {
	for l := range s.shape.Layers {
		for h := range s.shape.Heads {
			k, v := make([]float32, s.shape.Dim), make([]float32, s.shape.Dim)
			for i := range k {
				k[i], v[i] = float32(8*tag+2*l+h), float32(-8*tag-2*l-h)
			}
			s.Put(l, h, slot, k, v)
		}
	}
}

// get returns the tag in a slot of one layer and head, or -1 if its key and
// value are not of one tag there.
func get(s *Store, l, h, slot int) int {
	var both [2 * maxTagDim]float32
	k, v := both[:s.shape.Dim], both[maxTagDim:][:s.shape.Dim]
	s.Get(l, h, slot, k, v)
	for i := range k {
		if k[i] != k[0] || v[i] != -k[0] {
			return -1
		}
	}
	if int(k[0])%8 != 2*l+h {
		return -1
	}
	return int(k[0]) / 8
}

// sees lists the tags that a row attends to in one layer and head: sinks, then
// its span, in the order of slots.
func sees(p *Pass, r, l, h int) []int {
	row := p.Rows[r]
	var tags []int
	if p.Sinks {
		for slot := range int(row.Sinks) {
			tags = append(tags, get(p.Store, l, h, slot))
		}
	}
	words := (len(p.Rows) + 63) / 64
	var path []int
	for j := range p.Rows {
		if p.Tree == nil && j <= r || p.Tree != nil && p.Tree[r*words+j/64]>>(j%64)&1 != 0 {
			path = append(path, j)
		}
	}
	for slot := int(row.Lo); slot < int(row.Hi); slot++ {
		at := slot
		if slot >= p.Base && p.Tree != nil {
			at = p.Base + path[slot-p.Base]
		}
		tags = append(tags, get(p.Store, l, h, at))
	}
	return tags
}

// everywhere is what a row sees, which must be the same in all layers and
// heads.
func everywhere(t testing.TB, p *Pass, r int) []int {
	t.Helper()
	tags := sees(p, r, 0, 0)
	for l := range p.shape.Layers {
		for h := range p.shape.Heads {
			if other := sees(p, r, l, h); !slices.Equal(other, tags) {
				t.Fatalf("row %d sees %v in layer %d, head %d, and %v in layer 0", r, other, l, h, tags)
			}
		}
	}
	return tags
}

// randomTree returns parents for rows.
func randomTree(rng *rand.Rand, rows int) []int32 {
	parents := make([]int32, rows)
	for i := range parents {
		parents[i] = int32(rng.IntN(i+1)) - 1
		if rng.IntN(3) == 0 {
			parents[i] = int32(i) - 1
		}
	}
	return parents
}

// randomPath returns the rows from a root to a random row, or to none.
func randomPath(rng *rand.Rand, parents []int32) []int32 {
	var path []int32
	for r := int32(rng.IntN(len(parents)+1)) - 1; r >= 0; r = parents[r] {
		path = append(path, r)
	}
	slices.Reverse(path)
	return path
}

// operate makes random passes, commits, rewinds and keeps. check judges a pass
// before its end; other, if not nil, may do something else and say so.
func (g *tagger) operate(rng *rand.Rand, steps, most int, check func(what string, p *Pass, paths [][]int), other func() string) {
	g.t.Helper()
	for step := range steps {
		what := fmt.Sprintf("step %d", step)
		var parents []int32
		rows := 1 + rng.IntN(most)
		switch rng.IntN(10) {
		case 0:
			n := len(g.seq) - rng.IntN(min(len(g.seq), 2*most)+1)
			if rng.IntN(8) == 0 {
				n = rng.IntN(len(g.seq) + 1)
			}
			g.cache.Rewind(n)
			g.seq = g.seq[:n]
			continue
		case 1:
			if other != nil {
				g.t.Logf("%s: %s", what, other())
				continue
			}
		case 2, 3, 4:
			rows = 1 + rng.IntN(3)
		case 5, 6:
			rows = 1 + rng.IntN(min(most, 80))
			parents = randomTree(rng, rows)
		}
		p, tags, paths := g.begin(rows, parents)
		check(what, p, paths)
		if rng.IntN(6) == 0 {
			continue // abandoned
		}
		base := len(g.seq)
		g.cache.End()
		if g.ended != nil {
			g.ended(rows, parents != nil)
		}
		g.seq = append(g.seq, tags...)
		if parents == nil {
			parents = make([]int32, rows)
			for i := range parents {
				parents[i] = int32(i) - 1
			}
			if rng.IntN(4) != 0 {
				continue
			}
		}
		path := randomPath(rng, parents)
		g.cache.Keep(base, path)
		g.seq = g.seq[:base]
		for _, r := range path {
			g.seq = append(g.seq, tags[r])
		}
	}
}

// seeds runs a random test a few times; each subtest's name has its seed.
func seeds(t *testing.T, n int, run func(t *testing.T, rng *rand.Rand)) {
	if testing.Short() {
		n = 1
	}
	for seed := range uint64(n) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { run(t, rand.New(rand.NewPCG(seed, 0))) })
	}
}
