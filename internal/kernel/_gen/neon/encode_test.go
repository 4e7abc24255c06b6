package main

import (
	"strings"
	"testing"
)

// pinned holds every instruction to the words of another assembler (GNU's, with
// -march=armv8.2-a+dotprod): registers 1, 18 and 31, lane 2.
var pinned = []struct {
	name, text string
	word       uint32
}{
	{"add", "add v1.4s, v18.4s, v31.4s", 0x4ebf8641},
	{"add.2d", "add v1.2d, v18.2d, v31.2d", 0x4eff8641},
	{"addp", "addp v1.4s, v18.4s, v31.4s", 0x4ebfbe41},
	{"and", "and v1.16b, v18.16b, v31.16b", 0x4e3f1e41},
	{"eor", "eor v1.16b, v18.16b, v31.16b", 0x6e3f1e41},
	{"ext.half", "ext v1.16b, v18.16b, v31.16b, #8", 0x6e1f4241},
	{"fabs", "fabs v1.4s, v18.4s", 0x4ea0fa41},
	{"fadd", "fadd v1.4s, v18.4s, v31.4s", 0x4e3fd641},
	{"faddp", "faddp v1.4s, v18.4s, v31.4s", 0x6e3fd641},
	{"fcmge", "fcmge v1.4s, v18.4s, v31.4s", 0x6e3fe641},
	{"fcvtl", "fcvtl v1.4s, v18.4h", 0x0e217a41},
	{"fcvtl2", "fcvtl2 v1.4s, v18.8h", 0x4e217a41},
	{"fcvtn", "fcvtn v1.4h, v18.4s", 0x0e216a41},
	{"fcvtn2", "fcvtn2 v1.8h, v18.4s", 0x4e216a41},
	{"fcvtns", "fcvtns v1.4s, v18.4s", 0x4e21aa41},
	{"fdiv", "fdiv v1.4s, v18.4s, v31.4s", 0x6e3ffe41},
	{"fmax", "fmax v1.4s, v18.4s, v31.4s", 0x4e3ff641},
	{"fmaxnm", "fmaxnm v1.4s, v18.4s, v31.4s", 0x4e3fc641},
	{"fmaxv", "fmaxv s1, v18.4s", 0x6e30fa41},
	{"fmin", "fmin v1.4s, v18.4s, v31.4s", 0x4ebff641},
	{"fmla", "fmla v1.4s, v18.4s, v31.4s", 0x4e3fce41},
	{"fmla.s", "fmla v1.4s, v18.4s, v31.s[2]", 0x4f9f1a41},
	{"fmul", "fmul v1.4s, v18.4s, v31.4s", 0x6e3fde41},
	{"fmul.s", "fmul v1.4s, v18.4s, v31.s[2]", 0x4f9f9a41},
	{"fneg", "fneg v1.4s, v18.4s", 0x6ea0fa41},
	{"frintn", "frintn v1.4s, v18.4s", 0x4e218a41},
	{"fsub", "fsub v1.4s, v18.4s, v31.4s", 0x4ebfd641},
	{"neg", "neg v1.4s, v18.4s", 0x6ea0ba41},
	{"rshrn.8b", "rshrn v1.8b, v18.8h, #8", 0x0f088e41},
	{"rshrn2.16b", "rshrn2 v1.16b, v18.8h, #8", 0x4f088e41},
	{"scvtf", "scvtf v1.4s, v18.4s", 0x4e21da41},
	{"sdot", "sdot v1.4s, v18.16b, v31.4b[2]", 0x4f9fea41},
	{"shl.23", "shl v1.4s, v18.4s, #23", 0x4f375641},
	{"shl.8", "shl v1.4s, v18.4s, #8", 0x4f285641},
	{"shll", "shll v1.4s, v18.4h, #16", 0x2e613a41},
	{"shll2", "shll2 v1.4s, v18.8h, #16", 0x6e613a41},
	{"trn1", "trn1 v1.4s, v18.4s, v31.4s", 0x4e9f2a41},
	{"trn1.2d", "trn1 v1.2d, v18.2d, v31.2d", 0x4edf2a41},
	{"trn2", "trn2 v1.4s, v18.4s, v31.4s", 0x4e9f6a41},
	{"trn2.2d", "trn2 v1.2d, v18.2d, v31.2d", 0x4edf6a41},
	{"umax", "umax v1.4s, v18.4s, v31.4s", 0x6ebf6641},
	{"umaxv", "umaxv s1, v18.4s", 0x6eb0aa41},
	{"ushr.4", "ushr v1.16b, v18.16b, #4", 0x6f0c0641},
	{"xtn.4h", "xtn v1.4h, v18.4s", 0x0e612a41},
	{"xtn.8b", "xtn v1.8b, v18.8h", 0x0e212a41},
	{"xtn2.16b", "xtn2 v1.16b, v18.8h", 0x4e212a41},
	{"xtn2.8h", "xtn2 v1.8h, v18.4s", 0x4e612a41},
}

func TestEncode(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range pinned {
		seen[p.name] = true
		regs := []vec{1, 18, 31}[:len(strings.Fields(encodings[p.name].forms))]
		word, text := encode(p.name, regs, 2)
		if word != p.word || text != p.text {
			t.Errorf("%s: %#08x %q, expected %#08x %q", p.name, word, text, p.word, p.text)
		}
	}
	for name := range encodings {
		if !seen[name] {
			t.Errorf("%s is not pinned", name)
		}
	}
}

// Instructions that Go's assembler knows are left to it.
func TestLine(t *testing.T) {
	for _, c := range []struct {
		name string
		regs []vec
		lane int
		want string
	}{
		{"add", []vec{1, 2, 3}, 0, "VADD V3.S4, V2.S4, V1.S4"},
		{"trn1.2d", []vec{1, 2, 3}, 0, "VTRN1 V3.D2, V2.D2, V1.D2"},
		{"eor", []vec{1, 2, 3}, 0, "VEOR V3.B16, V2.B16, V1.B16"},
		{"sdot", []vec{0, 1, 2}, 3, "WORD $0x4fa2e820 // sdot v0.4s, v1.16b, v2.4b[3]"},
	} {
		if got := line(c.name, c.regs, c.lane); got != c.want {
			t.Errorf("%s: %q, expected %q", c.name, got, c.want)
		}
	}
}

// A register that is in use is not handed out, and what bodies write takes
// turns.
func TestAssembler(t *testing.T) {
	a := &asm{}
	a.function("f", "does nothing.", "x *float32, r float32, n int", "uint32", func() {
		v := a.vecs(3)
		a.release(v[1])
		if w := a.vec(); w != v[1] || a.vec() == v[0] {
			t.Errorf("after release of %v comes %v", v[1], w)
		}
		if at := a.at("n"); at != "n+16(FP)" || a.result != 24 {
			t.Errorf("n is at %s, the result at %d", at, a.result)
		}
		a.interleave(func() { a.op("A1"); a.op("A2") }, func() { a.op("B1") })
		if got := strings.Join(a.lines, " "); got != "A1 B1 A2" {
			t.Errorf("interleaved: %s", got)
		}
	})
}
