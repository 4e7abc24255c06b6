package gguf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"triforce/internal/testutil/shared"
	"triforce/tensor"
	"triforce/weights"
)

// write puts data in a file of that name.
func write(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// encode is Write into memory.
func encode(t testing.TB, meta []KV, tensors ...tensor.Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, meta, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// matrix returns a tensor whose bytes count up.
func matrix(name string, d tensor.DType, rows, cols int) tensor.Tensor {
	data := make([]byte, rows*d.RowBytes(cols))
	for i := range data {
		data[i] = byte(i + i/251)
	}
	return tensor.Tensor{Name: name, DType: d, Rows: rows, Cols: cols, Data: data}
}

// canonical returns the bytes of t in a model's row order.
func canonical(t tensor.Tensor) []byte {
	var b []byte
	for r := range t.Rows {
		b = append(b, t.Row(r)...)
	}
	return b
}

func TestMetadataTypes(t *testing.T) {
	e := encoder{}
	n := 0
	entry := func(key string, types []uint32, raw string) {
		n++
		e.string(key)
		for _, typ := range types {
			e.uint32(typ)
		}
		e.raw(raw)
	}
	entry("u8", []uint32{0}, "\xff")
	entry("i8", []uint32{1}, "\xff")
	entry("u16", []uint32{2}, "\xfe\xff")
	entry("i16", []uint32{3}, "\xfe\xff")
	entry("u32", []uint32{4}, "\xfd\xff\xff\xff")
	entry("i32", []uint32{5}, "\xfd\xff\xff\xff")
	entry("f32", []uint32{6}, "\x00\x00\xc0\x3f")
	entry("bool", []uint32{7}, "\x01")
	entry("string", []uint32{8}, "\x03\x00\x00\x00\x00\x00\x00\x00a\xffb")
	entry("u64", []uint32{10}, "\x01\x00\x00\x00\x00\x00\x00\x80")
	entry("small u64", []uint32{10}, "\x01\x00\x00\x00\x00\x00\x00\x00")
	entry("i64", []uint32{11}, "\x01\x00\x00\x00\x00\x00\x00\x80")
	entry("f64", []uint32{12}, "\x00\x00\x00\x00\x00\x00\xf8\x3f")
	two := "\x02\x00\x00\x00\x00\x00\x00\x00"
	entry("[]u8", []uint32{9, 0}, two+"\x01\xff")
	entry("[]i16", []uint32{9, 3}, two+"\x01\x00\xff\xff")
	entry("[]bool", []uint32{9, 7}, two+"\x01\x00")
	entry("[]string", []uint32{9, 8}, two+"\x01\x00\x00\x00\x00\x00\x00\x00x\x00\x00\x00\x00\x00\x00\x00\x00")
	entry("[]u64", []uint32{9, 10}, two+"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80")
	entry("[]small u64", []uint32{9, 10}, two+"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00")
	entry("[]i64", []uint32{9, 11}, two+"\x01\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")
	entry("[]f32", []uint32{9, 6}, two+"\x00\x00\xc0\x3f\x00\x00\x00\x00")
	entry("[]f64", []uint32{9, 12}, two+"\x00\x00\x00\x00\x00\x00\xf8\x3f\x00\x00\x00\x00\x00\x00\x00\x00")
	entry("[]empty", []uint32{9, 5}, "\x00\x00\x00\x00\x00\x00\x00\x00")
	head := encoder{}
	head.raw("GGUF")
	head.uint32(2)
	head.uint64(0)
	head.uint64(uint64(n))
	f := open(t, write(t, "m.gguf", append(head.buf, e.buf...)))
	want := weights.Meta{
		"u8": int64(255), "i8": int64(-1), "u16": int64(65534), "i16": int64(-2), "u32": int64(1<<32 - 3), "i32": int64(-3),
		"f32": 1.5, "bool": true, "string": "a\xffb", "u64": uint64(1<<63 + 1), "small u64": int64(1), "i64": int64(math.MinInt64 + 1), "f64": 1.5,
		"[]u8": []int64{1, 255}, "[]i16": []int64{1, -1}, "[]bool": []bool{true, false}, "[]string": []string{"x", ""},
		"[]u64": []uint64{1, 1 << 63}, "[]small u64": []int64{1, 2}, "[]i64": []int64{1, -1},
		"[]f32": []float64{1.5, 0}, "[]f64": []float64{1.5, 0}, "[]empty": []int64{},
	}
	if !reflect.DeepEqual(f.Meta(), want) {
		t.Errorf("metadata\n got %v\nwant %v", f.Meta(), want)
	}
	if len(f.Names()) != 0 {
		t.Errorf("tensors %v", f.Names())
	}
}

func TestRoundTrip(t *testing.T) {
	for _, align := range []int{8, 32, 4096} {
		meta := []KV{
			{"general.alignment", align}, {"b", true}, {"s", "x\ny"}, {"f", 0.25}, {"i", -5}, {"l", int64(1 << 40)}, {"u", uint64(1 << 63)},
			{"bs", []bool{true, false}}, {"ss", []string{"", "a"}}, {"fs", []float64{1, -2}}, {"is", []int64{-1, 3}},
			{"ls", []int64{1 << 40}}, {"us", []uint64{1 << 63}},
		}
		var tensors []tensor.Tensor
		for _, d := range tensor.DTypes() {
			tensors = append(tensors, matrix("v."+d.String(), d, 1, 256), matrix("m."+d.String(), d, 3, 512))
		}
		path := write(t, "m.gguf", encode(t, meta, tensors...))
		f := open(t, path)
		want := weights.Meta{}
		for _, kv := range meta {
			want[kv.Key] = kv.Value
			if n, ok := kv.Value.(int); ok {
				want[kv.Key] = int64(n)
			}
		}
		if !reflect.DeepEqual(f.Meta(), want) {
			t.Errorf("metadata\n got %v\nwant %v", f.Meta(), want)
		}
		if f.Path() != path {
			t.Errorf("path %q", f.Path())
		}
		names := f.Names()
		for i, want := range tensors {
			if names[i] != want.Name {
				t.Fatalf("tensor %d is %q, want %q", i, names[i], want.Name)
			}
			f.Release(want.Name) // before the read: bytes stay readable
			if got, ok := f.Tensor(want.Name); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("tensor %q differs", want.Name)
			}
		}
		if _, ok := f.Tensor("none"); ok {
			t.Error("a tensor that is not there was found")
		}
		f.Release("none")
	}
}

// label returns an F32 tensor whose rows (or elements) hold 0, 1, 2, ….
func label(name string, rows, cols int) tensor.Tensor {
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(i / cols)
		if rows == 1 {
			x[i] = float32(i)
		}
	}
	data := make([]byte, 4*len(x))
	tensor.Quantize(data, tensor.F32, x)
	return tensor.Tensor{Name: name, DType: tensor.F32, Rows: rows, Cols: cols, Data: data}
}

