// Program attention writes the assembly of attention over one tile, for the
// AVX2 and the AVX-512 tier, in the three phases that kernel/attention_asm.go
// strings together: scores, softmax, values. For rows that leave slots out there are
// sparse ones of the latter two.
//
// A phase is one function that loops over rows in blocks: what it loads of the
// tile serves all rows of a block, whose sums stay in registers. One Go
// function here writes a phase for every tier and stored form; they differ in
// the width of vectors and in a few instructions.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"

	"triforce/internal/kernel/_gen/tiles"
)

const (
	chunk    = 16      // slots whose keys are interleaved
	group    = 64      // slots that scores and softmax take at a time
	rowBytes = 4 * 256 // a row of scores
	intBytes = 3 * 256 // a row of integer weights: words, and bytes of those that are small
	mrgBytes = 4 * 14  // a row's step of the merge, which is:
	// scale of the integers (before that, the largest of them), factors of the state
	// and of this tile, the row's largest score, inverse of the scale, how far below
	// the largest a score may be, which row it is, where its masses are (-1: nowhere);
	// for what is sparse, which begins with how low a score may be, the chunks with such
	// scores, the quads of slots with small weights, and with larger ones
	mrgScale, mrgFactors, mrgLargest, mrgInverse, mrgLeast, mrgRow, mrgMass = 0, 4, 12, 16, 20, 24, 28
	mrgChunks, mrgLight, mrgHeavy                                           = 32, 40, 48

	wordBytes = 2 * 256 // where bytes begin
	small     = 63
)

// tier is a width of vectors, in floats.
type tier struct {
	name  string
	lanes int
}

var tiers = []tier{{"AVX2", 8}, {"AVX512", 16}}

func (t tier) wide() bool { return t.lanes == 16 }

func (t tier) bytes() int { return 4 * t.lanes }

func (t tier) vec() reg.VecVirtual {
	if t.wide() {
		return ZMM()
	}
	return YMM()
}

func (t tier) vecs(n int) []reg.VecVirtual {
	v := make([]reg.VecVirtual, n)
	for i := range v {
		v[i] = t.vec()
	}
	return v
}

// form is a stored form of keys and values.
type form struct {
	name string
	size int // bytes of an element
	ints bool
}

var (
	q8    = form{"Q8", 1, true}
	f16   = form{"F16", 2, false}
	f32   = form{"F32", 4, false}
	forms = []form{q8, f16, f32}
)

// function begins a function; its name is that of the phase, the form and the
// tier.
func (t tier) function(phase, form, signature, doc string) {
	name := phase + form + t.name
	TEXT(name, NOSPLIT, signature)
	Doc(name + " " + doc)
	Pragma("noescape")
}

// done ends it.
func done() {
	VZEROUPPER()
	RET()
}

func param(name string) reg.GPVirtual {
	return Load(Param(name), GP64()).(reg.GPVirtual)
}

func address(name string) Op {
	b, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }

func copyOf(r reg.GPVirtual) reg.GPVirtual {
	c := GP64()
	MOVQ(r, c)
	return c
}

// zero clears vectors.
func (t tier) zero(v ...reg.VecVirtual) {
	for i, x := range v {
		switch {
		case !t.wide():
			VPXOR(x, x, x)
		case i == 0:
			// Not VPXORD: avo takes that for a use of what was there, which
			// would then hold a register all along.
			VBROADCASTSS(constant("zero"), x)
		default:
			VMOVAPS(v[0], x)
		}
	}
}

// ahead is where a phase asks for the memory that is read after it. It asks for
// the second level of cache: the first has the tile at hand.
type ahead struct {
	at    reg.GPVirtual
	lines Mem // of a step
}

func newAhead() ahead { return ahead{param("ahead"), AllocLocal(8)} }

// pace sets how many lines a step asks for that moves on by so many times the
// function's pace: no more than it moves, since each takes one of the few places
// for lines that are on their way, also if it is there already.
func (a ahead) pace(times int) {
	lines := GP64()
	MOVQ(address("pace"), lines)
	IMUL3Q(I32(int32(times)), lines, lines)
	ADDQ(Imm(63), lines)
	SHRQ(Imm(6), lines)
	MOVQ(lines, a.lines)
}

// prefetch is such a step, in a loop of the given name; there are at most so
// many lines.
func (a ahead) prefetch(name string, most, times int) {
	done := name + "Ahead"
	for i := range most {
		if i&(i-1) == 0 { // 0, 1, 2, 4
			CMPQ(a.lines, Imm(uint64(i)))
			JLE(LabelRef(done))
		}
		PREFETCHT1(at(a.at, 64*i))
	}
	Label(done)
	pace := GP64()
	MOVQ(address("pace"), pace)
	LEAQ(Mem{Base: a.at, Index: pace, Scale: uint8(times)}, a.at)
}

// blocks writes body for as many rows as rowsLeft holds, most of them in
// blocks of the largest size. body advances the pointers.
func blocks(largest int, rowsLeft Op, label string, body func(rows int)) {
	for r := largest; r >= 1; r-- {
		next := label + "After" + string(rune('0'+r))
		if r == largest {
			Label(label)
		}
		CMPQ(rowsLeft, Imm(uint64(r)))
		JLT(LabelRef(next))
		body(r)
		SUBQ(Imm(uint64(r)), rowsLeft)
		if r == largest {
			JMP(LabelRef(label))
		}
		Label(next)
	}
}

func main() {
	ConstraintExpr("!purego")
	constants()
	for _, t := range tiers {
		for _, f := range forms {
			t.scores(f)
		}
		t.largest(false)
		t.softmax(true, false)
		t.softmax(false, false)
		t.largest(true)
		t.softmax(true, true)
		t.sparseValues()
		for _, f := range forms {
			t.values(f)
		}
	}
	fetch()
	shapes := tiles.Shapes("tileShapes", 64)
	tileScores(shapes)
	tileValues(shapes)
	merge()
	hadamard()
	head(false)
	head(true)
	half()
	Generate()
}
