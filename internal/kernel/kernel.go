// Package kernel holds the inner loops of triforce: a Set of functions for each
// tier of processor, all giving the same bits as the judge in package ref.
//
// A Set is a value: two tiers can be used in one process. Kernels are safe for
// concurrent use on disjoint destinations, own no memory, check nothing, and
// run for microseconds (assembly cannot be preempted): callers cut their work
// into panels and tiles and validate sizes once, where things are built. Builds
// with the tag invariants check the sizes of every call.
package kernel

import (
	"fmt"

	"triforce/internal/cpu"
	"triforce/internal/invariant"
	"triforce/internal/kernel/ref"
)

// The assembly of all processors, on whichever.
//go:generate go run -C _gen ./products -out ../products_amd64.s -stubs ../products_amd64.go -pkg kernel
//go:generate go run -C _gen ./attention -out ../attention_amd64.s -stubs ../attention_amd64.go -pkg kernel
//go:generate go run -C _gen ./neon -out ../neon_arm64.s -stubs ../neon_arm64.go

// Sizes that layouts are made of; package ref draws the layouts.
const (
	Block = ref.Block // activations that share a scale
	Panel = ref.Panel // output rows that a packed matrix interleaves
	Tile  = ref.Tile  // cache slots that attention takes at a time
	Chunk = ref.Chunk // cache slots that are interleaved
)

// Types that kernels work on.
type (
	// Span is the run of slots of a tile that a row sees.
	Span = ref.Span
	// AttendArgs is what attention over one tile works on.
	AttendArgs = ref.Args
)

// Set is the kernels of one tier. The functions are specified, loop by loop,
// by those of the same name in package ref.
type Set struct {
	Tier cpu.Tier

	// ActBytes is the size of a quantized activation row of n floats, and
	// Quantize makes one; its layout is private to the tier.
	ActBytes func(n int) int
	Quantize func(dst []byte, x []float32)
	// MatMul and MatMulFloat multiply by a packed matrix; Format says which.
	MatMul      [numFormats]MatMul
	MatMulFloat [numFormats]MatMulFloat
	// Abreast is how many panels MatMul multiplies by at a time if it is given a
	// multiple of as many, or 0.
	Abreast int

	// Peak does nothing but PeakTurn·n multiply-accumulates with the
	// instructions that integer products are made of, so that its time bounds
	// theirs; nil where the tier has none of its own.
	Peak func(n int)
	// Sum adds words as fast as memory gives them, so that its time bounds that
	// of kernels which read as much.
	Sum func(x []uint64) uint64

	RMSNorm func(dst, x, weight []float32, eps float32)
	Rope    func(x, cos, sin []float32)
	SwiGLU  func(dst, gate, up []float32)
	Add     func(dst, x []float32)
	Exp     func(x []float32, top float32) float32

	// KV holds the kernels of each stored form of keys and values.
	KV [numKVTypes]KVKernels
	// Reset, Merge and Finish work on attention states of any stored form.
	Reset  func(state []float32, dim, rows int)
	Merge  func(state, next []float32, dim, rows int)
	Finish func(dst []float32, ldd int, state []float32, dim, rows int)
}

// PeakTurn is how many multiply-accumulates Peak does at a time.
const PeakTurn = 512

// MatMul computes products with rows of quantized activations:
// dst[r·ldd+p·16+j] = Σ_k x[r][k]·w[p·16+j][k]; row r of x is at r·ldx bytes.
type MatMul func(dst []float32, ldd int, w []byte, panels int, x []byte, ldx, rows, n int)

// MatMulFloat is the same with rows of floats; ldx counts floats.
type MatMulFloat func(dst []float32, ldd int, w []byte, panels int, x []float32, ldx, rows, n int)

// KVType is a stored form of keys and values.
type KVType uint8

// The stored forms.
const (
	KVQ8 KVType = iota
	KVF16
	KVF32
	numKVTypes
)

var kvNames = [numKVTypes]string{"q8_0", "f16", "f32"}

// String returns the name that flags use.
func (t KVType) String() string {
	if t < numKVTypes {
		return kvNames[t]
	}
	return fmt.Sprintf("kv(%d)", uint8(t))
}

// ParseKVType returns the stored form called name.
func ParseKVType(name string) (KVType, error) {
	for i, n := range kvNames {
		if n == name {
			return KVType(i), nil
		}
	}
	return 0, fmt.Errorf("kernel: no KV type %q; the types are q8_0, f16, f32", name)
}

