// Package kvcache keeps the keys and values of the tokens that a model has
// seen, in the tiles that the attention kernels read.
//
// A cache belongs to one session: it is not safe for concurrent use, except
// that during a pass (between Begin and End) workers may store and read
// different slots. It owns its memory, which it takes a page at a time.
package kvcache

import (
	"errors"
	"fmt"

	"triforce/internal/kernel"
	"triforce/internal/kernel/ref"
	"triforce/internal/mem"
)

// ErrFull is returned by Begin when the tokens would not fit.
var ErrFull = errors.New("context is full")

// Shape says what a model keeps for each token: a key and a value of Dim
// elements for every layer and KV head.
type Shape struct {
	Layers, Heads, Dim int
	Type               kernel.KVType
}

// Cache is what a model appends to and what a level of speculation rewinds.
type Cache interface {
	// Len is the number of tokens that the cache stands for.
	Len() int
	// Begin makes room for rows of tokens after Len and says where they go and
	// what they see. parents[i] is the row that row i follows, or -1 for the
	// last token of the cache; nil means that each row follows the one before.
	// The pass is valid until End or the next Begin; without End the cache is
	// as if Begin had not been called.
	Begin(rows int, parents []int32) (*Pass, error)
	// End makes the rows of the pass part of the cache.
	End()
	// Rewind forgets all tokens from the n-th on.
	Rewind(n int)
	// Keep forgets, of the tokens from the base-th on (the rows of one pass),
	// all but those in path, ascending row numbers each of which follows the
	// one before.
	Keep(base int, path []int32)
	// Bytes is the memory that the cache has taken.
	Bytes() int64
}

// Pass is what attention needs to know about the rows of one forward pass.
type Pass struct {
	*Store
	Rows []Row
	// Sinks says that tile 0 holds sinks: rows see the first Row.Sinks of its
	// slots besides their span, which begins after tile 0, and at another
	// distance: queries for sinks are rotated by Row.SinkPos.
	Sinks bool
	// Base is the slot of the first row. Tree, if not nil, has the path to each
	// row: bit j%64 of Tree[r·words + j/64] is set if row j is row r or one that
	// it follows, words = (rows+63)/64. A row's span counts its path as if that
	// stood in consecutive slots from Base on, which is where Keep puts it.
	Base int
	Tree []uint64
	// Mass, if not nil, receives the attention that chunks were given.
	Mass *Mass

	took func(layer, head, lo, hi int) // told of tiles that were fetched
}

// Row is the place of one token of a pass.
type Row struct {
	Pos     int32 // position in the sequence
	SinkPos int32 // position as the sinks see it
	Slot    int32 // where its key and value go
	Lo, Hi  int32 // the span of slots that it sees, [Lo, Hi)
	Sinks   int32 // how many sinks it sees
}

// Store holds the tiles of every layer and head. A page is the memory of
// kernel.Tile consecutive slots.
type Store struct {
	shape     Shape
	kv        *kernel.KVKernels
	tileBytes int
	pages     [][]byte // page t: (layers, heads, tileBytes)
	arena     mem.Arena
	disk      *disk   // or nil: all pages are in memory
	pool      *Pool   // where pages come from, or nil
	held      []*Page // of the pool
}

// A store takes leastBlock of memory at first and mostBlock at a time later, in
// whole pages, which is more or less.
const (
	leastBlock = 2 << 20
	mostBlock  = 64 << 20
)

// NewStore makes an empty store for the given shape and kernels.
func NewStore(shape Shape, set *kernel.Set) *Store {
	kv := &set.KV[shape.Type]
	s := &Store{shape: shape, kv: kv, tileBytes: kv.TileBytes(shape.Dim)}
	pages := func(bytes int) int { return (bytes + s.pageBytes() - 1) / s.pageBytes() * s.pageBytes() }
	s.arena.Block, s.arena.Most = pages(leastBlock), pages(mostBlock)
	return s
}

// PageBytes is the memory that kernel.Tile tokens take.
func (s Shape) PageBytes(set *kernel.Set) int64 {
	return int64(s.Layers) * int64(s.Heads) * int64(set.KV[s.Type].TileBytes(s.Dim))
}

// ContextBytes is the memory that n tokens take, in whole pages.
func (s Shape) ContextBytes(set *kernel.Set, n int) int64 {
	return int64((n+kernel.Tile-1)/kernel.Tile) * s.PageBytes(set)
}

// Shape returns what is stored for each token.
func (s *Store) Shape() Shape { return s.shape }

// Tile returns the memory of tile t of a layer's KV head. A tile that is on
// disk is there between Fetch and Release of its segment.
func (s *Store) Tile(layer, head, t int) []byte {
	if s.pages[t] == nil {
		return s.disk.ring.tile(layer, head, t)
	}
	at := (layer*s.shape.Heads + head) * s.tileBytes
	return s.pages[t][at : at+s.tileBytes : at+s.tileBytes]
}

