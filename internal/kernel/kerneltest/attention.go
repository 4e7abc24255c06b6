package kerneltest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/guard"
)

// KVTypes lists the stored forms of keys and values.
var KVTypes = []kernel.KVType{kernel.KVQ8, kernel.KVF16, kernel.KVF32}

// Attention holds a set to the judge, bit for bit: what it stores, and
// attention over tiles of it. All slices that kernels get lie against pages
// that they must not touch.
func Attention(t *testing.T, set *kernel.Set) {
	for _, kv := range KVTypes {
		t.Run("kv="+kv.String(), func(t *testing.T) {
			t.Run("Store", func(t *testing.T) { store(t, set, kv) })
			t.Run("Attend", func(t *testing.T) { attend(t, set, kv) })
			t.Run("Alike", func(t *testing.T) { alike(t, set, kv) })
			t.Run("NaN", func(t *testing.T) { nan(t, set, kv) })
			t.Run("Peak", func(t *testing.T) { peak(t, set, kv) })
			t.Run("RowIndependence", func(t *testing.T) { rowIndependence(t, set, kv) })
			t.Run("Merge", func(t *testing.T) { merge(t, set, kv) })
			t.Run("Allocations", func(t *testing.T) { attendAllocations(t, set, kv) })
		})
	}
}

var dims = []int{16, 20, 32, 48, 64, 80, 96, 112, 128, 192, 256, 320}

func store(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	judge, got := &kernel.For(cpu.Portable).KV[kv], &set.KV[kv]
	for _, dim := range dims {
		rng := rand.New(rand.NewPCG(uint64(dim), 1))
		size := judge.TileBytes(dim)
		if n := got.TileBytes(dim); n != size {
			t.Fatalf("dim %d: a tile of %d bytes, want %d", dim, n, size)
		}
		want, end := make([]byte, size), guard.Ends()[rng.IntN(2)]
		poison(want)
		tile := guard.Copy(t, want, end)
		for slot := range kernel.Tile {
			k, v := vector(rng, dim), vector(rng, dim)
			if slot%8 == 3 { // beyond float16
				k[0], v[dim-1] = 1e6, -1e9
			}
			judge.Store(want, slot, k, v)
			got.Store(tile, slot, guard.Copy(t, k, end), guard.Copy(t, v, end))
			for i := range want {
				if tile[i] != want[i] {
					t.Fatalf("dim %d, slot %d: byte %d is %#x, want %#x", dim, slot, i, tile[i], want[i])
				}
			}

		}
	}
}

func attend(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	for _, dim := range dims {
		for _, rows := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 33, 50} {
			if rows > 9 && dim != 20 && dim != 64 && dim != 128 {
				continue
			}
			NewTiles(rand.New(rand.NewPCG(uint64(dim), uint64(rows))), kv, dim, rows, 2).Check(t, set)
		}
	}
}

// Tiles is a random problem: rows that attend to some tiles in turn.
type Tiles struct {
	kv        kernel.KVType
	dim, rows int
	scale     float32
	queries   []float32 // (rows, dim)
	tiles     []tile
	end       guard.End
}

type tile struct {
	bytes []byte
	spans []kernel.Span
	floor []float32 // or nil
	mass  int       // rows that have one: the last ones
	nil   bool      // no spans are given if all are whole
}

// NewTiles makes a problem whose slots before and after what rows see are
// garbage.
func NewTiles(rng *rand.Rand, kv kernel.KVType, dim, rows, tiles int) *Tiles {
	p := &Tiles{kv: kv, dim: dim, rows: rows, scale: float32(math.Exp2(8*rng.Float64() - 7)), end: guard.Ends()[rng.IntN(2)]}
	for range rows {
		p.queries = append(p.queries, head(rng, dim)...)
	}
	judge := &kernel.For(cpu.Portable).KV[kv]
	for range tiles {
		c := tile{bytes: make([]byte, judge.TileBytes(dim)), mass: max(0, rng.IntN(2*rows+1)-rows), nil: rng.IntN(2) == 0}
		poison(c.bytes)
		first, last := int32(kernel.Tile), int32(0)
		kind := rng.IntN(4)
		common := span(rng)
		for r := range rows {
			s := common
			switch kind {
			case 1: // causal
				s = kernel.Span{Lo: common.Lo, Hi: min(common.Hi+int32(r), kernel.Tile)}
			case 2:
				s = span(rng)
			case 3:
				s = kernel.Span{Lo: 0, Hi: kernel.Tile}
			}
			c.spans = append(c.spans, s)
			if s.Lo < s.Hi {
				first, last = min(first, s.Lo), max(last, s.Hi)
			}
		}
		for slot := first; slot < last; slot++ {
			judge.Store(c.bytes, int(slot), head(rng, dim), vector(rng, dim))
		}
		if rng.IntN(2) == 0 {
			c.floor = p.floors(rng, &c)
		}
		p.tiles = append(p.tiles, c)
	}
	return p
}

