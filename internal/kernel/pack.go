package kernel

import (
	"encoding/binary"
	"math"

	"triforce/tensor"
)

// Sizes of packed blocks, and where their scales and offsets start.
const (
	q4Block    = 256 + 32 + 32
	q8Block    = 512 + 32
	q8x16Block = 2 * q8x16Half
	q8x16Half  = 256 + 32 + 32
)

// Pack writes panels lo … hi-1 of m from the rows of t, in t's order of rows.
// m comes from NewMatrix(FormatOf(t.DType), t.Rows, t.Cols). Calls on disjoint
// panels may run concurrently.
func Pack(m *Matrix, t *tensor.Tensor, lo, hi int) {
	pack(m, t, lo, hi, packers[t.DType])
}

// PackFloat is Pack for a matrix of format F32 whatever the format of t.
func PackFloat(m *Matrix, t *tensor.Tensor, lo, hi int) {
	var buffer [piece]float32
	pack(m, t, lo, hi, func(panel []byte, j int, row []byte) {
		x := buffer[:len(row)/t.DType.BlockBytes()*t.DType.BlockSize()]
		tensor.Dequantize(x, t.DType, row)
		for k, v := range x {
			putWord(panel[k*64+j*4:], math.Float32bits(v))
		}
	})
}

// packer writes stored blocks as row j of a piece of a panel.
type packer func(panel []byte, j int, row []byte)

// piece is how many inputs are packed at a time, so that the panel's lines
// stay in the first cache while 16 rows are written to them.
const piece = 256

func pack(m *Matrix, t *tensor.Tensor, lo, hi int, pack packer) {
	from, to := t.DType.RowBytes(piece), m.Format.PanelBytes(piece)
	for p := lo; p < hi; p++ {
		panel := m.Panel(p, p+1)
		for i := 0; i*piece < t.Cols; i++ {
			for j := range min(Panel, t.Rows-p*Panel) {
				row := t.Row(p*Panel + j)
				pack(panel[i*to:], j, row[i*from:min((i+1)*from, len(row))])
			}
		}
	}
}

// packers has one row a stored format; package tensor draws these. Scales that
// a file stores as halves are copied; products of scales are rounded to half.
var packers = [...]packer{
	tensor.F32:    packF32,
	tensor.F16:    packF16,
	tensor.BF16:   packF16,
	tensor.Q4_0:   packQ4_0,
	tensor.Q4_1:   packQ4_1,
	tensor.Q4_K:   packQ4_K,
	tensor.Q5_0:   packQ5_0,
	tensor.Q8_0:   packQ8_0,
	tensor.IQ4_NL: packIQ4_NL,
	tensor.IQ4_XS: packIQ4_XS,
	tensor.Q5_1:   packQ5_1,
	tensor.Q2_K:   packQ2_K,
	tensor.Q3_K:   packQ3_K,
	tensor.Q5_K:   packQ5_K,
	tensor.Q6_K:   packQ6_K,
}

func packF32(panel []byte, j int, row []byte) {
	for k := range len(row) / 4 {
		putWord(panel[k*64+j*4:], word(row[k*4:]))
	}
}

func packF16(panel []byte, j int, row []byte) {
	for k := range len(row) / 2 {
		copyHalf(panel[k*32+j*2:], row[k*2:])
	}
}

// Codes move four at a time, as the bytes of a word.

const (
	lowNibbles = 0x0f0f0f0f
	flipSigns  = 0x80808080 // c to c+128 in every byte
)

func word(b []byte) uint32       { return binary.LittleEndian.Uint32(b) }
func putWord(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }
func getHalf(b []byte) float32   { return tensor.F16ToF32(binary.LittleEndian.Uint16(b)) }
func copyHalf(dst, src []byte) {
	binary.LittleEndian.PutUint16(dst, binary.LittleEndian.Uint16(src))
}
func putHalf(b []byte, v float32) {
	binary.LittleEndian.PutUint16(b, tensor.F32ToF16(v))
}