func values(b []byte) []float32 {
	x := make([]float32, len(b)/4)
	tensor.Dequantize(x, tensor.F32, b)
	return x
}

func TestOrder(t *testing.T) {
	const heads, kvHeads, dim = 4, 2, 6
	for _, rotary := range []int{-1, 0, 4, 6} { // -1: not in the metadata
		meta := []KV{{"general.architecture", "other"}, {"llama.attention.head_count", heads}, {"llama.attention.head_count_kv", kvHeads}}
		if rotary >= 0 {
			meta = append(meta, KV{"llama.rope.dimension_count", rotary})
		}
		stored := []tensor.Tensor{
			label("blk.0.attn_q.weight", heads*dim, 2), label("blk.0.attn_k.weight", kvHeads*dim, 2), label("blk.0.attn_v.weight", kvHeads*dim, 2),
			label("blk.0.attn_q.bias", 1, heads*dim), label("blk.0.attn_k.bias", 1, kvHeads*dim), label("blk.0.attn_q_norm.weight", 1, dim),
		}
		data := encode(t, meta, stored...)
		unordered := open(t, write(t, "other.gguf", data))
		llama := open(t, write(t, "llama.gguf", bytes.Replace(data, []byte("other"), []byte("llama"), 1)))
		for _, want := range stored {
			if got, _ := unordered.Tensor(want.Name); got.Order != nil || !bytes.Equal(got.Data, want.Data) {
				t.Errorf("another architecture's %s is in another order", want.Name)
			}
			got, _ := llama.Tensor(want.Name)
			order := values(canonical(got)) // where each row, or element of a bias, was stored
			if want.Rows > 1 {
				for r := range want.Rows {
					order[r] = order[r*want.Cols]
				}
				order = order[:want.Rows]
			}
			inHead := []int{0, 1, 2, 3, 4, 5}
			if strings.Contains(want.Name, "attn_q.") || strings.Contains(want.Name, "attn_k.") {
				switch rotary {
				case -1, 6:
					inHead = []int{0, 2, 4, 1, 3, 5}
				case 4:
					inHead = []int{0, 2, 1, 3, 4, 5}
				}
			}
			for r, at := range order {
				if place := r/dim*dim + inHead[r%dim]; at != float32(place) {
					t.Fatalf("rotary %d: row %d of %s is stored row %g, want %d", rotary, r, want.Name, at, place)
				}
			}
		}
		// Writing what was read gives the same file, in the same stored order.
		meta[0].Value = "llama"
		var again []tensor.Tensor
		for _, name := range llama.Names() {
			x, _ := llama.Tensor(name)
			again = append(again, x)
		}
		if !bytes.Equal(encode(t, meta, again...), bytes.Replace(data, []byte("other"), []byte("llama"), 1)) {
			t.Errorf("rotary %d: a file read and written differs", rotary)
		}
	}
}

