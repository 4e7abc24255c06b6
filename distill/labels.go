package distill

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// answers is what the target said about an excerpt: after each token, its topK
// most probable tokens, the most probable first, and their probabilities.
type answers struct {
	tokens []int32   // (places, topK)
	probs  []float32 // the same
}

func (a *answers) places() int { return len(a.probs) / topK }

// answerBytes is the size of a place's answer before compression.
const answerBytes = topK * (4 + 2)

// store keeps answers on disk, a compressed file for each excerpt:
//
//	topK·places tokens as u32, topK·places probabilities as u16 (-2048·ln p)
//
// The folder's name says which target answered. Files come whole or not at all.
type store struct {
	folder string
	enc    *zstd.Encoder
	dec    *zstd.Decoder
}

func openStore(folder string) (*store, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, fmt.Errorf("distill: %w", err)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("distill: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return nil, fmt.Errorf("distill: %w", err)
	}
	return &store{folder, enc, dec}, nil
}

func (s *store) path(x excerpt) string {
	return filepath.Join(s.folder, fmt.Sprintf("%016x.zst", x.hash()))
}

func (s *store) has(x excerpt) bool {
	_, err := os.Stat(s.path(x))
	return err == nil
}

// logScale is the resolution of a stored probability's logarithm.
const logScale = 2048

func (s *store) put(x excerpt, a *answers) error {
	raw := make([]byte, 0, a.places()*answerBytes)
	for _, t := range a.tokens {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(t))
	}
	for _, p := range a.probs {
		v := -math.Log(float64(p)) * logScale
		raw = binary.LittleEndian.AppendUint16(raw, uint16(min(math.Round(v), math.MaxUint16)))
	}
	return writeData(s.path(x), s.enc.EncodeAll(raw, nil))
}

// get reads answers to x, for a vocabulary of that size.
func (s *store) get(x excerpt, vocab int) (*answers, error) {
	path := s.path(x)
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s; remove the file, it will be made again: %w", path, fmt.Sprintf(format, args...), ErrWork)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, damaged("%v", err)
		}
		return nil, fmt.Errorf("distill: %w", err)
	}
	raw, err := s.dec.DecodeAll(data, nil)
	if err != nil {
		return nil, damaged("%v", err)
	}
	if len(raw) != len(x)*answerBytes {
		return nil, damaged("%d bytes, expected %d for %d tokens", len(raw), len(x)*answerBytes, len(x))
	}
	n := len(x) * topK
	a := &answers{make([]int32, n), make([]float32, n)}
	for i := range n {
		t := binary.LittleEndian.Uint32(raw[4*i:])
		if int64(t) >= int64(vocab) {
			return nil, damaged("token %d at %d, expected one below %d", t, 4*i, vocab)
		}
		a.tokens[i] = int32(t)
		a.probs[i] = float32(math.Exp(-float64(binary.LittleEndian.Uint16(raw[4*n+2*i:])) / logScale))
	}
	return a, nil
}

// best takes the answers from logits, a row for each place, with a team.
func (a *answers) best(set *kernel.Set, team *par.Team, logits [][]float32, vocab int, scratch []float32) {
	at := a.places()
	a.tokens = append(a.tokens, make([]int32, len(logits)*topK)...)
	a.probs = append(a.probs, make([]float32, len(logits)*topK)...)
	team.Run(func(w *par.Worker) {
		weights := scratch[w.ID*vocab : (w.ID+1)*vocab]
		for i := range w.Each(len(logits)) {
			copy(weights, logits[i])
			softmax(set, weights)
			first := (at + i) * topK
			top(a.tokens[first:first+topK], weights)
			for j, t := range a.tokens[first : first+topK] {
				a.probs[first+j] = weights[t]
			}
		}
	})
}

// top writes the indices of the largest numbers, the largest first, the first
// among equals.
func top(dst []int32, x []float32) {
	n := 0
	for i, v := range x {
		if n == len(dst) && v <= x[dst[n-1]] {
			continue
		}
		at, _ := slices.BinarySearchFunc(dst[:n], v, func(j int32, v float32) int {
			if x[j] == v {
				return -1
			}
			return cmp.Compare(v, x[j])
		})
		if n < len(dst) {
			n++
		}
		copy(dst[at+1:n], dst[at:n-1])
		dst[at] = int32(i)
	}
}
