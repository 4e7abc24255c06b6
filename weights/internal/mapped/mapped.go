// Package mapped holds what the weights of every file format have in common
// once they are parsed: views of mapped files under unique names.
//
// A Model implements weights.Source. Its builder adds everything before the
// first reader sees it; from then on it is safe for concurrent use, except that
// Close must come after all else, the use of tensors' bytes included.
package mapped

import (
	"errors"
	"slices"

	"triforce/internal/mmap"
	"triforce/tensor"
	"triforce/weights"
)

// Model is the tensors of one model and the files that they lie in, which it
// owns.
type Model struct {
	path    string
	meta    weights.Meta
	names   []string
	tensors map[string]view
	files   []*mmap.File
}

// view is a tensor and the place of its bytes in its file.
type view struct {
	tensor tensor.Tensor
	file   *mmap.File
	offset int
}

var _ weights.Source = (*Model)(nil)

// New starts the model that was opened by path.
func New(path string) *Model {
	return &Model{path: path, tensors: map[string]view{}}
}

// Own makes Close close f.
func (m *Model) Own(f *mmap.File) { m.files = append(m.files, f) }

// SetMeta sets what Meta returns.
func (m *Model) SetMeta(meta weights.Meta) { m.meta = meta }

// Add adds a tensor whose bytes are f.Data[offset : offset+len(t.Data)], and
// reports false if its name is taken.
func (m *Model) Add(t tensor.Tensor, f *mmap.File, offset int) bool {
	if _, taken := m.tensors[t.Name]; taken {
		return false
	}
	m.names = append(m.names, t.Name)
	m.tensors[t.Name] = view{t, f, offset}
	return true
}

// Replace changes the tensor of that name, which must be there.
func (m *Model) Replace(t tensor.Tensor) {
	v := m.tensors[t.Name]
	v.tensor = t
	m.tensors[t.Name] = v
}

// Path returns the path that was opened.
func (m *Model) Path() string { return m.path }

// Meta returns the metadata, which the caller must not change.
func (m *Model) Meta() weights.Meta { return m.meta }

// Names lists the tensors in file order.
func (m *Model) Names() []string { return slices.Clone(m.names) }

// Tensor returns the tensor of that name; its bytes are valid until Close.
func (m *Model) Tensor(name string) (tensor.Tensor, bool) {
	v, ok := m.tensors[name]
	return v.tensor, ok
}

// Release lets the system take back the memory of the tensor's file pages.
func (m *Model) Release(name string) {
	if v, ok := m.tensors[name]; ok {
		v.file.Release(v.offset, len(v.tensor.Data))
	}
}

// Close unmaps the files; a second Close does nothing.
func (m *Model) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	m.files = nil
	return errors.Join(errs...)
}
