// Package gguf reads and writes model files in the GGUF format, versions 2 and
// 3, little endian:
//
//	magic "GGUF" · version u32 · tensors u64 · entries u64
//	entry        key string · type u32 · value                      (metadata)
//	tensor       name string · dims u32 · dim u64 … · type u32 · offset u64
//	padding to the alignment (entry general.alignment, else 32)
//	data         each tensor at its offset from here, aligned
//
// A string is a u64 length and bytes; an array is an element type u32, a u64
// length and the elements. The first dimension is the row length.
//
// A model may be split over files NAME-00001-of-00003.gguf and so on; opening
// any of them opens all.
//
// Files of architecture "llama" store the rows of Q and K of each head so that
// rotary pairs are neighbours. Tensors come out with an Order that undoes this,
// see tensor.Tensor; their biases, being vectors, come out as reordered copies.
// Frequency scaling of Llama 3 is in such files as a tensor of factors,
// rope_freqs.weight, and not as metadata.
//
// A File is safe for concurrent use and owns the memory of its tensors, and of the
// long lists of its metadata, until Close, which must come after every other use.
// Errors wrap weights.ErrCorrupt or weights.ErrUnsupported, or are those of the file
// system. No input makes Open panic, or allocate more than a small multiple of the
// file's size.
package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"triforce/internal/mmap"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/internal/mapped"
)

// File is an open model; it implements weights.Source.
type File struct{ *mapped.Model }

// Open maps the model file at path, with all parts if it is one of several, and
// checks it completely except for the tensors' contents.
func Open(path string) (*File, error) {
	f, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	return load(path, f, false)
}

// OpenHeader is Open for a file that may end after its header, as the beginning
// of a large one does: its tensors have no data.
func OpenHeader(path string) (*File, error) {
	f, err := mmap.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: %w", err)
	}
	return load(path, f, true)
}

// Parse is Open for a whole model in memory, which the File reads until Close.
// name stands for its path.
func Parse(name string, data []byte) (*File, error) { return load(name, mmap.Memory(data), false) }

// load makes a model of the file and the parts beside it.
func load(path string, f *mmap.File, header bool) (*File, error) {
	m := mapped.New(path)
	opened, err := newPart(m, path, f, header)
	if err == nil {
		err = addTensors(m, opened)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return &File{m}, nil
}

// part is one parsed file.
type part struct {
	path    string
	file    *mmap.File
	meta    weights.Meta
	tensors []info
	header  bool // no more is read than that
}

func addTensors(m *mapped.Model, opened *part) error {
	parts := []*part{opened}
	if opened.meta.Int("split.count", 1) != 1 {
		var err error
		if parts, err = openSplit(m, opened); err != nil {
			return err
		}
	}
	m.SetMeta(parts[0].meta)
	orders := orders{meta: m.Meta()}
	for _, p := range parts {
		for _, i := range p.tensors {
			t := tensor.Tensor{Name: i.name, DType: i.dtype, Rows: i.rows, Cols: i.cols}
			if !p.header {
				t.Data = p.file.Data[i.offset : i.offset+i.bytes : i.offset+i.bytes]
				if err := orders.apply(&t); err != nil {
					return fmt.Errorf("gguf: %s: offset %d: tensor %.64q: %w", p.path, i.header, i.name, err)
				}
			}
			if !m.Add(t, p.file, i.offset) {
				return corrupt(p.path, i.header, "tensor %.64q: its name is in use", i.name)
			}
		}
	}
	return nil
}

func newPart(m *mapped.Model, path string, f *mmap.File, header bool) (*part, error) {
	m.Own(f)
	p := &part{path: path, file: f, header: header}
	var err error
	p.meta, p.tensors, err = parse(path, f, header)
	f.Release(0, len(f.Data)) // parse has copied what it needs, but for long lists
	return p, err
}

// openSplit opens the parts beside the one that is open.
func openSplit(m *mapped.Model, opened *part) ([]*part, error) {
	number, count := opened.meta.Int("split.no", -1), opened.meta.Int("split.count", -1)
	if number < 0 || number >= count {
		return nil, corrupt(opened.path, 0, "split.no is %d of split.count %d", number, count)
	}
	name := func(n int64) string { return fmt.Sprintf("-%05d-of-%05d.gguf", n+1, count) }
	prefix, ok := strings.CutSuffix(opened.path, name(number))
	if !ok {
		return nil, corrupt(opened.path, 0, "expected a file name that ends in %q, as its metadata says", name(number))
	}
	var parts []*part
	tensors := 0
	for n := range count {
		p := opened
		if n != number {
			f, err := mmap.Open(prefix + name(n))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("gguf: %s: part %d of %d is missing: %w", prefix+name(n), n+1, count, weights.ErrCorrupt)
			} else if err != nil {
				return nil, fmt.Errorf("gguf: %w", err)
			}
			if p, err = newPart(m, prefix+name(n), f, opened.header); err != nil {
				return nil, err
			}
		}
		if no, of := p.meta.Int("split.no", -1), p.meta.Int("split.count", -1); no != n || of != count {
			return nil, corrupt(p.path, 0, "expected split.no %d of %d, found %d of %d", n, count, no, of)
		}
		parts = append(parts, p)
		tensors += len(p.tensors)
	}
	if want := parts[0].meta.Int("split.tensors.count", int64(tensors)); want != int64(tensors) {
		return nil, corrupt(opened.path, 0, "expected %d tensors in %d parts, found %d", want, count, tensors)
	}
	return parts, nil
}

// corrupt describes a malformed file, at an offset from its start.
func corrupt(path string, offset int, format string, args ...any) error {
	return fmt.Errorf("gguf: %s: offset %d: %s: %w", path, offset, fmt.Sprintf(format, args...), weights.ErrCorrupt)
}
