package gguf

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"triforce/internal/mmap"
	"triforce/tensor"
	"triforce/weights"
)

// Limits on what a header may ask for, far above what models have.
const (
	maxEntries   = 1 << 16 // metadata entries
	maxTensors   = 1 << 16
	maxElements  = 1 << 24 // array elements in all metadata: they are widened
	maxName      = 1<<16 - 1
	maxAlignment = 1 << 20
	maxDims      = 4
	maxListed    = 5       // tensors named in one error
	maxRead      = 1 << 12 // bytes of a list that is not left in the file
	maxData      = 1 << 50 // bytes that a header without data may speak of
)

// The least that an entry and a tensor take in the header.
const (
	minEntryBytes  = 8 + 1 + 4 + 1
	minTensorBytes = 8 + 1 + 4 + 8 + 4 + 8
)

// info describes one tensor as the header has it, checked.
type info struct {
	name       string
	dtype      tensor.DType
	rows, cols int
	offset     int // from the start of the file
	bytes      int
	header     int // where the header describes it
}

// parse reads a whole header.
func parse(path string, file *mmap.File, header bool) (weights.Meta, []info, error) {
	c := &cursor{path: path, file: file, data: file.Data, what: "header", header: header}
	entries, tensors := c.preamble()
	meta := c.metadata(entries)
	align, ok := alignment(meta)
	if !ok {
		c.what = `metadata entry "general.alignment"`
		c.fail(0, "expected a power of two from 8 to %d, found %.64v", maxAlignment, meta["general.alignment"])
		return nil, nil, c.err
	}
	infos := c.infos(tensors, align)
	if c.err != nil {
		return nil, nil, c.err
	}
	return meta, infos, nil
}

// cursor walks over a header. After the first error it stays in err, and every
// read returns zero.
type cursor struct {
	path     string
	file     *mmap.File
	data     []byte
	off      int
	what     string // what is being read, for messages
	elements uint64 // array elements so far
	header   bool   // the data of tensors may be missing
	err      error
}

// fail records the first error, about the item that starts at offset.
func (c *cursor) fail(offset int, format string, args ...any) {
	if c.err == nil {
		c.err = corrupt(c.path, offset, "%s: %s", c.what, fmt.Sprintf(format, args...))
	}
}

func (c *cursor) unsupported(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("gguf: %s: %s: %w", c.path, fmt.Sprintf(format, args...), weights.ErrUnsupported)
	}
}

func (c *cursor) left() uint64 { return uint64(len(c.data) - c.off) }

// take returns the next n bytes, or nil.
func (c *cursor) take(n uint64) []byte {
	if c.err == nil && n > c.left() {
		c.fail(c.off, "expected %d more bytes, found %d before the end of the file", n, c.left())
	}
	if c.err != nil {
		return nil
	}
	b := c.data[c.off : c.off+int(n)]
	c.off += int(n)
	return b
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) string() string { return string(c.take(c.uint64())) }

// name reads the name of an entry or a tensor.
func (c *cursor) name() string {
	start := c.off
	n := c.uint64()
	if c.err == nil && (n == 0 || n > maxName) {
		c.fail(start, "expected a name of 1 to %d bytes, found %d", maxName, n)
	}
	return string(c.take(n))
}

// count reads how many items of at least size bytes follow somewhere.
func (c *cursor) count(what string, limit, size uint64) int {
	start := c.off
	n := c.uint64()
	if c.err == nil && n > min(limit, c.left()/size) {
		c.fail(start, "expected at most %d %s in a file of %d bytes, found %d", min(limit, c.left()/size), what, len(c.data), n)
	}
	if c.err != nil {
		return 0
	}
	return int(n)
}

func (c *cursor) preamble() (entries, tensors int) {
	switch magic := c.data[:min(4, len(c.data))]; {
	case len(c.data) == 0:
		c.fail(0, "expected magic %q, found an empty file", "GGUF")
	case len(c.data) > 8 && c.data[8] == '{' && !bytes.Equal(magic, []byte("GGUF")):
		c.fail(0, "expected magic %q, found %q, which looks like a safetensors file", "GGUF", magic)
	case !bytes.Equal(magic, []byte("GGUF")):
		c.fail(0, "expected magic %q, found %q", "GGUF", magic)
	}
	c.take(4)
	switch version := c.uint32(); {
	case c.err != nil || version == 2 || version == 3:
	case version != 0 && version&0xffff == 0:
		c.unsupported("version %d in big-endian byte order (supported: little endian)", bits.ReverseBytes32(version))
	default:
		c.unsupported("version %d (supported: 2, 3)", version)
	}
	tensors = c.count("tensors", maxTensors, minTensorBytes)
	entries = c.count("metadata entries", maxEntries, minEntryBytes)
	return entries, tensors
}