// KVKernels is attention over one stored form. dim is the size of a head.
type KVKernels struct {
	// TileBytes is the size of a tile; its layout is the same on all tiers.
	TileBytes func(dim int) int
	Store     func(tile []byte, slot int, k, v []float32)
	Load      func(k, v []float32, tile []byte, slot int)
	Move      func(dst []byte, to int, src []byte, from, dim int)
	// QueryBytes is the size of a query row, and Query makes one.
	QueryBytes func(dim int) int
	Query      func(dst []byte, q []float32, scale float32)
	// ScratchBytes is how much scratch Attend wants for that many rows.
	ScratchBytes func(dim, rows int) int
	Attend       func(a *AttendArgs, tile, scratch []byte)
	// Peak raises peak of every row to its largest score over the tile; of a only
	// Dim, Rows, Query, Spans and Next count.
	Peak func(a *AttendArgs, tile, scratch []byte, peak []float32)
	// Negligible is how far below the largest score, in powers of two, weights are
	// lost to rounding.
	Negligible float32
}

// StateLen is the number of floats of one row's attention state.
func StateLen(dim int) int { return ref.StateLen(dim) }

// MassLen is the number of floats of one row's attention mass over a tile.
const MassLen = ref.MassLen

// For returns the set of the given tier. It panics if the processor lacks it;
// cpu.Tiers lists those that it has.
func For(tier cpu.Tier) *Set {
	s := portable()
	s.Tier = tier
	if tier > cpu.Portable && !accelerate(s, tier) {
		panic("kernel: no set for tier " + tier.String())
	}
	if invariant.Enabled {
		s = checked(s)
	}
	return s
}

// portable is the set of plain Go functions.
func portable() *Set {
	none := func(int, int) int { return 0 }
	s := &Set{
		ActBytes: ref.ActBytes, Quantize: ref.Quantize,
		RMSNorm: ref.RMSNorm, Rope: ref.Rope, SwiGLU: ref.SwiGLU, Add: ref.Add, Exp: ref.Exp,
		Reset: ref.Reset, Merge: ref.Merge, Finish: ref.Finish, Sum: ref.Sum,
	}
	s.MatMul[Q4], s.MatMul[Q8], s.MatMul[Q8x16] = ref.MatMulQ4, ref.MatMulQ8, ref.MatMulQ8x16
	s.MatMulFloat[F32], s.MatMulFloat[F16], s.MatMulFloat[BF16] = ref.MatMulF32, ref.MatMulF16, ref.MatMulBF16
	s.KV[KVQ8] = KVKernels{
		TileBytes: ref.Q8TileBytes, Store: ref.Q8Store, Load: ref.Q8Load, Move: ref.Q8Move,
		QueryBytes: ref.Q8QueryBytes, Query: ref.Q8Query,
		ScratchBytes: none, Attend: func(a *AttendArgs, tile, _ []byte) { ref.Q8Attend(a, tile) },
		Peak:       func(a *AttendArgs, tile, _ []byte, peak []float32) { ref.Q8Peak(a, tile, peak) },
		Negligible: ref.NegligibleInt,
	}
	s.KV[KVF16] = KVKernels{
		TileBytes: ref.F16TileBytes, Store: ref.F16Store, Load: ref.F16Load, Move: ref.F16Move,
		QueryBytes: ref.FloatQueryBytes, Query: ref.FloatQuery,
		ScratchBytes: none, Attend: func(a *AttendArgs, tile, _ []byte) { ref.F16Attend(a, tile) },
		Peak:       func(a *AttendArgs, tile, _ []byte, peak []float32) { ref.F16Peak(a, tile, peak) },
		Negligible: ref.NegligibleFloat,
	}
	s.KV[KVF32] = KVKernels{
		TileBytes: ref.F32TileBytes, Store: ref.F32Store, Load: ref.F32Load, Move: ref.F32Move,
		QueryBytes: ref.FloatQueryBytes, Query: ref.FloatQuery,
		ScratchBytes: none, Attend: func(a *AttendArgs, tile, _ []byte) { ref.F32Attend(a, tile) },
		Peak:       func(a *AttendArgs, tile, _ []byte, peak []float32) { ref.F32Peak(a, tile, peak) },
		Negligible: ref.NegligibleFloat,
	}
	return s
}
