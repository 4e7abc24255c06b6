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
	"triforce/tensor"
)

// answers is what the target said about an excerpt: after each token, its topK
// most probable tokens, the most probable first, and their probabilities.
type answers struct {
	tokens []int32   // (places, topK)
	probs  []float32 // the same; all zero where it was not asked
	states []byte    // (places): its states, as stateType has them
}

func (a *answers) places() int { return len(a.probs) / topK }

// asked reports whether the target was asked about a place.
func (a *answers) asked(place int) bool { return a.probs[place*topK] > 0 }

// stateType is how answers keep states, scaled to a mean square of 1.
func stateType(width int) tensor.DType {
	if width%tensor.Q8_0.BlockSize() != 0 {
		return tensor.F16
	}
	return tensor.Q8_0
}

// stateBytes is the size of a state of that width as stateType has it.
func stateBytes(width int) int { return stateType(width).RowBytes(width) }

// answerBytes is the size of a place's answer before compression, with a state of
// that width.
func answerBytes(state int) int { return topK*(4+2) + stateBytes(state) }

// prompt is how many places a prompt has, 0 if there is none: up to the first about
// which the target was asked. What it had in mind there is not known in use.
func (a *answers) prompt() int {
	for i := range a.places() {
		if a.asked(i) {
			return i + min(i, 1)
		}
	}
	return 0
}

// store keeps answers on disk, a compressed file for each excerpt:
//
//	topK·places tokens as u32, topK·places probabilities as u16 (-2048·ln p,
//	65535 for none), states
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
	raw := make([]byte, 0, 6*len(a.tokens)+len(a.states))
	for _, t := range a.tokens {
		raw = binary.LittleEndian.AppendUint32(raw, uint32(t))
	}
	for _, p := range a.probs {
		v := -math.Log(float64(p)) * logScale // +Inf for none
		raw = binary.LittleEndian.AppendUint16(raw, uint16(min(math.Round(v), math.MaxUint16)))
	}
	raw = append(raw, a.states...)
	return writeData(s.path(x), s.enc.EncodeAll(raw, nil))
}

// get reads answers to x, of a target with a vocabulary and states of that size.
func (s *store) get(x excerpt, vocab, state int) (*answers, error) {
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
	if want := len(x) * answerBytes(state); len(raw) != want {
		return nil, damaged("%d bytes, expected %d for %d tokens", len(raw), want, len(x))
	}
	n := len(x) * topK
	a := &answers{make([]int32, n), make([]float32, n), raw[6*n:]}
	for i := range n {
		t := binary.LittleEndian.Uint32(raw[4*i:])
		if int64(t) >= int64(vocab) {
			return nil, damaged("token %d at %d, expected one below %d", t, 4*i, vocab)
		}
		a.tokens[i] = int32(t)
		if v := binary.LittleEndian.Uint16(raw[4*n+2*i:]); v < math.MaxUint16 {
			a.probs[i] = float32(math.Exp(-float64(v) / logScale))
		}
	}
	return a, nil
}

// newAnswers makes room for the places of a text, none of which was asked about.
func newAnswers(places, state int) *answers {
	return &answers{make([]int32, places*topK), make([]float32, places*topK), make([]byte, places*stateBytes(state))}
}

// fill takes the answer at a place from the target's logits, which it uses up, and
// state, which it scales.
func (a *answers) fill(set *kernel.Set, place int, logits, state []float32) {
	softmax(set, logits)
	tokens := a.tokens[place*topK : (place+1)*topK]
	top(tokens, logits)
	for i, t := range tokens {
		a.probs[place*topK+i] = logits[t]
	}
	times(state, scaleOf(state))
	n := stateBytes(len(state))
	tensor.Quantize(a.states[place*n:(place+1)*n], stateType(len(state)), state)
}

// cut leaves the places of a text of so many tokens.
func (a *answers) cut(places int) {
	a.states = a.states[:len(a.states)/a.places()*places]
	a.tokens, a.probs = a.tokens[:places*topK], a.probs[:places*topK]
}

// state writes that of a place to dst.
func (a *answers) state(dst []float32, place int) {
	n := stateBytes(len(dst))
	tensor.Dequantize(dst, stateType(len(dst)), a.states[place*n:(place+1)*n])
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
