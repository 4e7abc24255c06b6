// Package safetensors reads models as Hugging Face publishes them: a folder of
// config.json, perhaps generation_config.json, and the weights in
// model.safetensors, or in several files that model.safetensors.index.json
// lists. A safetensors file is
//
//	length u64 · header of that length in JSON · data
//	header: {"name": {"dtype": "F16", "shape": [rows, cols], "data_offsets": [from, to]}, …}
//
// little endian, with the tensors' data end to end in some order; nothing else
// aligns it. Formats F32, F16 and BF16 are read.
//
// Names and metadata come out in GGUF's spelling (see names.go, config.go).
// Rows of Q and K are stored in the order that models use. Frequency scaling of
// Llama 3 comes out as metadata, rope.scaling.type "llama3" with its factors,
// where GGUF files have a tensor instead. The tokenizer's files are not read.
//
// A File is safe for concurrent use and owns the memory of its tensors until
// Close, which must come after every other use. Errors wrap weights.ErrCorrupt
// or weights.ErrUnsupported, or are those of the file system. No input makes
// Open panic, or allocate more than a small multiple of the files' size.
package safetensors

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"triforce/internal/mmap"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/internal/mapped"
)

// File is an open model; it implements weights.Source.
type File struct{ *mapped.Model }

// Open maps the model in a folder, or the one in a single .safetensors file
// with config.json beside it, and checks everything except the tensors'
// contents.
func Open(path string) (*File, error) {
	m := mapped.New(path)
	if err := load(m, path); err != nil {
		m.Close()
		return nil, err
	}
	return &File{m}, nil
}

const (
	single = "model.safetensors"
	index  = "model.safetensors.index.json"
)

const maxFileName = 255

func load(m *mapped.Model, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	folder, file := filepath.Split(path)
	if info.IsDir() {
		folder, file = path, single
	}
	meta, tied, err := readConfig(folder)
	if err != nil {
		return err
	}
	m.SetMeta(meta)
	l := loader{model: m, tied: tied}
	err = l.shard(filepath.Join(folder, file), nil)
	if info.IsDir() && errors.Is(err, fs.ErrNotExist) {
		err = l.shards(folder)
	}
	if err != nil {
		return err
	}
	if len(l.foreign) > 0 {
		return l.unsupported()
	}
	if _, ok := m.Tensor("output.weight"); !ok && !tied {
		meta[weights.TiedKey] = false // the model lists what is missing
	}
	return nil
}

// loader collects the tensors of a model from its files.
type loader struct {
	model *mapped.Model
	tied  bool
	// foreign describes the tensors of formats that only others read.
	foreign []string
}

// shards loads the files that the index in folder lists, in the order of their
// names.
func (l *loader) shards(folder string) error {
	path := filepath.Join(folder, index)
	var list struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := readJSON(path, &list); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("safetensors: %s: expected %s or %s: %w", folder, single, index, fs.ErrNotExist)
	} else if err != nil {
		return err
	}
	if len(list.WeightMap) == 0 {
		return corrupt(path, 0, "expected tensors in %q, found none", "weight_map")
	}
	byFile := map[string]map[string]bool{}
	for name, file := range list.WeightMap {
		if !strings.HasSuffix(file, ".safetensors") || len(file) > maxFileName || strings.ContainsAny(file, "/\\:\x00") || !filepath.IsLocal(file) {
			return corrupt(path, 0, "tensor %.64q: expected the name of a .safetensors file in the same folder, found %.64q", name, file)
		}
		if byFile[file] == nil {
			byFile[file] = map[string]bool{}
		}
		byFile[file][name] = true
	}
	for _, file := range slices.Sorted(maps.Keys(byFile)) {
		shard := filepath.Join(folder, file)
		if err := l.shard(shard, byFile[file]); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("safetensors: %s: missing, though %s lists it: %w", shard, index, weights.ErrCorrupt)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// shard loads the wanted tensors of one file, all of which must be there; every
// tensor if wanted is nil.
func (l *loader) shard(path string, wanted map[string]bool) error {
	f, err := mmap.Open(path)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	l.model.Own(f)
	entries, err := parse(path, f.Data)
	if err != nil {
		return err
	}
	found := 0
	for _, e := range entries {
		if wanted != nil && !wanted[e.name] {
			continue
		}
		found++
		name := translate(e.name)
		switch {
		case name == "" || name == "output.weight" && l.tied:
		case !e.known:
			l.foreign = append(l.foreign, fmt.Sprintf("%.64q (%.16s)", e.name, e.format))
		default:
			t := tensor.Tensor{Name: name, DType: e.dtype, Rows: e.rows, Cols: e.cols, Data: f.Data[e.from:e.to:e.to]}
			if !l.model.Add(t, f, e.from) {
				return corrupt(path, e.from, "tensor %.64q: its name is in use", e.name)
			}
		}
	}
	if found < len(wanted) {
		return corrupt(path, 0, "expected %d tensors that %s lists, found %d", len(wanted), index, found)
	}
	return nil
}

func (l *loader) unsupported() error {
	list, more := l.foreign, ""
	if n := len(list) - 5; n > 0 {
		list, more = list[:5], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("safetensors: %s: tensors of unknown format: %s%s (supported: F32, F16, BF16): %w",
		l.model.Path(), strings.Join(list, ", "), more, weights.ErrUnsupported)
}

// corrupt describes a malformed file, at an offset from its start.
func corrupt(path string, offset int, format string, args ...any) error {
	return fmt.Errorf("safetensors: %s: offset %d: %s: %w", path, offset, fmt.Sprintf(format, args...), weights.ErrCorrupt)
}