func TestOrderErrors(t *testing.T) {
	q := label("blk.0.attn_q.weight", 12, 2)
	for name, c := range map[string]struct {
		meta []KV
		t    tensor.Tensor
		want string
		is   error
	}{
		"no heads":         {nil, q, "head_count", weights.ErrCorrupt},
		"negative heads":   {[]KV{{"llama.attention.head_count", -1}}, q, "head_count", weights.ErrCorrupt},
		"list of heads":    {[]KV{{"llama.attention.head_count", []int64{2, 3}}}, q, "differs by layer", weights.ErrUnsupported},
		"uneven heads":     {[]KV{{"llama.attention.head_count", 5}}, q, "5 heads, found 12 rows", weights.ErrCorrupt},
		"odd heads":        {[]KV{{"llama.attention.head_count", 4}}, q, "even llama.rope.dimension_count of at most 3 rows a head, found 3", weights.ErrCorrupt},
		"rotary too large": {[]KV{{"llama.attention.head_count", 2}, {"llama.rope.dimension_count", 8}}, q, "at most 6 rows a head, found 8", weights.ErrCorrupt},
		"bias matrix":      {[]KV{{"llama.attention.head_count", 2}}, label("blk.0.attn_k.bias", 12, 2), "expected a vector", weights.ErrCorrupt},
	} {
		data := encode(t, append([]KV{{"general.architecture", "other"}}, c.meta...), c.t)
		path := write(t, "m.gguf", bytes.Replace(data, []byte("other"), []byte("llama"), 1))
		_, err := Open(path)
		check(t, name, path, err, c.want, c.is)
	}
}

// check wants an error of one line that names the file, says want and wraps is.
func check(t *testing.T, name, path string, err error, want string, is error) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", name)
	case !errors.Is(err, is):
		t.Errorf("%s: %q does not wrap %q", name, err, is)
	case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.HasPrefix(err.Error(), "gguf: "):
		t.Errorf("%s: %q, want %q and the path", name, err, want)
	case strings.Contains(err.Error(), "\n") || len(err.Error()) > 600+len(path):
		t.Errorf("%s: %q is not one short line", name, err)
	}
}