// Put stores the key and the value of a slot.
func (s *Store) Put(layer, head, slot int, k, v []float32) {
	s.kv.Store(s.Tile(layer, head, slot/kernel.Tile), slot%kernel.Tile, k, v)
}

// Get returns the key and the value of a slot.
func (s *Store) Get(layer, head, slot int, k, v []float32) {
	s.kv.Load(k, v, s.Tile(layer, head, slot/kernel.Tile), slot%kernel.Tile)
}

// Bytes is the memory of all pages, and of what reads and writes those on disk.
func (s *Store) Bytes() int64 {
	if s.disk != nil {
		return s.disk.bytes()
	}
	return int64(len(s.pages)) * int64(s.pageBytes())
}

// expect sets how many slots' memory the store takes at a time: what is soon
// needed of a small cache, so that making one costs little.
func (s *Store) expect(slots int) {
	s.arena.Block, s.arena.Most = (slots+kernel.Tile-1)/kernel.Tile*s.pageBytes(), 0
}

// reserve takes pages until there are the given number of slots.
func (s *Store) reserve(slots int) {
	for len(s.pages)*kernel.Tile < slots {
		s.pages = append(s.pages, s.arena.Take(s.pageBytes()))
	}
}

// settle reserves slots, new ones in one block, and has the system provide all of
// that now: a huge page can take milliseconds, as long as dozens of passes over a
// view.
func (s *Store) settle(slots int) {
	from := len(s.pages)
	s.expect(max(0, slots-from*kernel.Tile))
	s.reserve(slots)
	s.expect(kernel.Tile)
	const page = 4 << 10
	for _, p := range s.pages[from:] {
		for i := 0; i < len(p); i += page {
			p[i] = 0
		}
	}
}

// move copies slot src over slot dst in every layer and head.
func (s *Store) move(dst, src int) {
	if dst == src {
		return
	}
	for l := range s.shape.Layers {
		for h := range s.shape.Heads {
			s.kv.Move(s.Tile(l, h, dst/kernel.Tile), dst%kernel.Tile, s.Tile(l, h, src/kernel.Tile), src%kernel.Tile, s.shape.Dim)
		}
	}
}

// copyChunk copies an aligned chunk of kernel.Chunk slots of one layer's head
// from another store.
func (s *Store) copyChunk(layer, head, dst int, from *Store, src int) {
	const perTile = chunksPerTile
	ref.CopyChunk(s.shape.Type == kernel.KVQ8, s.Tile(layer, head, dst/perTile), dst%perTile,
		from.Tile(layer, head, src/perTile), src%perTile, s.shape.Dim)
}

// plan fills the pass for rows that follow length tokens, the first of which
// goes to slot base; a token of the past has slot = base - its distance to
// length, and rows see those from slot lo on, or only the newest window if
// that is not zero.
func (p *Pass) plan(rows int, parents []int32, length, base, lo, window int) {
	p.Base, p.Tree = base, p.Tree[:0]
	p.Rows = p.Rows[:0]
	for r := range rows {
		pos := length + r
		if parents != nil {
			pos = length
			if parents[r] >= 0 {
				pos = int(p.Rows[parents[r]].Pos) + 1
			}
		}
		from := lo
		if window > 0 {
			from = max(from, base+(pos-length)-window+1)
		}
		hi := base + pos - length + 1
		p.Rows = append(p.Rows, Row{Pos: int32(pos), SinkPos: int32(pos), Slot: int32(base + r), Lo: int32(from), Hi: int32(hi)})
	}
	if parents == nil {
		p.Tree = nil
		return
	}
	words := (rows + 63) / 64
	p.Tree = append(p.Tree, make([]uint64, rows*words)...)
	for r := range rows {
		mine := p.Tree[r*words : (r+1)*words]
		if up := parents[r]; up >= 0 {
			copy(mine, p.Tree[int(up)*words:])
		}
		mine[r/64] |= 1 << (r % 64)
	}
}

// lowest is the first slot that a row sees.
func (p *Pass) lowest() int {
	lo := p.Rows[0].Lo
	for _, r := range p.Rows {
		lo = min(lo, r.Lo)
	}
	return int(max(lo, 0))
}

// checkParents panics unless every parent is -1 or an earlier row: proposals
// are made by this program, so anything else is a bug.
func checkParents(rows int, parents []int32) {
	if parents != nil && len(parents) != rows {
		panic(fmt.Sprintf("kvcache: %d parents for %d rows", len(parents), rows))
	}
	for r, up := range parents {
		if up < -1 || int(up) >= r {
			panic(fmt.Sprintf("kvcache: row %d has parent %d", r, up))
		}
	}
}