// putNibbles writes the codes of a Q4 block, which the 32-element formats store
// in the same bytes.
func putNibbles(block []byte, j int, codes []byte) {
	block, codes = block[j*4:j*4+196], codes[:16]
	putWord(block, word(codes))
	putWord(block[64:], word(codes[4:]))
	putWord(block[128:], word(codes[8:]))
	putWord(block[192:], word(codes[12:]))
}

// putCodes writes codes, a multiple of 4, of a Q8 block or half a Q8x16 block.
func putCodes(block []byte, j int, codes []byte) {
	for g := range len(codes) / 4 {
		putWord(block[g*64+j*4:], word(codes[g*4:])^flipSigns)
	}
}

func packQ4_0(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q4Block:], row[18:] {
		putNibbles(panel, j, row[2:18])
		copyHalf(panel[256+2*j:], row)
		putHalf(panel[288+2*j:], -8*getHalf(row))
	}
}

func packQ4_1(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q4Block:], row[20:] {
		putNibbles(panel, j, row[4:20])
		copyHalf(panel[256+2*j:], row)
		copyHalf(panel[288+2*j:], row[2:])
	}
}

func packQ4_K(panel []byte, j int, row []byte) {
	for ; len(row) > 0; row = row[144:] {
		d, m := getHalf(row), getHalf(row[2:])
		for s := range 8 {
			// Elements i and i+16 of this sub-block lie in the same nibble of
			// bytes i and i+16, and go to the two nibbles of one byte.
			codes, shift := row[16+s/2*32:][:32], s%2*4
			for g := range 4 {
				low := word(codes[g*4:]) >> shift & lowNibbles
				high := word(codes[16+g*4:]) >> shift & lowNibbles
				putWord(panel[g*64+j*4:], low|high<<4)
			}
			scale, minimum := scalesQ4(row[4:16], s)
			putHalf(panel[256+2*j:], d*float32(scale))
			putHalf(panel[288+2*j:], -m*float32(minimum))
			panel = panel[q4Block:]
		}
	}
}

// scalesQ4 unpacks the six-bit scale and minimum of sub-block s of 8.
func scalesQ4(b []byte, s int) (scale, minimum byte) {
	if s < 4 {
		return b[s] & 63, b[s+4] & 63
	}
	return b[s+4]&15 | b[s-4]>>6<<4, b[s+4]>>4 | b[s]>>6<<4
}

func packQ8_0(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q8Block:], row[34:] {
		putCodes(panel, j, row[2:34])
		copyHalf(panel[512+2*j:], row)
	}
}

func packQ5_0(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q8Block:], row[22:] {
		codes := fiveBits(row[6:22], word(row[2:]))
		for i := range codes {
			codes[i] -= 16
		}
		putCodes(panel, j, codes[:])
		copyHalf(panel[512+2*j:], row)
	}
}

// fiveBits joins nibbles (byte i: elements i and i+16) with fifth bits.
func fiveBits(low []byte, high uint32) (codes [Block]byte) {
	for i, q := range low[:16] {
		codes[i] = q&15 | byte(high>>i&1<<4)
		codes[i+16] = q>>4 | byte(high>>(i+16)&1<<4)
	}
	return codes
}

// levelsIQ4 are the levels that the IQ4 formats code for.
var levelsIQ4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

func levels(nibbles []byte) (codes [Block]byte) {
	for i, q := range nibbles[:16] {
		codes[i] = byte(levelsIQ4[q&15])
		codes[i+16] = byte(levelsIQ4[q>>4])
	}
	return codes
}

func packIQ4_NL(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q8Block:], row[18:] {
		codes := levels(row[2:18])
		putCodes(panel, j, codes[:])
		copyHalf(panel[512+2*j:], row)
	}
}

