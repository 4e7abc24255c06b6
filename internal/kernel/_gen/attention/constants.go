package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
)

// table lists the constants, each of which fills a YMM register.
var table = []struct {
	name  string
	dword [8]uint32
}{
	// The polynomial of 2^f.
	{"c5", splat(0x1.5bba14p-10)},
	{"c4", splat(0x1.3cea88p-7)},
	{"c3", splat(0x1.c6b752p-5)},
	{"c2", splat(0x1.ebf9bcp-3)},
	{"c1", splat(0x1.62e42ap-1)},
	{"c0", splat(1)},
	{"least", splat(-126)},
	// Adding this rounds to an integer, and leaves it in the low bits.
	{"round", splat(0x1.8p23)},
	{"zero", splat(0)},
	{"-Inf", splat(float32(math.Inf(-1)))},
	{"abs", fill(0x7fffffff)},
	{"127", splat(127)},
	{"128", fill(128)},
	{"tiny", splat(0x1p-112)},
	// Signs of the elements that a butterfly at that distance subtracts.
	{"odd 1", [8]uint32{1: sign, 3: sign, 5: sign, 7: sign}},
	{"odd 2", [8]uint32{2: sign, 3: sign, 6: sign, 7: sign}},
	{"odd 4", [8]uint32{4: sign, 5: sign, 6: sign, 7: sign}},
	{"ones", fill(0x00010001)}, // words
	// Low bytes of words.
	{"words", fill(0x00ff00ff)},
	// Words of a quad of slots, pairs two apart.
	{"pairs", [8]uint32{0x05040100, 0x07060302, 0x0d0c0908, 0x0f0e0b0a, 0x05040100, 0x07060302, 0x0d0c0908, 0x0f0e0b0a}},
	{"small", fill(small * 0x01010101)},
	// Dwords of four chunks in lanes of 128 bits, transposed.
	{"transpose", [8]uint32{0, 4, 8, 12, 1, 5, 9, 13}},
	{"transpose, second half", [8]uint32{2, 6, 10, 14, 3, 7, 11, 15}},
	// The first dword of each lane of 128 bits.
	{"firsts", [8]uint32{0, 4, 8, 12, 0, 4, 8, 12}},
	{"firsts, second half", [8]uint32{0, 4, 8, 12, 0, 4, 8, 12}},
	// The slot of each element of a quad of keys.
	{"slots", [8]uint32{0, 0, 0, 0, 1, 1, 1, 1}},
	{"slots, second half", [8]uint32{2, 2, 2, 2, 3, 3, 3, 3}},
}

const sign = 1 << 31

func fill(x uint32) (v [8]uint32) {
	for i := range v {
		v[i] = x
	}
	return v
}

func splat(x float32) [8]uint32 { return fill(math.Float32bits(x)) }

var symbol Mem

func constants() {
	symbol = GLOBL("attentionConstants", RODATA|NOPTR)
	for i, c := range table {
		for j, x := range c.dword {
			DATA(32*i+4*j, U32(x))
		}
	}
}

// constant returns where a constant lies.
func constant(name string) Mem {
	for i, c := range table {
		if c.name == name {
			return symbol.Offset(32 * i)
		}
	}
	panic("no constant " + name)
}