// head returns a query or key. Of some only one element is not zero, or two: once
// they are spread all are alike, and sums of products as large as they come.
func head(rng *rand.Rand, dim int) []float32 {
	x := vector(rng, dim)
	if kept := rng.IntN(6); kept == 1 || kept == 2 {
		y := make([]float32, dim)
		for range kept {
			i := rng.IntN(dim)
			y[i] = x[i]
		}
		return y
	}
	return x
}

// floors returns a floor for every row: far away, or just at what the row's
// largest score over the tile is, or just above, or somewhat below.
func (p *Tiles) floors(rng *rand.Rand, c *tile) []float32 {
	kv := &kernel.For(cpu.Portable).KV[p.kv]
	size := kv.QueryBytes(p.dim)
	query, peak := make([]byte, p.rows*size), make([]float32, p.rows)
	for r := range peak {
		peak[r] = float32(math.Inf(-1))
		kv.Query(query[r*size:(r+1)*size], p.queries[r*p.dim:(r+1)*p.dim], p.scale)
	}
	kv.Peak(&kernel.AttendArgs{Dim: p.dim, Rows: p.rows, Query: query, Spans: c.spans}, c.bytes, nil, peak)
	for r, x := range peak {
		up := math.Nextafter32(x, float32(math.Inf(1)))
		peak[r] = []float32{float32(math.Inf(-1)), x - 16, x - 16*rng.Float32(), x - rng.Float32(), x, up, x + 16, float32(math.Inf(1))}[rng.IntN(8)]
	}
	return peak
}

// alike attends to tiles in which all slots but one weigh the same, from nothing to
// 2^-6 of that one, and all values are as large as can be: sums of integers come to
// their largest.
func alike(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	const dim = 64
	ones, minus := make([]float32, dim), make([]float32, dim)
	for i := range ones {
		ones[i], minus[i] = 1, -1
	}
	for below := float32(6); below < 18; below += 1. / 16 {
		p := &Tiles{kv: kv, dim: dim, rows: 1, scale: 1, queries: ones, end: guard.Ends()[0]}
		c := tile{bytes: make([]byte, set.KV[kv].TileBytes(dim)), spans: []kernel.Span{{Hi: kernel.Tile}}}
		judge := &kernel.For(cpu.Portable).KV[kv]
		for slot := range kernel.Tile {
			key := make([]float32, dim)
			if slot != 77 {
				key[0] = -below // the score
			}
			value := ones
			if int(16*below)%2 == 1 {
				value = minus
			}
			judge.Store(c.bytes, slot, key, value)
		}
		p.tiles = []tile{c}
		p.Check(t, set)
	}
}

// nan attends with a query that is not a number, as a broken model has them. What
// comes of its row is nobody's business, but nothing else may change, nor memory
// beside what the kernel is given.
func nan(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	const dim = 64
	for _, rows := range []int{1, 5} {
		rng := rand.New(rand.NewPCG(5, uint64(rows)))
		p := NewTiles(rng, kv, dim, rows, 2)
		broken := rows - 1
		for i := range dim {
			p.queries[broken*dim+i] = float32(math.NaN())
		}
		for i := range p.tiles {
			c := &p.tiles[i]
			for slot := range kernel.Tile {
				kernel.For(cpu.Portable).KV[kv].Store(c.bytes, slot, head(rng, dim), vector(rng, dim))
			}
			for r := range c.spans {
				c.spans[r] = kernel.Span{Hi: kernel.Tile}
			}
			c.floor = p.floors(rng, c)
			c.floor[broken] = float32(math.NaN())
		}
		for _, end := range guard.Ends() {
			p.end = end
			got, _ := p.run(t, set, 0, rows)
			want, _ := p.run(t, kernel.For(cpu.Portable), 0, rows)
			n := broken * kernel.StateLen(dim)
			sameRows(t, fmt.Sprintf("%d rows beside one that is not a number", broken), got[:n], want[:n], kernel.StateLen(dim))
		}
	}
}