func TestSplit(t *testing.T) {
	dir := t.TempDir()
	part := func(dir string, no, of, total int, tensors ...tensor.Tensor) {
		meta := []KV{{"split.no", no}, {"split.count", of}, {"split.tensors.count", total}}
		if no == 0 {
			meta = append(meta, KV{"general.name", "whole"})
		}
		path := filepath.Join(dir, fmt.Sprintf("m-%05d-of-%05d.gguf", no+1, 3))
		if err := WriteFile(path, meta, tensors); err != nil {
			t.Fatal(err)
		}
	}
	a, b, c := matrix("a", tensor.F32, 2, 2), matrix("b", tensor.Q4_0, 1, 32), matrix("c", tensor.F16, 2, 8)
	part(dir, 0, 3, 3)
	part(dir, 1, 3, 3, a, b)
	part(dir, 2, 3, 3, c)
	name := func(n int) string { return filepath.Join(dir, fmt.Sprintf("m-%05d-of-00003.gguf", n)) }
	for n := 1; n <= 3; n++ {
		f := open(t, name(n))
		if got := strings.Join(f.Names(), " "); got != "a b c" || f.Meta().String("general.name", "") != "whole" {
			t.Errorf("opened by part %d: tensors %s of %v", n, got, f.Meta())
		}
		for _, want := range []tensor.Tensor{a, b, c} {
			if got, _ := f.Tensor(want.Name); !reflect.DeepEqual(got, want) {
				t.Errorf("opened by part %d: tensor %s differs", n, want.Name)
			}
		}
	}

	renamed := filepath.Join(dir, "renamed.gguf")
	if err := os.Link(name(2), renamed); err != nil {
		t.Fatal(err)
	}
	_, err := Open(renamed)
	check(t, "renamed", renamed, err, `ends in "-00002-of-00003.gguf"`, weights.ErrCorrupt)

	part(dir, 2, 3, 3, b)
	_, err = Open(name(1))
	check(t, "duplicate across parts", name(3), err, `tensor "b": its name is in use`, weights.ErrCorrupt)

	part(dir, 2, 3, 3)
	_, err = Open(name(1))
	check(t, "lost tensor", name(1), err, "expected 3 tensors in 3 parts, found 2", weights.ErrCorrupt)

	part(dir, 2, 4, 3, c)
	_, err = Open(name(1))
	check(t, "part of another", name(3), err, "expected split.no 2 of 3, found 2 of 4", weights.ErrCorrupt)

	if err := os.Remove(name(3)); err != nil {
		t.Fatal(err)
	}
	_, err = Open(name(2))
	check(t, "missing", name(3), err, "part 3 of 3 is missing", weights.ErrCorrupt)

	part(dir, 0, 0, 3)
	_, err = Open(name(1))
	check(t, "no parts", name(1), err, "split.no is 0 of split.count 0", weights.ErrCorrupt)
}

// valid is a small file with one of everything that the parser looks at.
func valid(t testing.TB) []byte {
	return encode(t, []KV{{"general.architecture", "llama"}, {"llama.attention.head_count", 2}, {"words", []string{"a", "bc"}}, {"general.alignment", 32}},
		matrix("blk.0.attn_q.weight", tensor.F16, 8, 2), matrix("t", tensor.Q4_1, 2, 64), matrix("v", tensor.F32, 1, 3))
}

