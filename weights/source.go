// Package weights is the contract over model files: metadata in one spelling
// and tensors as views of the file's bytes. The formats live in weights/gguf
// and weights/safetensors.
//
// A Source is safe for concurrent use. It owns the bytes of every tensor it
// returns; they are valid until Close.
package weights

import (
	"errors"

	"triforce/tensor"
)

// ErrCorrupt marks every error that is due to a malformed file. The message
// names the file, the offset, what was expected and what was found.
var ErrCorrupt = errors.New("corrupt file")

// ErrUnsupported marks a well-formed file that uses something triforce does
// not have, such as another architecture or tensor format.
var ErrUnsupported = errors.New("unsupported")

// Source gives access to one model's weights and metadata.
//
// Names follow GGUF ("token_embd.weight", "blk.0.attn_q.weight", …) and
// metadata keys and values follow GGUF too ("llama.embedding_length", …),
// whatever the file format: a source over another format translates.
type Source interface {
	// Path is the file or folder that was opened, for messages.
	Path() string
	// Meta returns the metadata. The caller must not change it.
	Meta() Meta
	// Names lists the tensors in file order.
	Names() []string
	// Tensor returns a view of the named tensor, and false if there is none.
	Tensor(name string) (tensor.Tensor, bool)
	// Release tells the source that the tensor's bytes will not be read again
	// soon, so that its memory may be given back; reading them stays correct.
	Release(name string)
	// Close unmaps the files.
	Close() error
}

// TiedKey is where a source says that the output head is not the embedding,
// although there is no tensor for it.
const TiedKey = "llama.tie_word_embeddings"

// Meta holds metadata by key. Values are bool, string, float64, int64, uint64
// (only above the range of int64), or slices of them ([]bool, []string,
// []float64, []int64, []uint64), and nothing else: narrower stored types are
// widened. A long slice may be a List instead.
type Meta map[string]any

// List reads a long slice from the file that it stays in. It must not be called
// once the source is closed.
type List func() any

// String is what messages say of it.
func (List) String() string { return "a long list" }

// Value returns the value under key, read if it is a List, or nil if there is
// none.
func (m Meta) Value(key string) any {
	if read, ok := m[key].(List); ok {
		return read()
	}
	return m[key]
}

// Read returns metadata that holds all its lists.
func (m Meta) Read() Meta {
	all := make(Meta, len(m))
	for key := range m {
		all[key] = m.Value(key)
	}
	return all
}

// String returns the string under key, or def if there is none.
func (m Meta) String(key, def string) string { return get(m, key, def) }

// Bool returns the truth value under key, or def if there is none.
func (m Meta) Bool(key string, def bool) bool { return get(m, key, def) }

// Strings returns the list under key, or nil if there is none.
func (m Meta) Strings(key string) []string { return get[[]string](m, key, nil) }

// Ints returns the list under key, or nil if there is none.
func (m Meta) Ints(key string) []int64 { return get[[]int64](m, key, nil) }

// Floats returns the list under key, or nil if there is none.
func (m Meta) Floats(key string) []float64 { return get[[]float64](m, key, nil) }

// Int returns the integer under key, or def if there is none.
func (m Meta) Int(key string, def int64) int64 { return get(m, key, def) }

// Float returns the number under key, integers included, or def if there is
// none.
func (m Meta) Float(key string, def float64) float64 {
	if i, ok := m[key].(int64); ok {
		return float64(i)
	}
	return get(m, key, def)
}

func get[T any](m Meta, key string, def T) T {
	if v, ok := m.Value(key).(T); ok {
		return v
	}
	return def
}
