// Program attention writes the assembly of attention over one tile, for the
// AVX2 and the AVX-512 tier, in the three phases that kernel/attention.go
// strings together: scores, softmax, values.
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
)

const (
	chunk    = 16      // slots whose keys are interleaved
	group    = 64      // slots that scores and softmax take at a time
	rowBytes = 4 * 256 // a row of scores
	intBytes = 2 * 256 // a row of integer weights
	mrgBytes = 4 * 8   // a row's step of the merge, which is:
	// scale of the integers, factors of the state and of this tile, whether the
	// row sees anything, its largest score, inverse of the scale; padding
	mrgScale, mrgFactors, mrgSeen, mrgLargest, mrgInverse = 0, 4, 12, 16, 20

	massRow = 4 * 17 // a row of masses
	maxMass = 4 * 16 // the largest score within it
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

// prefetch asks for lines at ahead, and moves on by so many times the
// function's pace. It asks for the second level of cache: the first has the
// tile at hand.
func prefetch(ahead reg.GPVirtual, lines, times int) {
	for i := range lines {
		PREFETCHT1(at(ahead, 64*i))
	}
	pace := GP64()
	MOVQ(address("pace"), pace)
	LEAQ(Mem{Base: ahead, Index: pace, Scale: uint8(times)}, ahead)
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
		t.softmax(true)
		t.softmax(false)
		for _, f := range forms {
			t.values(f)
		}
		t.average(true)
		t.average(false)
	}
	blend()
	hadamard()
	head()
	half()
	Generate()
}