func TestEveryTruncation(t *testing.T) {
	data := valid(t)
	path := write(t, "whole.gguf", data)
	open(t, path)
	for n := range data {
		if err := os.WriteFile(path, data[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		check(t, fmt.Sprintf("%d of %d bytes", n, len(data)), path, err, "expected", weights.ErrCorrupt)
	}
}

// A header is enough for OpenHeader, wherever the file ends after it.
func TestOpenHeader(t *testing.T) {
	data := valid(t)
	whole := open(t, write(t, "whole.gguf", data))
	opened := 0
	for n := len(data); n > 0; n-- {
		f, err := OpenHeader(write(t, "head.gguf", data[:n]))
		if err != nil {
			if !errors.Is(err, weights.ErrCorrupt) {
				t.Fatal(err)
			}
			continue
		}
		opened++
		for _, name := range whole.Names() {
			a, _ := f.Tensor(name)
			b, _ := whole.Tensor(name)
			if a.Rows != b.Rows || a.Cols != b.Cols || a.DType != b.DType || a.Data != nil {
				t.Errorf("%s: %d×%d", name, a.Rows, a.Cols)
			}
		}
		f.Close()
	}
	if opened < 2 || opened == len(data) {
		t.Errorf("opened %d of %d truncations", opened, len(data))
	}
}

func TestHostile(t *testing.T) {
	u32, u64 := binary.LittleEndian.AppendUint32, binary.LittleEndian.AppendUint64
	header := func(version uint32, tensors, entries uint64) []byte {
		return u64(u64(u32([]byte("GGUF"), version), tensors), entries)
	}
	str := func(s string) []byte { return append(u64(nil, uint64(len(s))), s...) }
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	// info describes a tensor; its file has 64 bytes of data.
	info := func(name string, typ uint32, offset uint64, dims ...uint64) []byte {
		b := u32(str(name), uint32(len(dims)))
		for _, d := range dims {
			b = u64(b, d)
		}
		return u64(u32(b, typ), offset)
	}
	tensors := func(infos ...[]byte) []byte {
		b := join(header(3, uint64(len(infos)), 0), join(infos...))
		return append(b, make([]byte, 64+(32-len(b)%32)%32)...)
	}
	entry := func(key string, typ uint32, raw []byte) []byte {
		return join(header(3, 0, 1), str(key), u32(nil, typ), raw, make([]byte, 64))
	}
	array := func(typ uint32, n uint64) []byte { return u64(u32(nil, typ), n) }
	const max = math.MaxUint64
	var foreign [][]byte
	for i := range 9 {
		foreign = append(foreign, info(fmt.Sprintf("t%d", i), 16+uint32(i)*24, 0, 32))
	}
	for name, c := range map[string]struct {
		data []byte
		want string
		is   error
	}{
		"empty":              {nil, "empty file", weights.ErrCorrupt},
		"wrong magic":        {[]byte("GGML\x03\x00\x00\x00"), `expected magic "GGUF", found "GGML"`, weights.ErrCorrupt},
		"safetensors":        {[]byte("\x02\x00\x00\x00\x00\x00\x00\x00{}"), "looks like a safetensors file", weights.ErrCorrupt},
		"version 1":          {header(1, 0, 0), "version 1 (supported: 2, 3)", weights.ErrUnsupported},
		"version 4":          {header(4, 0, 0), "version 4 (supported: 2, 3)", weights.ErrUnsupported},
		"big endian":         {header(3<<24, 0, 0), "version 3 in big-endian", weights.ErrUnsupported},
		"tensor count":       {header(3, max, 0), "offset 8: header: expected at most 0 tensors in a file of 24 bytes, found 18446744073709551615", weights.ErrCorrupt},
		"entry count":        {append(header(3, 0, max), make([]byte, 100)...), "expected at most 7 metadata entries", weights.ErrCorrupt},
		"limit on tensors":   {append(header(3, maxTensors+1, 0), make([]byte, (maxTensors+1)*minTensorBytes)...), "expected at most 65536 tensors", weights.ErrCorrupt},
		"limit on entries":   {append(header(3, 0, maxEntries+1), make([]byte, (maxEntries+1)*minEntryBytes)...), "expected at most 65536 metadata entries", weights.ErrCorrupt},
		"key length":         {join(header(3, 0, 1), u64(nil, max), make([]byte, 9)), "expected a name of 1 to 65535 bytes", weights.ErrCorrupt},
		"empty key":          {entry("", 0, nil), "expected a name of 1 to 65535 bytes, found 0", weights.ErrCorrupt},
		"duplicate key":      {join(header(3, 0, 2), str("k"), u32(nil, 7), []byte{1}, str("k"), u32(nil, 7), []byte{1}), `metadata entry "k": expected a new key`, weights.ErrCorrupt},
		"value type":         {entry("k\nl", 13, nil), `metadata entry "k\nl": expected a value type below 13, found 13`, weights.ErrCorrupt},
		"truth value":        {entry("k", 7, []byte{2}), "expected a truth value 0 or 1, found 2", weights.ErrCorrupt},
		"string length":      {entry("k", 8, u64(nil, max)), "expected 18446744073709551615 more bytes, found 64", weights.ErrCorrupt},
		"array length":       {entry("k", 9, array(0, max)), "expected at most 64 elements", weights.ErrCorrupt},
		"array of strings":   {entry("k", 9, array(8, 9)), "expected at most 8 elements", weights.ErrCorrupt},
		"array type":         {entry("k", 9, array(77, 1)), "expected a value type below 13, found 77", weights.ErrCorrupt},
		"nested array":       {entry("k", 9, join(array(9, 1), array(0, 1))), `metadata entry "k": an array of arrays`, weights.ErrUnsupported},
		"alignment 0":        {entry("general.alignment", 4, u32(nil, 0)), "expected a power of two from 8 to 1048576, found 0", weights.ErrCorrupt},
		"alignment 48":       {entry("general.alignment", 4, u32(nil, 48)), "expected a power of two", weights.ErrCorrupt},
		"alignment large":    {entry("general.alignment", 10, u64(nil, max)), "expected a power of two", weights.ErrCorrupt},
		"alignment type":     {entry("general.alignment", 8, str("32")), "expected a power of two", weights.ErrCorrupt},
		"empty name":         {tensors(info("", 0, 0, 1)), "tensor 0: expected a name", weights.ErrCorrupt},
		"no dimension":       {tensors(info("t", 0, 0)), "expected 1 to 4 dimensions, found 0", weights.ErrCorrupt},
		"five dimensions":    {tensors(info("t", 0, 0, 1, 1, 1, 1, 1)), "expected 1 to 4 dimensions, found 5", weights.ErrCorrupt},
		"zero dimension":     {tensors(info("t", 0, 0, 4, 0)), "expected a dimension from 1 to 2147483647, found 0", weights.ErrCorrupt},
		"negative dimension": {tensors(info("t", 0, 0, 4, max)), "expected a dimension from 1", weights.ErrCorrupt},
		"product overflows":  {tensors(info("t", 0, 0, 1<<30, 1<<30, 1<<30, 4)), "expected a shape that fits the file", weights.ErrCorrupt},
		"product wraps to 0": {tensors(info("t", 0, 0, 1<<30, 1<<16, 1<<16)), "expected a shape that fits the file", weights.ErrCorrupt},
		"partial block":      {tensors(info("t", 2, 0, 33)), "expected rows of a multiple of 32 elements, as Q4_0 has it, found 33", weights.ErrCorrupt},
		"offset alignment":   {tensors(info("t", 0, 4, 1)), "expected a data offset that is a multiple of 32, found 4", weights.ErrCorrupt},
		"offset far out":     {tensors(info("t", 0, max-31, 1)), "expected 4 bytes at data offset 18446744073709551584", weights.ErrCorrupt},
		"offset at the end":  {tensors(info("t", 0, 64, 1)), "expected data up to offset", weights.ErrCorrupt},
		"data cut":           {tensors(info("t", 0, 32, 9)), "expected data up to offset", weights.ErrCorrupt},
		"overlap":            {tensors(info("t", 0, 32, 8), info("u", 0, 0, 9)), `tensor "t": its data at offset 128 overlaps that of "u", up to 132`, weights.ErrCorrupt},
		"same place":         {tensors(info("t", 0, 0, 8), info("u", 0, 0, 8)), "overlaps", weights.ErrCorrupt},
		"duplicate tensor":   {tensors(info("t", 0, 0, 8), info("t", 0, 32, 8)), `tensor "t": its name is in use`, weights.ErrCorrupt},
		"unknown formats":    {tensors(foreign...), `"t0" (IQ2_XXS), "t1" (type 40), "t2" (type 64), "t3" (type 88), "t4" (type 112) and 4 more (supported: F32, F16, BF16, Q4_0,`, weights.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "m.gguf", c.data)
			_, err := Open(path)
			check(t, name, path, err, c.want, c.is)
		})
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	if err == nil || !strings.HasPrefix(err.Error(), "gguf: ") || !strings.Contains(err.Error(), "is a folder") {
		t.Errorf("folder: %v", err)
	}
	if _, err = Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// TestMemory checks that a header that promises much gets nothing.
func TestMemory(t *testing.T) {
	e := encoder{}
	e.raw("GGUF")
	e.uint32(3)
	e.uint64(0)
	e.uint64(1)
	e.string("k")
	e.uint32(typeArray)
	e.uint32(typeUint8)
	e.uint64(maxElements)
	path := write(t, "m.gguf", e.buf)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := Open(path); !errors.Is(err, weights.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / 100; got > 16<<10 {
		t.Errorf("opening a file of %d bytes took %d bytes of memory", len(e.buf), got)
	}
}

func TestParse(t *testing.T) {
	data := valid(t)
	opened := open(t, write(t, "m.gguf", data))
	parsed, err := Parse("memory", data)
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Path() != "memory" || !reflect.DeepEqual(parsed.Meta(), opened.Meta()) || !slices.Equal(parsed.Names(), opened.Names()) {
		t.Errorf("%s has metadata %v and tensors %v", parsed.Path(), parsed.Meta(), parsed.Names())
	}
	for _, name := range opened.Names() {
		parsed.Release(name)
		got, _ := parsed.Tensor(name)
		if want, _ := opened.Tensor(name); !reflect.DeepEqual(got, want) {
			t.Errorf("tensor %q differs", name)
		}
	}
	if err := parsed.Close(); err != nil {
		t.Error(err)
	}
	_, err = Parse("memory", data[:99])
	check(t, "cut", "memory", err, "expected", weights.ErrCorrupt)
}

func TestWriteErrors(t *testing.T) {
	good := matrix("t", tensor.F32, 1, 8)
	short, partial, unnamed := good, good, good
	short.Data = short.Data[:31]
	partial.DType = tensor.Q8_0
	unnamed.Name = ""
	for name, c := range map[string]struct {
		meta    []KV
		tensors []tensor.Tensor
		want    string
	}{
		"type":       {[]KV{{"k", struct{}{}}}, nil, "no GGUF type for struct {}"},
		"key twice":  {[]KV{{"k", 1}, {"k", 2}}, nil, `key "k" is in use`},
		"no key":     {[]KV{{"", 1}}, nil, "empty"},
		"name twice": {nil, []tensor.Tensor{good, good}, `name "t" is in use`},
		"no name":    {nil, []tensor.Tensor{unnamed}, "empty"},
		"short":      {nil, []tensor.Tensor{short}, "1×8 F32 in 31 bytes"},
		"partial":    {nil, []tensor.Tensor{partial}, "1×8 Q8_0 in 32 bytes"},
		"alignment":  {[]KV{{"general.alignment", 0}}, nil, "expected a power of two"},
		"order":      {[]KV{{"general.architecture", "llama"}}, []tensor.Tensor{matrix("blk.0.attn_k.weight", tensor.F32, 4, 4)}, "head_count"},
	} {
		path := filepath.Join(t.TempDir(), "m.gguf")
		err := WriteFile(path, c.meta, c.tensors)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "gguf: write: ") {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a file is left: %v", name, err)
		}
	}
}

// Long lists stay in the file: they can be read again and again, and written.
func TestLongLists(t *testing.T) {
	meta := []KV{
		{"bs", slices.Repeat([]bool{true, false}, 3000)}, {"ss", slices.Repeat([]string{"", "a", "ab"}, 300)}, {"fs", slices.Repeat([]float64{1, -2}, 600)},
		{"is", slices.Repeat([]int64{-1, 3}, 600)}, {"ls", slices.Repeat([]int64{1 << 40, 1}, 300)}, {"us", slices.Repeat([]uint64{1 << 63, 1}, 300)},
	}
	data := encode(t, meta)
	f := open(t, write(t, "m.gguf", data))
	for range 2 {
		var again []KV
		for _, kv := range meta {
			list, ok := f.Meta()[kv.Key].(weights.List)
			if !ok || !reflect.DeepEqual(list(), kv.Value) || !reflect.DeepEqual(f.Meta().Value(kv.Key), kv.Value) || !reflect.DeepEqual(f.Meta().Read()[kv.Key], kv.Value) {
				t.Errorf("%s: %T, or another list", kv.Key, f.Meta()[kv.Key])
			}
			again = append(again, KV{kv.Key, list})
		}
		if !bytes.Equal(encode(t, again), data) {
			t.Error("written again they differ")
		}
	}
}

// The checksums are of the rows in the order that the model was trained with, from
// an independent reader whose values were compared with the checkpoint.
func TestFable(t *testing.T) {
	f := open(t, shared.Path(t, "models/fable-target.gguf"))
	if n := len(f.Names()); n != 56 {
		t.Errorf("%d tensors, want 56", n)
	}
	for name, want := range map[string]uint32{"attn_q": 0xf2e4b6b7, "attn_k": 0x26a1153b, "attn_v": 0xcf39f100} {
		x, ok := f.Tensor("blk.0." + name + ".weight")
		if !ok || x.Rows != 256 || x.Cols != 256 || x.DType != tensor.Q8_0 {
			t.Fatalf("%s: %d×%d %v", name, x.Rows, x.Cols, x.DType)
		}
		if got := crc32.ChecksumIEEE(canonical(x)); got != want {
			t.Errorf("%s: checksum %#x, want %#x", name, got, want)
		}
	}
	meta := f.Meta()
	if meta.Int("llama.embedding_length", 0) != 256 || meta.Float("llama.rope.freq_base", 0) != 500000 || len(meta.Strings("tokenizer.ggml.tokens")) != 4096 {
		t.Error("metadata differs")
	}
}

// The checksums are of the last row as float32, from an independent reader.
func TestSmolLM2(t *testing.T) {
	f := open(t, shared.Path(t, "models/SmolLM2-135M-Instruct.Q4_1.gguf"))
	if n := len(f.Names()); n != 272 {
		t.Errorf("%d tensors, want 272", n)
	}
	for _, c := range []struct {
		name       string
		dtype      tensor.DType
		rows, cols int
		sum        uint32
	}{
		{"token_embd.weight", tensor.Q8_0, 49152, 576, 0x37cab422},
		{"blk.29.ffn_down.weight", tensor.Q4_1, 576, 1536, 0x1699c83b},
		{"output_norm.weight", tensor.F32, 1, 576, 0xc6811e6c},
	} {
		x, ok := f.Tensor(c.name)
		if !ok || x.DType != c.dtype || x.Rows != c.rows || x.Cols != c.cols {
			t.Fatalf("%s: %d×%d %v", c.name, x.Rows, x.Cols, x.DType)
		}
		row := make([]float32, x.Cols)
		tensor.Dequantize(row, x.DType, x.Row(x.Rows-1))
		raw := make([]byte, 4*len(row))
		tensor.Quantize(raw, tensor.F32, row)
		if got := crc32.ChecksumIEEE(raw); got != c.sum {
			t.Errorf("%s: checksum %#x, want %#x", c.name, got, c.sum)
		}
	}
	if got := f.Meta().Strings("tokenizer.ggml.merges"); len(got) != 48900 || got[3] != "h e" {
		t.Errorf("%d merges", len(got))
	}
}

// FuzzGGUF opens any bytes, and reads every tensor of what opens.
func FuzzGGUF(f *testing.F) {
	data := valid(f)
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add(encode(f, []KV{{"split.no", 0}, {"split.count", 2}}, matrix("t", tensor.IQ4_XS, 1, 256)))
	f.Add(encode(f, []KV{{"general.architecture", "llama"}, {"llama.attention.head_count", 2}, {"llama.rope.dimension_count", 2}},
		matrix("blk.0.attn_k.weight", tensor.BF16, 8, 1), matrix("blk.0.attn_k.bias", tensor.F32, 1, 8)))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("fuzz", data)
		if err != nil {
			if !errors.Is(err, weights.ErrCorrupt) && !errors.Is(err, weights.ErrUnsupported) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		defer file.Close()
		file.Meta().Read()
		for _, name := range file.Names() {
			x, _ := file.Tensor(name)
			row := make([]float32, x.Cols)
			for r := range x.Rows {
				tensor.Dequantize(row, x.DType, x.Row(r))
			}
			file.Release(name)
		}
	})
}
