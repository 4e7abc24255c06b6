package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
)

// asm collects assembly and the declarations of its functions.
type asm struct {
	text, stubs bytes.Buffer

	// Of the function at hand.
	lines  []string
	params map[string]int // offsets
	result int            // offset
	labels int
	free   []vec
	regs   []reg
}

// reg is a general register.
type reg int

func (r reg) String() string { return fmt.Sprintf("R%d", int(r)) }

// function writes a function; doc follows its name in the comment. Parameters
// and results are as in Go, a type for each: all of 8 bytes, but for float32
// and uint32.
func (a *asm) function(name, doc, params, result string, body func()) {
	a.lines, a.labels = nil, 0
	a.params = map[string]int{}
	a.free, a.regs = nil, nil
	for v := vec(31); v < 32; v-- {
		a.free = append(a.free, v)
	}
	for r := reg(25); r >= 0; r-- {
		if r < 16 || r > 18 { // the linker's and the system's
			a.regs = append(a.regs, r)
		}
	}
	end := 0
	field := func(kind string) int {
		size := 8
		if kind == "float32" || kind == "uint32" {
			size = 4
		}
		at := (end + size - 1) / size * size
		end = at + size
		return at
	}
	for p := range strings.SplitSeq(params, ", ") {
		name, kind, _ := strings.Cut(p, " ")
		a.params[name] = field(kind)
	}
	end = (end + 7) / 8 * 8
	if result != "" {
		a.result = field(result)
		result = " " + result
	}
	body()
	fmt.Fprintf(&a.stubs, "\n// %s %s\n//\n//go:noescape\nfunc %s(%s)%s\n", name, doc, name, params, result)
	fmt.Fprintf(&a.text, "\n// func %s(%s)%s\nTEXT ·%s(SB), NOSPLIT, $0-%d\n", name, params, result, name, end)
	for _, l := range a.lines {
		if !strings.HasSuffix(l, ":") {
			l = "\t" + l
		}
		a.text.WriteString(l + "\n")
	}
	a.text.WriteString("\tRET\n")
}

// op writes an instruction in Go's syntax.
func (a *asm) op(format string, args ...any) {
	a.lines = append(a.lines, fmt.Sprintf(format, args...))
}

// do writes a vector instruction: destination first.
func (a *asm) do(name string, regs ...vec) { a.lines = append(a.lines, line(name, regs, 0)) }

// lane writes one whose last source is a lane.
func (a *asm) lane(name string, d, n, m vec, lane int) {
	a.lines = append(a.lines, line(name, []vec{d, n, m}, lane))
}

// vec takes a vector register, and release gives some back.
func (a *asm) vec() vec {
	if len(a.free) == 0 {
		panic("no vector register is left")
	}
	v := a.free[len(a.free)-1]
	a.free = a.free[:len(a.free)-1]
	return v
}

func (a *asm) vecs(n int) []vec {
	v := make([]vec, n)
	for i := range v {
		v[i] = a.vec()
	}
	return v
}

func (a *asm) release(v ...vec) {
	for i := len(v) - 1; i >= 0; i-- {
		a.free = append(a.free, v[i])
	}
}

// reg takes a general register, which holds until the function ends.
func (a *asm) reg() reg {
	r := a.regs[len(a.regs)-1]
	a.regs = a.regs[:len(a.regs)-1]
	return r
}

// scope gives the general registers back that body took.
func (a *asm) scope(body func()) {
	regs := append([]reg(nil), a.regs...)
	body()
	a.regs = regs
}

// table writes vectors of copies of floats, as a symbol of the file.
func (a *asm) table(name string, floats []float32) {
	a.text.WriteByte('\n')
	for i, f := range floats {
		for lane := range 4 {
			fmt.Fprintf(&a.text, "DATA %s<>+%d(SB)/4, $0x%08x\n", name, 16*i+4*lane, math.Float32bits(f))
		}
	}
	fmt.Fprintf(&a.text, "GLOBL %s<>(SB), RODATA|NOPTR, $%d\n", name, 16*len(floats))
}

func (a *asm) at(param string) string {
	offset, ok := a.params[param]
	if !ok {
		panic("no parameter " + param)
	}
	return fmt.Sprintf("%s+%d(FP)", param, offset)
}

// param loads a parameter into a general register.
func (a *asm) param(name string) reg {
	r := a.reg()
	a.op("MOVD %s, %v", a.at(name), r)
	return r
}

// float loads a float parameter into all lanes.
func (a *asm) float(name string) vec {
	v := a.vec()
	a.op("FMOVS %s, F%d", a.at(name), uint32(v))
	a.spread(v, v)
	return v
}

// spread fills d with the first lane of n.
func (a *asm) spread(d, n vec) { a.op("VDUP %v.S[0], %v.S4", n, d) }

// splat fills a register with copies of a word.
func (a *asm) splat(bits uint32) vec {
	v := a.vec()
	a.scope(func() {
		r := a.reg()
		a.op("MOVW $0x%08x, %v", bits, r)
		a.op("VDUP %v, %v.S4", r, v)
	})
	return v
}

func (a *asm) zero(vs ...vec) {
	for _, v := range vs {
		a.op("VMOVI $0, %v.B16", v)
	}
}

func (a *asm) copyOf(r reg) reg {
	c := a.reg()
	a.op("MOVD %v, %v", r, c)
	return c
}

// load fills registers from memory, two at a time where it can.
func (a *asm) load(base reg, offset int, v ...vec) {
	a.memory(v, func(i int) {
		a.op("FMOVQ %d(%v), F%d", offset+16*i, base, v[i])
	}, func(i int) {
		a.op("FLDPQ %d(%v), (F%d, F%d)", offset+16*i, base, v[i], v[i+1])
	}, offset)
}

func (a *asm) store(base reg, offset int, v ...vec) {
	a.memory(v, func(i int) {
		a.op("FMOVQ F%d, %d(%v)", v[i], offset+16*i, base)
	}, func(i int) {
		a.op("FSTPQ (F%d, F%d), %d(%v)", v[i], v[i+1], offset+16*i, base)
	}, offset)
}

// memory calls pair where the offset of two registers fits an instruction.
func (a *asm) memory(v []vec, one, pair func(i int), offset int) {
	for i := 0; i < len(v); {
		if i+1 < len(v) && offset+16*i <= 1008 {
			pair(i)
			i += 2
		} else {
			one(i)
			i++
		}
	}
}

// label returns a new name and put places it.
func (a *asm) label(what string) string {
	a.labels++
	return fmt.Sprintf("%s%d", what, a.labels)
}

func (a *asm) put(label string) { a.lines = append(a.lines, label+":") }

// loop runs body n times, n ≥ 1, and uses n up.
func (a *asm) loop(what string, n reg, body func()) {
	l := a.label(what)
	a.put(l)
	body()
	a.op("SUB $1, %v", n)
	a.op("CBNZ %v, %s", n, l)
}

// interleave writes what bodies write, in turns, so that a processor finds work
// beside each chain of dependent instructions.
func (a *asm) interleave(bodies ...func()) {
	before := a.lines
	written := make([][]string, len(bodies))
	longest := 0
	for i, body := range bodies {
		a.lines = nil
		body()
		written[i] = a.lines
		longest = max(longest, len(a.lines))
	}
	for i := range longest {
		for _, w := range written {
			if i < len(w) {
				before = append(before, w[i])
			}
		}
	}
	a.lines = before
}