func packIQ4_XS(panel []byte, j int, row []byte) {
	for ; len(row) > 0; row = row[136:] {
		d, high := getHalf(row), binary.LittleEndian.Uint16(row[2:])
		for s := range 8 {
			codes := levels(row[8+16*s:])
			putCodes(panel, j, codes[:])
			scale := int(row[4+s/2]>>(s%2*4)&15) + int(high>>(2*s)&3<<4) - 32
			putHalf(panel[512+2*j:], d*float32(scale))
			panel = panel[q8Block:]
		}
	}
}

// half16 writes half a Q8x16 block: 16 codes with their scale and offset.
func half16(half []byte, j int, codes []byte, d, m float32) {
	putCodes(half, j, codes[:16])
	putHalf(half[256+2*j:], d)
	putHalf(half[288+2*j:], m)
}

func packQ5_1(panel []byte, j int, row []byte) {
	for ; len(row) > 0; panel, row = panel[q8x16Block:], row[24:] {
		codes := fiveBits(row[8:24], word(row[4:]))
		d, m := getHalf(row), getHalf(row[2:])
		half16(panel, j, codes[:16], d, m)
		half16(panel[q8x16Half:], j, codes[16:], d, m)
	}
}

func packQ2_K(panel []byte, j int, row []byte) {
	var codes [16]byte
	for ; len(row) > 0; row = row[84:] {
		d, m := getHalf(row[80:]), getHalf(row[82:])
		for s, scale := range row[:16] {
			low, shift := twoBits(row[16:80], s)
			for i, q := range low {
				codes[i] = q >> shift & 3
			}
			half16(panel, j, codes[:], d*float32(scale&15), -m*float32(scale>>4))
			panel = panel[q8x16Half:]
		}
	}
}

// twoBits locates the two-bit codes of sub-block s of 16 in 64 bytes.
func twoBits(b []byte, s int) (codes []byte, shift int) {
	return b[s/8*32+s%2*16:][:16], s / 2 % 4 * 2
}

func packQ3_K(panel []byte, j int, row []byte) {
	var codes [16]byte
	for ; len(row) > 0; row = row[110:] {
		d, scales := getHalf(row[108:]), row[96:108]
		for s := range 16 {
			low, shift := twoBits(row[32:96], s)
			high := row[s%2*16:]
			for i, q := range low {
				codes[i] = (q>>shift&3 | high[i]>>(s/2)&1<<2) - 4
			}
			scale := scales[s%8]>>(s/8*4)&15 | scales[8+s%4]>>(s/4*2)&3<<4
			half16(panel, j, codes[:], d*float32(int(scale)-32), 0)
			panel = panel[q8x16Half:]
		}
	}
}

func packQ5_K(panel []byte, j int, row []byte) {
	var codes [Block]byte
	for ; len(row) > 0; row = row[176:] {
		d, m, high := getHalf(row), getHalf(row[2:]), row[16:48]
		for s := range 8 {
			for i, q := range row[48+s/2*32:][:32] {
				codes[i] = q>>(s%2*4)&15 | high[i]>>s&1<<4
			}
			scale, minimum := scalesQ4(row[4:16], s)
			ds, ms := d*float32(scale), -m*float32(minimum)
			half16(panel, j, codes[:16], ds, ms)
			half16(panel[q8x16Half:], j, codes[16:], ds, ms)
			panel = panel[q8x16Block:]
		}
	}
}

func packQ6_K(panel []byte, j int, row []byte) {
	for ; len(row) > 0; row = row[210:] {
		d := getHalf(row[208:])
		for s, scale := range row[192:208] {
			low, lowShift := row[s/8*64+s%4*16:][:16], s/4%2*4
			high, highShift := twoBits(row[128:192], s)
			for g := range 4 {
				q := word(low[g*4:])>>lowShift&lowNibbles | word(high[g*4:])>>highShift&0x03030303<<4
				putWord(panel[g*64+j*4:], q+96*0x01010101) // q - 32 + 128
			}
			putHalf(panel[256+2*j:], d*float32(int8(scale)))
			panel = panel[q8x16Half:]
		}
	}
}