// peak compares the largest scores with the judge's, and with what Attend says of
// them.
func peak(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	for _, dim := range dims {
		const rows = 11
		p := NewTiles(rand.New(rand.NewPCG(uint64(dim), 4)), kv, dim, rows, 3)
		for i, c := range p.tiles {
			run := func(set *kernel.Set) []float32 {
				k := &set.KV[kv]
				a := &kernel.AttendArgs{Dim: dim, Rows: rows, Query: p.query(t, set, 0, rows), Spans: guard.Copy(t, c.spans, p.end)}
				peaks := guard.Slice[float32](t, rows, p.end)
				for r := range peaks {
					peaks[r] = float32(r%3 - 2) // raised, not set
				}
				k.Peak(a, guard.Copy(t, c.bytes, p.end), guard.Slice[byte](t, k.ScratchBytes(dim, rows), p.end), peaks)
				return peaks
			}
			sameRows(t, fmt.Sprintf("dim %d, tile %d", dim, i), run(set), run(kernel.For(cpu.Portable)), 1)
		}
	}
}

// query returns the queries of so many rows from one on.
func (p *Tiles) query(t testing.TB, set *kernel.Set, from, rows int) []byte {
	kv := &set.KV[p.kv]
	size := kv.QueryBytes(p.dim)
	query := guard.Slice[byte](t, rows*size, p.end)
	for r := range rows {
		q := guard.Copy(t, p.queries[(from+r)*p.dim:(from+r+1)*p.dim], p.end)
		kv.Query(query[r*size:(r+1)*size], q, p.scale)
	}
	return query
}

// span returns a random span, now and then an empty, a short or a full one.
func span(rng *rand.Rand) kernel.Span {
	a, b := rng.Int32N(kernel.Tile+1), rng.Int32N(kernel.Tile+1)
	lo, hi := min(a, b), max(a, b)
	switch rng.IntN(8) {
	case 0:
		return kernel.Span{}
	case 1:
		lo = min(lo, kernel.Tile-1)
		hi = lo + 1
	case 2:
		lo, hi = 0, kernel.Tile
	case 3:
		lo, hi = lo&^15, max(hi&^15, lo&^15)
	case 4:
		return kernel.Span{Lo: hi, Hi: lo} // empty too, unless they are the same
	}
	return kernel.Span{Lo: lo, Hi: hi}
}

// vector returns a random vector: most are normal, some have outliers, some are
// zero, huge or tiny.
func vector(rng *rand.Rand, dim int) []float32 {
	x := make([]float32, dim)
	size := 1.0
	kind := rng.IntN(20)
	switch kind {
	case 0:
		return x
	case 1:
		size = 100
	case 2:
		size = 0x1p-120
	case 3:
		size = 0x1p-10
	case 4, 5: // once spread, all elements are as large as any can be
		x[rng.IntN(min(dim, 2))] = 1
		return x
	}
	for i := range x {
		x[i] = float32(size * rng.NormFloat64())
	}
	if kind > 16 {
		x[rng.IntN(dim)] *= 50
	}
	return x
}

// poison fills b with what is NaN in every form.
func poison(b []byte) {
	for i := range b {
		b[i] = 0xff
	}
}

// run attends row from, and so many more as rows says, to the tiles in turn,
// and returns the states and the masses of every tile.
func (p *Tiles) run(t testing.TB, set *kernel.Set, from, rows int) (state []float32, masses [][]float32) {
	kv := &set.KV[p.kv]
	n := kernel.StateLen(p.dim)
	state = guard.Slice[float32](t, rows*n, p.end)
	set.Reset(state, p.dim, rows)
	query := p.query(t, set, from, rows)
	scratch := guard.Slice[byte](t, kv.ScratchBytes(p.dim, rows), p.end)
	for i, c := range p.tiles {
		a := &kernel.AttendArgs{Dim: p.dim, Rows: rows, State: state, Query: query}
		whole := kernel.Span{Lo: 0, Hi: kernel.Tile}
		if !c.nil || slices.ContainsFunc(c.spans, func(s kernel.Span) bool { return s != whole }) {
			a.Spans = guard.Copy(t, c.spans[from:from+rows], p.end)
		}
		if c.floor != nil {
			a.Floor = guard.Copy(t, c.floor[from:from+rows], p.end)
		}
		if n := min(from+rows+c.mass-p.rows, rows); n > 0 {
			a.Mass = guard.Slice[float32](t, n*kernel.MassLen, p.end)
			for i := range a.Mass {
				a.Mass[i] = float32(math.NaN())
			}
		}
		if i+1 < len(p.tiles) {
			a.Next = p.tiles[i+1].bytes
		}
		poison(scratch)
		kv.Attend(a, guard.Copy(t, c.bytes, p.end), scratch)
		masses = append(masses, a.Mass)
	}
	return state, masses
}

