package engine

import (
	"slices"
	"sync"

	"triforce/internal/invariant"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
)

// embedded is the source of a model in the program itself, whose bytes take
// memory only while they are of use: they are unpacked when a tensor is asked
// for and forgotten with the first Release. A tensor that somebody has stays
// valid.
type embedded struct {
	name   string
	unpack func() []byte
	meta   weights.Meta
	names  []string

	mu   sync.Mutex
	file *gguf.File // nil if forgotten
}

func openEmbedded(name string, unpack func() []byte) (*embedded, error) {
	f, err := gguf.Parse(name, unpack())
	if err != nil {
		return nil, err
	}
	return &embedded{name: name, unpack: unpack, meta: f.Meta().Read(), names: f.Names(), file: f}, nil
}

func (e *embedded) Path() string       { return e.name }
func (e *embedded) Meta() weights.Meta { return e.meta }
func (e *embedded) Names() []string    { return slices.Clone(e.names) }

func (e *embedded) Tensor(name string) (tensor.Tensor, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.file == nil {
		f, err := gguf.Parse(e.name, e.unpack())
		if err != nil {
			invariant.Failf("engine: %s can no longer be read: %v", e.name, err)
		}
		e.file = f
	}
	return e.file.Tensor(name)
}

func (e *embedded) Release(string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.file = nil
}

func (e *embedded) Close() error { return nil }
