// Package tensor is the vocabulary that the rest of triforce shares: element
// types, shapes and views of bytes that somebody else owns.
//
// Values are immutable after construction and safe for concurrent use. A
// Tensor does not own its Data: the Source that made it does (usually a memory
// map), and Data is valid until that Source is closed.
package tensor

import "fmt"

// DType names a stored element format. Quantized formats store blocks of
// BlockSize consecutive elements of a row in BlockBytes bytes.
type DType uint8

// The stored formats that triforce reads.
const (
	F32 DType = iota
	F16
	BF16
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q8_0
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K
	IQ4_NL
	IQ4_XS
	numDTypes
)

// formats is the one table of stored formats: a new format is one row here, one
// in dequantizers and one in quantizers.
var formats = [numDTypes]struct {
	name       string
	blockSize  int
	blockBytes int
}{
	F32:    {"F32", 1, 4},
	F16:    {"F16", 1, 2},
	BF16:   {"BF16", 1, 2},
	Q4_0:   {"Q4_0", 32, 18},
	Q4_1:   {"Q4_1", 32, 20},
	Q5_0:   {"Q5_0", 32, 22},
	Q5_1:   {"Q5_1", 32, 24},
	Q8_0:   {"Q8_0", 32, 34},
	Q2_K:   {"Q2_K", 256, 84},
	Q3_K:   {"Q3_K", 256, 110},
	Q4_K:   {"Q4_K", 256, 144},
	Q5_K:   {"Q5_K", 256, 176},
	Q6_K:   {"Q6_K", 256, 210},
	IQ4_NL: {"IQ4_NL", 32, 18},
	IQ4_XS: {"IQ4_XS", 256, 136},
}

// DTypes lists every stored format.
func DTypes() []DType {
	all := make([]DType, numDTypes)
	for i := range all {
		all[i] = DType(i)
	}
	return all
}

// String returns the format's customary name, such as "Q4_1".
func (d DType) String() string {
	if d < numDTypes {
		return formats[d].name
	}
	return fmt.Sprintf("dtype(%d)", uint8(d))
}

// BlockSize is the number of elements in a block.
func (d DType) BlockSize() int { return formats[d].blockSize }

// BlockBytes is the number of bytes in a block.
func (d DType) BlockBytes() int { return formats[d].blockBytes }

// RowBytes is the number of bytes that n elements of a row take; n must be a
// multiple of BlockSize.
func (d DType) RowBytes(n int) int { return n / d.BlockSize() * d.BlockBytes() }