// Check runs the problem on the set and on the judge.
func (p *Tiles) Check(t testing.TB, set *kernel.Set) {
	t.Helper()
	judge := kernel.For(cpu.Portable)
	want, wantMass := p.run(t, judge, 0, p.rows)
	got, gotMass := p.run(t, set, 0, p.rows)
	what := fmt.Sprintf("dim %d, %d rows", p.dim, p.rows)
	for i, m := range wantMass {
		sameRows(t, fmt.Sprintf("%s: tile %d with spans %v: mass", what, i, p.tiles[i].spans), gotMass[i], m, kernel.MassLen)
	}
	sameRows(t, what+": state", got, want, kernel.StateLen(p.dim))

	out := guard.Slice[float32](t, p.rows*p.dim, p.end)
	set.Finish(out, p.dim, got, p.dim, p.rows)
	end := make([]float32, p.rows*p.dim)
	judge.Finish(end, p.dim, want, p.dim, p.rows)
	sameRows(t, what+": output", out, end, p.dim)
}

// sameRows compares rows of n floats by their bits.
func sameRows(t testing.TB, what string, got, want []float32, n int) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: row %d, element %d: %g (%#x), want %g (%#x)", what,
				i/n, i%n, got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// rowIndependence attends every row alone, which must change no bit.
func rowIndependence(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	for _, dim := range []int{20, 64, 128} {
		const rows = 17
		p := NewTiles(rand.New(rand.NewPCG(uint64(dim), 2)), kv, dim, rows, 4)
		n := kernel.StateLen(dim)
		state, masses := p.run(t, set, 0, rows)
		for r := range rows {
			alone, mass := p.run(t, set, r, 1)
			what := fmt.Sprintf("dim %d: row %d alone", dim, r)
			sameRows(t, what, alone, state[r*n:(r+1)*n], n)
			for i, all := range masses {
				if at := len(all)/kernel.MassLen - rows + r; at >= 0 {
					sameRows(t, what, mass[i], all[at*kernel.MassLen:(at+1)*kernel.MassLen], kernel.MassLen)
				}
			}
		}
	}
}

// merge attends to every tile from an empty state, and merges these.
func merge(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	for _, dim := range []int{20, 64, 128} {
		const rows = 9
		p := NewTiles(rand.New(rand.NewPCG(uint64(dim), 3)), kv, dim, rows, 5)
		n := kernel.StateLen(dim)
		inTurn, _ := p.run(t, set, 0, rows)
		merged := guard.Slice[float32](t, rows*n, p.end)
		set.Reset(merged, dim, rows)
		for i := range p.tiles {
			one := *p
			one.tiles = p.tiles[i : i+1]
			state, _ := one.run(t, set, 0, rows)
			set.Merge(merged, state, dim, rows)
		}
		sameRows(t, fmt.Sprintf("dim %d", dim), merged, inTurn, n)
	}
}

// attendAllocations demands that decoding allocates nothing at usual dimensions.
func attendAllocations(t *testing.T, set *kernel.Set, kv kernel.KVType) {
	if set.Tier <= cpu.Portable {
		t.Skip("the judge allocates")
	}
	const dim = 128
	k := &set.KV[kv]
	tile, query := make([]byte, k.TileBytes(dim)), make([]byte, k.QueryBytes(dim))
	x := vector(rand.New(rand.NewPCG(1, 1)), dim)
	a := &kernel.AttendArgs{
		Dim: dim, Rows: 1, Query: query, Spans: []kernel.Span{{Hi: 1}},
		State: make([]float32, kernel.StateLen(dim)), Mass: make([]float32, kernel.MassLen),
	}
	next := make([]float32, len(a.State))
	scratch := make([]byte, k.ScratchBytes(dim, 1))
	set.Reset(a.State, dim, 1)
	n := testing.AllocsPerRun(10, func() {
		k.Store(tile, 0, x, x)
		k.Query(query, x, 1)
		k.Attend(a, tile, scratch)
		set.Merge(next, a.State, dim, 1)
		set.Finish(x, dim, a.State, dim, 1)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
