package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cespare/xxhash/v2"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/kvcache"
	"triforce/weights"
)

// ErrSnapshot marks a snapshot that is damaged, or of another model or another
// kind of cache.
var ErrSnapshot = kvcache.ErrSnapshot

// Save writes the session's history and caches to a file, which is replaced at
// once or not at all. A session of the same model that loads it goes on as this
// one would: what is in the caches need not be read again.
func (s *Session) Save(path string, progress func(done, total int64)) error {
	snap := s.snapshot()
	snap.Tokens = s.tokens
	return snap.Save(path, progress)
}

// Load reads what Save wrote. The session must be new. A missing file wraps
// fs.ErrNotExist; a file that cannot be used wraps ErrSnapshot, and the session
// stays empty.
func (s *Session) Load(path string, spec Spec, progress func(done, total int64)) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	if err := s.speculate(spec); err != nil {
		return err
	}
	snap := s.snapshot()
	if err := snap.Load(path, progress); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return fmt.Errorf("engine: %w", err)
	}
	s.tokens = snap.Tokens
	return nil
}

// SnapshotInfo says what a snapshot holds. Model and Draft are fingerprints.
type SnapshotInfo struct {
	Model      string `json:"model"`
	Draft      string `json:"draft,omitempty"`
	Tokens     int    `json:"tokens"`
	Cached     int    `json:"cached"`
	Layers     int    `json:"layers"`
	KVHeads    int    `json:"kv_heads"`
	HeadDim    int    `json:"head_dim"`
	KVType     string `json:"kv_type"`
	FileBytes  int64  `json:"file_bytes"`
	CacheBytes int64  `json:"cache_bytes"`
}

// InspectSnapshot reads what the head of a snapshot says of it. Its pages are
// not checked; Load does that.
func InspectSnapshot(path string) (*SnapshotInfo, error) {
	i, err := kvcache.InspectSnapshot(path)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	if i.Shape.Type > kernel.KVF32 {
		return nil, fmt.Errorf("engine: %w: %s: no form of keys and values has number %d", ErrSnapshot, path, i.Shape.Type)
	}
	return &SnapshotInfo{
		Model: i.Model, Draft: i.Draft, Tokens: i.Tokens, Cached: i.Length,
		Layers: i.Shape.Layers, KVHeads: i.Shape.Heads, HeadDim: i.Shape.Dim, KVType: i.Shape.Type.String(), FileBytes: i.FileBytes,
		CacheBytes: i.Shape.ContextBytes(kernel.For(cpu.Best()), i.Length),
	}, nil
}

func (s *Session) snapshot() *kvcache.Snapshot {
	snap := &kvcache.Snapshot{Model: s.e.file.Fingerprint(), Target: s.cache}
	if s.levels != nil && s.levels.stream != nil {
		snap.Stream, snap.Draft = s.levels.stream, s.e.draft.file.Fingerprint()
	}
	return snap
}

// fingerprintBytes is how much of the start and the end of each tensor goes
// into a fingerprint.
const fingerprintBytes = 1 << 10

// Fingerprint identifies the weights: a hash of the names, shapes and formats
// of all tensors and of some of their bytes.
func (f *File) Fingerprint() string { return fingerprint(f.source) }

func fingerprint(source weights.Source) string {
	h := xxhash.New()
	for _, name := range source.Names() {
		t, _ := source.Tensor(name)
		_, _ = h.WriteString(name)
		_ = binary.Write(h, binary.LittleEndian, [3]int64{int64(t.DType), int64(t.Rows), int64(t.Cols)})
		n := min(len(t.Data), fingerprintBytes)
		_, _ = h.Write(t.Data[:n])
		_, _ = h.Write(t.Data[len(t.Data)-n:])
	}
	return fmt.Sprintf("%016x", h.Sum64())
}
