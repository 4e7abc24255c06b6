package gguf

import (
	"fmt"
	"strings"

	"triforce/tensor"
)

// Types of metadata values, as stored.
const (
	typeUint8 uint32 = iota
	typeInt8
	typeUint16
	typeInt16
	typeUint32
	typeInt32
	typeFloat32
	typeBool
	typeString
	typeArray
	typeUint64
	typeInt64
	typeFloat64
	numTypes
)

// valueBytes is the size of a value of each type, the least for strings.
var valueBytes = [numTypes]uint64{1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8}

// dtypeIDs gives the stored number of every tensor format.
var dtypeIDs = map[tensor.DType]uint32{
	tensor.F32: 0, tensor.F16: 1, tensor.Q4_0: 2, tensor.Q4_1: 3, tensor.Q5_0: 6, tensor.Q5_1: 7,
	tensor.Q8_0: 8, tensor.Q2_K: 10, tensor.Q3_K: 11, tensor.Q4_K: 12, tensor.Q5_K: 13,
	tensor.Q6_K: 14, tensor.IQ4_NL: 20, tensor.IQ4_XS: 23, tensor.BF16: 30,
}

func dtypeOf(id uint32) (tensor.DType, bool) {
	for d, n := range dtypeIDs {
		if n == id {
			return d, true
		}
	}
	return 0, false
}

// foreignNames names the formats that only others read, for messages.
var foreignNames = map[uint32]string{
	4: "Q4_2", 5: "Q4_3", 9: "Q8_1", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS",
	19: "IQ1_S", 21: "IQ3_S", 22: "IQ2_S", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
	29: "IQ1_M", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}

func foreignName(id uint32) string {
	if name, ok := foreignNames[id]; ok {
		return name
	}
	return fmt.Sprintf("type %d", id)
}

func supportedDTypes() string {
	var names []string
	for _, d := range tensor.DTypes() {
		names = append(names, d.String())
	}
	return strings.Join(names, ", ")
}
