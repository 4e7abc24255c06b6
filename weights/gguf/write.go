package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"triforce/tensor"
	"triforce/weights"
)

// KV is one metadata entry. Value is one of the types of weights.Meta, or int.
//
// Numbers are stored as readers of GGUF expect them, in 32 bits where they fit:
// integers as u32, negative ones and lists as i32, floats always as f32.
type KV struct {
	Key   string
	Value any
}

// WriteFile writes a model to a new file at path, see Write. If it fails, no
// file is left.
func WriteFile(path string, meta []KV, tensors []tensor.Tensor) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("gguf: %w", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	return Write(f, meta, tensors)
}

// Write writes a model as a GGUF file of version 3. Entries and tensors keep
// their order. It is the inverse of Open: tensors are given in a model's row
// order, and those that the architecture in meta stores otherwise are permuted.
// A matrix of one row becomes a vector.
func Write(w io.Writer, meta []KV, tensors []tensor.Tensor) error {
	known := weights.Meta{}
	e := encoder{}
	e.raw("GGUF")
	e.uint32(3)
	e.uint64(uint64(len(tensors)))
	e.uint64(uint64(len(meta)))
	for _, kv := range meta {
		if _, taken := known[kv.Key]; taken || kv.Key == "" || len(kv.Key) > maxName {
			return fmt.Errorf("gguf: write: key %.64q is in use, empty or too long", kv.Key)
		}
		value := kv.Value
		if n, ok := value.(int); ok {
			value = int64(n)
		}
		known[kv.Key] = value
		e.string(kv.Key)
		if !e.value(value) {
			return fmt.Errorf("gguf: write: key %.64q: no GGUF type for %T", kv.Key, value)
		}
	}
	align, ok := alignment(known)
	if !ok {
		return fmt.Errorf("gguf: write: expected a power of two from 8 to %d as general.alignment, found %v", maxAlignment, known["general.alignment"])
	}
	offset, names := uint64(0), map[string]bool{}
	for _, t := range tensors {
		if names[t.Name] || t.Name == "" || len(t.Name) > maxName {
			return fmt.Errorf("gguf: write: tensor name %.64q is in use, empty or too long", t.Name)
		}
		names[t.Name] = true
		if t.Rows < 1 || t.Cols < 1 || t.Cols%t.DType.BlockSize() != 0 || len(t.Data) != t.Rows*t.DType.RowBytes(t.Cols) {
			return fmt.Errorf("gguf: write: tensor %.64q: %d×%d %v in %d bytes", t.Name, t.Rows, t.Cols, t.DType, len(t.Data))
		}
		e.string(t.Name)
		if t.Rows == 1 {
			e.uint32(1)
			e.uint64(uint64(t.Cols))
		} else {
			e.uint32(2)
			e.uint64(uint64(t.Cols))
			e.uint64(uint64(t.Rows))
		}
		e.uint32(dtypeIDs[t.DType])
		e.uint64(offset)
		offset += uint64(len(t.Data))
		offset += -offset % align
	}
	out := bufio.NewWriterSize(w, 1<<20)
	written := uint64(0)
	put := func(b []byte) {
		out.Write(b) // a bufio.Writer keeps its first error until Flush
		written += uint64(len(b))
	}
	put(e.buf)
	orders := orders{meta: known}
	padding := make([]byte, align)
	for i := range tensors {
		put(padding[:-written%align])
		if err := putRows(put, &tensors[i], &orders); err != nil {
			return fmt.Errorf("gguf: write: tensor %.64q: %w", tensors[i].Name, err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("gguf: write: %w", err)
	}
	return nil
}

// putRows puts the rows of t, or a bias's elements, where orders wants them.
func putRows(put func([]byte), t *tensor.Tensor, orders *orders) error {
	order, err := orders.of(t)
	if err != nil {
		return err
	}
	if order == nil {
		for r := range t.Rows {
			put(t.Row(r))
		}
		return nil
	}
	row := t.Row
	if n := t.DType.BlockBytes(); len(order) != t.Rows {
		row = func(i int) []byte { return t.Data[i*n : (i+1)*n] }
	}
	source := make([]int32, len(order)) // of each stored row
	for r, at := range order {
		source[at] = int32(r)
	}
	for _, r := range source {
		put(row(int(r)))
	}
	return nil
}

// encoder appends to a header.
type encoder struct{ buf []byte }

func (e *encoder) raw(s string)    { e.buf = append(e.buf, s...) }
func (e *encoder) uint32(v uint32) { e.buf = binary.LittleEndian.AppendUint32(e.buf, v) }
func (e *encoder) uint64(v uint64) { e.buf = binary.LittleEndian.AppendUint64(e.buf, v) }
func (e *encoder) float(v float64) { e.uint32(math.Float32bits(float32(v))) }

func (e *encoder) string(s string) {
	e.uint64(uint64(len(s)))
	e.raw(s)
}

func (e *encoder) bool(b bool) {
	if b {
		e.buf = append(e.buf, 1)
	} else {
		e.buf = append(e.buf, 0)
	}
}

// value appends the type and the value, and reports false for other Go types.
func (e *encoder) value(value any) bool {
	switch v := value.(type) {
	case bool:
		e.uint32(typeBool)
		e.bool(v)
	case string:
		e.uint32(typeString)
		e.string(v)
	case float64:
		e.uint32(typeFloat32)
		e.float(v)
	case int64:
		switch {
		case v >= 0 && v <= math.MaxUint32:
			e.uint32(typeUint32)
			e.uint32(uint32(v))
		case v < 0 && v >= math.MinInt32:
			e.uint32(typeInt32)
			e.uint32(uint32(v))
		default:
			e.uint32(typeInt64)
			e.uint64(uint64(v))
		}
	case uint64:
		e.uint32(typeUint64)
		e.uint64(v)
	case weights.List:
		return e.value(v())
	case []bool:
		array(e, typeBool, v, e.bool)
	case []string:
		array(e, typeString, v, e.string)
	case []float64:
		array(e, typeFloat32, v, e.float)
	case []int64:
		for _, n := range v {
			if n != int64(int32(n)) {
				array(e, typeInt64, v, func(n int64) { e.uint64(uint64(n)) })
				return true
			}
		}
		array(e, typeInt32, v, func(n int64) { e.uint32(uint32(n)) })
	case []uint64:
		array(e, typeUint64, v, e.uint64)
	default:
		return false
	}
	return true
}

func array[T any](e *encoder, t uint32, values []T, put func(T)) {
	e.uint32(typeArray)
	e.uint32(t)
	e.uint64(uint64(len(values)))
	for _, v := range values {
		put(v)
	}
}
