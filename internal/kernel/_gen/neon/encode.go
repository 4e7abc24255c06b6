package main

import (
	"fmt"
	"strings"
)

// encoding is how a vector instruction is written: its word with all registers
// zero (Arm Architecture Reference Manual, C7.2), and the arrangements of the
// destination, the first and the second source in Arm's syntax.
//
// Go's assembler knows only a few of them. What it knows goes by its Go name;
// the rest is written as a WORD beside what an Arm assembler would say.
type encoding struct {
	word  uint32
	forms string
	goes  string // Go's name, if it has one
}

var encodings = map[string]encoding{
	// Products of bytes: of four neighbours in each lane, by four of m.
	"sdot": {0x4f80e000, "4s 16b 4b", ""},

	// Floats.
	"fadd":     {0x4e20d400, "4s 4s 4s", ""},
	"fsub":     {0x4ea0d400, "4s 4s 4s", ""},
	"fmul":     {0x6e20dc00, "4s 4s 4s", ""},
	"fdiv":     {0x6e20fc00, "4s 4s 4s", ""},
	"fmax":     {0x4e20f400, "4s 4s 4s", ""},
	"fmin":     {0x4ea0f400, "4s 4s 4s", ""},
	"fmaxnm":   {0x4e20c400, "4s 4s 4s", ""}, // of a number and a NaN the number
	"fcmge":    {0x6e20e400, "4s 4s 4s", ""},
	"faddp":    {0x6e20d400, "4s 4s 4s", ""},
	"fmla":     {0x4e20cc00, "4s 4s 4s", "VFMLA"},
	"fmla.s":   {0x4f801000, "4s 4s s", ""}, // by one lane of m
	"fmul.s":   {0x4f809000, "4s 4s s", ""},
	"fabs":     {0x4ea0f800, "4s 4s", ""},
	"fneg":     {0x6ea0f800, "4s 4s", ""},
	"frintn":   {0x4e218800, "4s 4s", ""}, // to nearest, ties to even
	"fcvtns":   {0x4e21a800, "4s 4s", ""}, // the same as integers
	"scvtf":    {0x4e21d800, "4s 4s", ""},
	"fcvtl":    {0x0e217800, "4s 4h", ""}, // halves to floats
	"fcvtl2":   {0x4e217800, "4s 8h", ""},
	"fcvtn":    {0x0e216800, "4h 4s", ""},
	"fcvtn2":   {0x4e216800, "8h 4s", ""},
	"fmaxv":    {0x6e30f800, "s 4s", ""},
	"trn1":     {0x4e802800, "4s 4s 4s", "VTRN1"},
	"trn2":     {0x4e806800, "4s 4s 4s", "VTRN2"},
	"trn1.2d":  {0x4ec02800, "2d 2d 2d", "VTRN1"},
	"trn2.2d":  {0x4ec06800, "2d 2d 2d", "VTRN2"},
	"ext.half": {0x6e004000, "16b 16b 16b", ""}, // upper half of n, lower of m

	// Integers.
	"add":        {0x4ea08400, "4s 4s 4s", "VADD"},
	"add.2d":     {0x4ee08400, "2d 2d 2d", "VADD"},
	"addp":       {0x4ea0bc00, "4s 4s 4s", "VADDP"},
	"neg":        {0x6ea0b800, "4s 4s", ""},
	"umax":       {0x6ea06400, "4s 4s 4s", "VUMAX"},
	"umaxv":      {0x6eb0a800, "s 4s", ""},
	"and":        {0x4e201c00, "16b 16b 16b", "VAND"},
	"eor":        {0x6e201c00, "16b 16b 16b", "VEOR"},
	"ushr.4":     {0x6f0c0400, "16b 16b", ""}, // bytes by 4
	"shl.8":      {0x4f285400, "4s 4s", ""},
	"shl.23":     {0x4f375400, "4s 4s", ""},
	"shll":       {0x2e613800, "4s 4h", ""}, // words to the upper half of lanes
	"shll2":      {0x6e613800, "4s 8h", ""},
	"xtn.4h":     {0x0e612800, "4h 4s", ""},
	"xtn2.8h":    {0x4e612800, "8h 4s", ""},
	"xtn.8b":     {0x0e212800, "8b 8h", ""},
	"xtn2.16b":   {0x4e212800, "16b 8h", ""},
	"rshrn.8b":   {0x0f088c00, "8b 8h", ""}, // (n + 128) >> 8
	"rshrn2.16b": {0x4f088c00, "16b 8h", ""},
}

// immediates are operands that the word has in it.
var immediates = map[string]string{
	"ushr.4": "#4", "shl.8": "#8", "shl.23": "#23", "shll": "#16", "shll2": "#16",
	"rshrn.8b": "#8", "rshrn2.16b": "#8", "ext.half": "#8",
}

// vec is a vector register.
type vec uint32

func (v vec) String() string { return fmt.Sprintf("V%d", uint32(v)) }

// encode returns the word of an instruction and how Arm writes it; lane counts
// only where the second source is one.
func encode(name string, regs []vec, lane int) (word uint32, text string) {
	e, ok := encodings[name]
	if !ok {
		panic("no instruction " + name)
	}
	forms := strings.Fields(e.forms)
	if len(regs) != len(forms) {
		panic(fmt.Sprintf("%s of %d registers", name, len(regs)))
	}
	word = e.word
	mnemonic, _, _ := strings.Cut(name, ".")
	var operands []string
	for i, r := range regs {
		word |= uint32(r) << [...]int{0, 5, 16}[i]
		form := forms[i]
		switch {
		case i == 2 && (form == "s" || form == "4b"):
			word |= uint32(lane&1)<<21 | uint32(lane>>1)<<11
			operands = append(operands, fmt.Sprintf("v%d.%s[%d]", r, form, lane))
		case form == "s":
			operands = append(operands, fmt.Sprintf("s%d", r))
		default:
			operands = append(operands, fmt.Sprintf("v%d.%s", r, form))
		}
	}
	if imm := immediates[name]; imm != "" {
		operands = append(operands, imm)
	}
	return word, mnemonic + " " + strings.Join(operands, ", ")
}

// line is the instruction as the assembly has it.
func line(name string, regs []vec, lane int) string {
	word, text := encode(name, regs, lane)
	e := encodings[name]
	if e.goes == "" {
		return fmt.Sprintf("WORD $0x%08x // %s", word, text)
	}
	// Go puts the last source first and names arrangements S4, B16, D2.
	var operands []string
	for i, form := range strings.Fields(e.forms) {
		n := len(form) - 1
		operands = append([]string{fmt.Sprintf("%v.%s%s", regs[i], strings.ToUpper(form[n:]), form[:n])}, operands...)
	}
	return e.goes + " " + strings.Join(operands, ", ")
}