func (c *cursor) metadata(entries int) weights.Meta {
	meta := weights.Meta{}
	for i := 0; i < entries && c.err == nil; i++ {
		start := c.off
		c.what = fmt.Sprintf("metadata entry %d", i)
		key := c.name()
		c.what = fmt.Sprintf("metadata entry %.64q", key)
		value := c.value()
		if _, taken := meta[key]; taken {
			c.fail(start, "expected a new key, found it again")
		}
		meta[key] = value
	}
	return meta
}

// value reads a type and a value of it, widened to the types of weights.Meta.
func (c *cursor) value() any {
	switch t := c.valueType(); t {
	case typeString:
		return c.string()
	case typeArray:
		return c.array()
	case typeBool:
		return c.bool()
	case typeFloat32, typeFloat64:
		return float(t, c.take(valueBytes[t]))
	case typeUint64:
		n := c.uint64()
		if n > math.MaxInt64 {
			return n
		}
		return int64(n)
	default:
		return integer(t, c.take(valueBytes[t]))
	}
}

func (c *cursor) valueType() uint32 {
	start := c.off
	t := c.uint32()
	if t >= numTypes {
		c.fail(start, "expected a value type below %d, found %d", numTypes, t)
		return 0
	}
	return t
}

// array checks a list and reads it, or leaves it in the file if it is long: a
// vocabulary has 100,000 texts of a few bytes.
func (c *cursor) array() any {
	t := c.valueType()
	if t == typeArray {
		c.unsupported("%s: an array of arrays", c.what)
		return nil
	}
	n := c.count("elements", maxElements-c.elements, valueBytes[t])
	c.elements += uint64(n)
	file, start := c.file, c.off
	c.skip(t, n)
	if c.err != nil {
		return nil
	}
	size := c.off - start
	read := func() any {
		again := &cursor{data: file.Data[start : start+size]}
		return again.elementsOf(t, n)
	}
	if size <= maxRead {
		return read()
	}
	return weights.List(func() any {
		defer file.Release(start, size)
		return read()
	})
}

// skip checks n elements.
func (c *cursor) skip(t uint32, n int) {
	switch t {
	case typeString:
		for range n {
			c.take(c.uint64())
		}
	case typeBool:
		for range n {
			c.bool()
		}
	default:
		c.take(uint64(n) * valueBytes[t])
	}
}

// elementsOf reads n elements that have been checked.
func (c *cursor) elementsOf(t uint32, n int) any {
	switch t {
	case typeString:
		return c.strings(n)
	case typeBool:
		return list(n, c.bool)
	case typeFloat32, typeFloat64:
		return list(n, func() float64 { return float(t, c.take(valueBytes[t])) })
	case typeUint64:
		values := list(n, c.uint64)
		if slices.ContainsFunc(values, func(v uint64) bool { return v > math.MaxInt64 }) {
			return values
		}
		next := 0
		return list(n, func() int64 { next++; return int64(values[next-1]) })
	default:
		return list(n, func() int64 { return integer(t, c.take(valueBytes[t])) })
	}
}

// list reads n elements.
func list[T any](n int, next func() T) []T {
	values := make([]T, n)
	for i := range values {
		values[i] = next()
	}
	return values
}

// strings reads n texts into one piece of memory.
func (c *cursor) strings(n int) []string {
	var text strings.Builder
	text.Grow(len(c.data) - 8*n)
	return list(n, func() string {
		at := text.Len()
		text.Write(c.take(c.uint64()))
		return text.String()[at:]
	})
}

func (c *cursor) bool() bool {
	start := c.off
	b := c.take(1)
	if b != nil && b[0] > 1 {
		c.fail(start, "expected a truth value 0 or 1, found %d", b[0])
	}
	return b != nil && b[0] == 1
}

