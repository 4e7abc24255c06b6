package distill

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"

	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
)

// progressKey is where a checkpoint keeps numbers, in the order of fields.
const (
	checkpointArch = "triforce-student"
	progressKey    = "triforce.student.progress"
	tokensKey      = "triforce.student.tokens"
	momentum       = ".m"
	variance       = ".v"
	seenName       = "seen"
)

// progress is where a training stands, besides its matrices.
type progress struct {
	step  int // steps done
	total int // steps planned, 0 as long as that is open
	fall  int // from this step on the learning rate falls
	best  float64
	stale int // scores since the best
	loss  float64
}

// saveCheckpoint writes all that a training needs to go on, as a GGUF file that
// replaces the one before at once.
func saveCheckpoint(path string, a *optimizer, p progress, tokens []int32) error {
	meta := []gguf.KV{
		{Key: "general.architecture", Value: checkpointArch},
		{Key: progressKey, Value: []int64{int64(p.step), int64(p.total), int64(p.fall), int64(p.stale), int64(math.Float64bits(p.best)), int64(math.Float64bits(p.loss))}},
		{Key: tokensKey, Value: widen(tokens)},
	}
	var all []tensor.Tensor
	put := func(name string, rows, cols int, x []float32) {
		data := make([]byte, 4*len(x))
		tensor.Quantize(data, tensor.F32, x)
		all = append(all, tensor.Tensor{Name: name, DType: tensor.F32, Rows: rows, Cols: cols, Data: data})
	}
	for i, m := range a.params {
		put(m.name, m.rows, m.cols, m.data)
		put(m.name+momentum, m.rows, m.cols, a.m[i])
		if !m.inner() {
			put(m.name+variance, m.rows, m.cols, a.v[i])
		}
	}
	put(seenName, 1, len(a.seen), a.seen)
	return write(path, func(w io.Writer) error { return gguf.Write(w, meta, all) })
}

// loadCheckpoint fills the optimizer and its matrices, and reports false if
// there is no checkpoint.
func loadCheckpoint(path string, a *optimizer) (p progress, tokens []int32, ok bool, err error) {
	src, err := gguf.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil, false, nil
	}
	if err != nil {
		return p, nil, false, err
	}
	defer src.Close()
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s; remove the file to train again: %w: %w", path, fmt.Sprintf(format, args...), ErrWork, weights.ErrCorrupt)
	}
	n := src.Meta().Ints(progressKey)
	if len(n) != 6 || src.Meta().String("general.architecture", "") != checkpointArch {
		return p, nil, false, damaged("no checkpoint of a student")
	}
	p = progress{int(n[0]), int(n[1]), int(n[2]), math.Float64frombits(uint64(n[4])), int(n[3]), math.Float64frombits(uint64(n[5]))}
	get := func(name string, rows, cols int, x []float32) {
		t, found := src.Tensor(name)
		if err == nil && (!found || t.Rows != rows || t.Cols != cols || t.DType != tensor.F32) {
			err = damaged("tensor %s is %d×%d, expected %d×%d", name, t.Rows, t.Cols, rows, cols)
		}
		if err == nil {
			tensor.Dequantize(x, tensor.F32, t.Data)
		}
	}
	for i, m := range a.params {
		get(m.name, m.rows, m.cols, m.data)
		get(m.name+momentum, m.rows, m.cols, a.m[i])
		if !m.inner() {
			get(m.name+variance, m.rows, m.cols, a.v[i])
		}
	}
	get(seenName, 1, len(a.seen), a.seen)
	if err != nil {
		return p, nil, false, err
	}
	head, vocab := a.params[len(a.params)-2].cols, len(a.seen)
	list := src.Meta().Ints(tokensKey)
	last := int64(-1)
	for _, t := range list {
		if t <= last || t >= int64(vocab) {
			return p, nil, false, damaged("token %d after %d", t, last)
		}
		last = t
		tokens = append(tokens, int32(t))
	}
	if len(tokens) != head || p.step < 0 || p.total < 0 {
		return p, nil, false, damaged("%d tokens for a head of %d", len(tokens), head)
	}
	a.step = p.step
	return p, tokens, true, nil
}
