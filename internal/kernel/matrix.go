package kernel

import (
	"encoding/binary"

	"triforce/tensor"
)

// Format is how a packed matrix stores its weights; package ref draws them.
type Format uint8

// The packed formats.
const (
	Q4    Format = iota // 4-bit codes, scale and offset by blocks of 32
	Q8                  // 8-bit codes, scale by blocks of 32
	Q8x16               // 8-bit codes, scale and offset by blocks of 16
	F32
	F16
	BF16
	numFormats
)

// Float reports whether products take float activations.
func (f Format) Float() bool { return f >= F32 }

// PanelBytes is the size of a panel of 16 rows of n inputs.
func (f Format) PanelBytes(n int) int {
	blocks := (n + Block - 1) / Block
	switch f {
	case Q4:
		return blocks * (256 + 64)
	case Q8:
		return blocks * (512 + 32)
	case Q8x16:
		return blocks * 2 * (256 + 64)
	case F32:
		return n * Panel * 4
	default:
		return n * Panel * 2
	}
}

// FormatOf is the packed format that keeps a stored one without loss beyond
// the rounding of scales to float16.
func FormatOf(t tensor.DType) Format {
	switch t {
	case tensor.F32:
		return F32
	case tensor.F16:
		return F16
	case tensor.BF16:
		return BF16
	case tensor.Q4_0, tensor.Q4_1, tensor.Q4_K:
		return Q4
	case tensor.Q8_0, tensor.Q5_0, tensor.IQ4_NL, tensor.IQ4_XS:
		return Q8
	default:
		return Q8x16
	}
}

// Matrix is a packed matrix: Rows outputs of Cols inputs, Rows rounded up to
// whole panels of zeros. It owns Data, which is not written after Pack.
type Matrix struct {
	Format     Format
	Rows, Cols int
	Data       []byte // (Panels, PanelBytes)
}

// NewMatrix makes a matrix of the given shape in memory that take returns, all
// zero bytes.
func NewMatrix(f Format, rows, cols int, take func(n int) []byte) *Matrix {
	m := &Matrix{Format: f, Rows: rows, Cols: cols}
	m.Data = take(m.Panels() * f.PanelBytes(cols))
	return m
}

// Panels is the number of panels.
func (m *Matrix) Panels() int { return (m.Rows + Panel - 1) / Panel }

// Pad is the number of outputs with those that fill the last panel.
func (m *Matrix) Pad() int { return m.Panels() * Panel }

// Panel returns the bytes of panels lo … hi-1.
func (m *Matrix) Panel(lo, hi int) []byte {
	n := m.Format.PanelBytes(m.Cols)
	return m.Data[lo*n : hi*n]
}

// Unpacks reports whether Row gives the stored weights back bit for bit.
func Unpacks(t tensor.DType) bool { return t == tensor.Q8_0 || FormatOf(t).Float() }

// Row writes the weights of row r, of a type that Unpacks.
func (m *Matrix) Row(dst []float32, r int) {
	panel, j := m.Panel(r/Panel, r/Panel+1), r%Panel
	if m.Format == Q8 {
		for b := range len(dst) / Block {
			block := panel[b*(512+32):]
			d := tensor.F16ToF32(binary.LittleEndian.Uint16(block[512+2*j:]))
			for k := range Block {
				dst[b*Block+k] = float32(int32(block[k/4*64+j*4+k%4])-128) * d
			}
		}
		return
	}
	size := m.Format.PanelBytes(1) / Panel
	stored := tensor.F32
	switch m.Format {
	case F16:
		stored = tensor.F16
	case BF16:
		stored = tensor.BF16
	}
	for k := range dst {
		tensor.Dequantize(dst[k:k+1], stored, panel[(k*Panel+j)*size:][:size])
	}
}