// integer decodes a value of any integer type but typeUint64; nil gives 0.
func integer(t uint32, b []byte) int64 {
	switch {
	case b == nil:
		return 0
	case t == typeUint8:
		return int64(b[0])
	case t == typeInt8:
		return int64(int8(b[0]))
	case t == typeUint16:
		return int64(binary.LittleEndian.Uint16(b))
	case t == typeInt16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case t == typeUint32:
		return int64(binary.LittleEndian.Uint32(b))
	case t == typeInt32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	return int64(binary.LittleEndian.Uint64(b))
}

// float decodes a value of either float type; nil gives 0.
func float(t uint32, b []byte) float64 {
	switch {
	case b == nil:
		return 0
	case t == typeFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func alignment(meta weights.Meta) (n uint64, ok bool) {
	value, found := meta["general.alignment"]
	if !found {
		return 32, true
	}
	v, _ := value.(int64)
	return uint64(v), v >= 8 && v <= maxAlignment && v&(v-1) == 0
}

// infos reads the descriptions of n tensors, and then knows where the data
// starts.
func (c *cursor) infos(n int, align uint64) []info {
	var list []info
	var foreign []string
	for i := 0; i < n && c.err == nil; i++ {
		c.what = fmt.Sprintf("tensor %d", i)
		t := info{header: c.off, name: c.name()}
		c.what = fmt.Sprintf("tensor %.64q", t.name)
		dims := c.dims()
		id := c.uint32()
		offset := c.uint64()
		if c.err == nil && offset%align != 0 {
			c.fail(c.off-8, "expected a data offset that is a multiple of %d, found %d", align, offset)
		}
		dtype, ok := dtypeOf(id)
		if !ok {
			foreign = append(foreign, fmt.Sprintf("%.64q (%s)", t.name, foreignName(id)))
			continue
		}
		t.dtype = dtype
		c.place(&t, dims, offset)
		list = append(list, t)
	}
	if len(foreign) > 0 {
		more := ""
		if n := len(foreign) - maxListed; n > 0 {
			foreign, more = foreign[:maxListed], fmt.Sprintf(" and %d more", n)
		}
		c.unsupported("tensors of unknown format: %s%s (supported: %s)", strings.Join(foreign, ", "), more, supportedDTypes())
	}
	c.layout(list, align)
	return list
}

func (c *cursor) dims() []uint64 {
	start := c.off
	n := c.uint32()
	if c.err == nil && (n < 1 || n > maxDims) {
		c.fail(start, "expected 1 to %d dimensions, found %d", maxDims, n)
	}
	var dims []uint64
	for i := uint32(0); i < n && c.err == nil; i++ {
		d := c.uint64()
		if c.err == nil && (d < 1 || d > math.MaxInt32) {
			c.fail(c.off-8, "expected a dimension from 1 to %d, found %d", math.MaxInt32, d)
		}
		dims = append(dims, d)
	}
	return dims
}

// place computes the tensor's shape, size and offset from the start of the
// data, all of which fit the file, so that nothing overflows later.
func (c *cursor) place(t *info, dims []uint64, offset uint64) {
	if c.err != nil {
		return
	}
	block, size := uint64(t.dtype.BlockSize()), uint64(len(c.data))
	if c.header {
		size = maxData
	}
	if dims[0]%block != 0 {
		c.fail(t.header, "expected rows of a multiple of %d elements, as %v has it, found %d", block, t.dtype, dims[0])
		return
	}
	rows, total := uint64(1), dims[0]/block*uint64(t.dtype.BlockBytes())
	for _, d := range dims[1:] {
		high, low := bits.Mul64(total, d)
		if high != 0 || low > size {
			c.fail(t.header, "expected a shape that fits the file's %d bytes, found %v", size, dims)
			return
		}
		rows, total = rows*d, low // rows are fewer than bytes
	}
	if offset > size || total > size-offset {
		c.fail(t.header, "expected %d bytes at data offset %d, found a file of %d bytes", total, offset, size)
		return
	}
	t.cols, t.rows, t.offset, t.bytes = int(dims[0]), int(rows), int(offset), int(total)
}

// layout moves the offsets to the start of the file and checks that the tensors
// lie inside the file, apart from one another.
func (c *cursor) layout(list []info, align uint64) {
	if c.err != nil {
		return
	}
	start := c.off + int(-uint64(c.off)%align)
	for i := range list {
		t := &list[i]
		if end := int64(start) + int64(t.offset) + int64(t.bytes); end > int64(len(c.data)) && !c.header {
			c.what = fmt.Sprintf("tensor %.64q", t.name)
			c.fail(t.header, "expected data up to offset %d, found the end of the file at %d", end, len(c.data))
			return
		}
		t.offset += start
	}
	sorted := slices.SortedFunc(slices.Values(list), func(a, b info) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(sorted); i++ {
		if a, b := sorted[i-1], sorted[i]; a.offset+a.bytes > b.offset {
			c.what = fmt.Sprintf("tensor %.64q", b.name)
			c.fail(b.header, "its data at offset %d overlaps that of %.64q, up to %d", b.offset, a.name, a.offset+a.bytes)
			return
		}
	}
}
