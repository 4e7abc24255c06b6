// Package tiles writes the instructions of AMX, which neither avo nor the
// assembler knows. Its eight tiles are registers of up to 16 rows of 64 bytes;
// one instruction multiplies two of them.
package tiles

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Rows is how many rows of sums a tile has at most.
const Rows = 16

// Tiles: sums, then rows of the first operand, then columns of the second.
const (
	Sum, Row, Column = 0, 4, 6
	count            = 8
)

// At and Stride are where tiles are read and written: the registers stand in the
// instructions' bytes and so are fixed.
var At, Stride = reg.R8, reg.R9

// Prefixes of opcodes.
const (
	none = iota
	p66
	pF3
	pF2
)

// emit writes an instruction with a VEX prefix of three bytes, of map 0F38.
func emit(in []Op, prefix, second int, bytes ...byte) {
	code := append([]byte{0xc4, 0xe2, byte(^second&15<<3 | prefix)}, bytes...)
	if in != nil { // base and index are among the upper eight registers
		code[1] = 0x82
	}
	for _, b := range code {
		Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []Op{Imm(uint64(b))}, Inputs: in, ISA: []string{"AMX-INT8"}})
	}
}

// access writes an instruction on memory from At + disp on, in steps of Stride.
func access(prefix int, opcode byte, tile, disp int) {
	const sib = 0b00_001_000 // At + Stride·1
	emit([]Op{At, Stride}, prefix, 0, opcode, byte(0b10_000_100|tile<<3), sib,
		byte(disp), byte(disp>>8), byte(disp>>16), byte(disp>>24))
}

// Read reads a tile.
func Read(tile, disp int) { access(pF2, 0x4b, tile, disp) }

// Write writes a tile.
func Write(tile, disp int) { access(pF3, 0x4b, tile, disp) }

// Zero clears a tile.
func Zero(tile int) { emit(nil, pF2, 0, 0x49, byte(0xc0|tile<<3)) }

// Release ends the use of tiles: they would cost every switch of tasks.
func Release() { emit(nil, none, 0, 0x49, 0xc0) }

// Signed adds the products of signed rows with unsigned columns, Unsigned those
// of unsigned rows with signed columns.
func Signed(sum, row, column int)   { multiply(pF3, sum, row, column) }
func Unsigned(sum, row, column int) { multiply(p66, sum, row, column) }

func multiply(prefix, sum, row, column int) {
	emit(nil, prefix, column, 0x5e, byte(0xc0|sum<<3|row))
}

// Shapes writes the shapes of tiles for 0 to Rows rows, and as many bytes in
// each row of the first operand.
func Shapes(name string, bytes int) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for rows := range Rows + 1 {
		at := 64 * rows
		DATA(at, U8(1)) // the palette
		for tile := range count {
			n := 64
			if tile >= Row && tile < Column {
				n = bytes
			}
			DATA(at+16+2*tile, U16(n))
		}
		for tile := range count {
			n := rows
			if tile >= Column {
				n = bytes / 4
			}
			DATA(at+48+tile, U8(n))
		}
		DATA(at+56, U64(0))
	}
	return m
}

// Configure gives tiles their shapes for the number of rows in At, which it
// overwrites.
func Configure(shapes Mem) {
	LEAQ(shapes, Stride)
	SHLQ(Imm(6), At)
	ADDQ(Stride, At)
	XORQ(Stride, Stride)
	access(none, 0x49, 0, 0)
}
