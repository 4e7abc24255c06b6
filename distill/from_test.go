package distill

import (
	"bytes"
	"errors"
	"math"
	"path/filepath"
	"testing"

	"triforce/engine"
	"triforce/internal/testutil/tiny"
	"triforce/model"
	"triforce/tensor"
	"triforce/weights/gguf"
)

// A student that goes on from a draft is that draft: norms, head layouts, trimmed
// heads and what it takes in of states included.
func TestFrom(t *testing.T) {
	for _, o := range []tiny.Options{
		{Heads: 4, KVHeads: 2, Layers: 3},
		{Heads: 2, HeadDim: 16, FFN: 96, State: 7},
		{Heads: 2, State: 11}, // of another target: left out
	} {
		path := tiny.Model(t, o)
		f, err := engine.OpenFile(path, engine.Rope{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		vocab := f.Tokenizer().Vocab().Size()
		opt := Defaults()
		opt.From = f
		s, err := newShape(&opt, f.Source(), vocab, 7)
		if err != nil {
			t.Fatal(err)
		}
		params := s.params()
		head, err := startFrom(params, s, f.Source())
		if err != nil {
			t.Fatal(err)
		}
		again := filepath.Join(t.TempDir(), "again.gguf")
		if err := export(again, "again", s, params, head, f.Source().Meta(), formats{tensor.F32, tensor.F32}); err != nil {
			t.Fatal(err)
		}
		a, b := logitsOf(t, path, o.State == 7), logitsOf(t, again, o.State == 7)
		for i := range a {
			if math.Abs(float64(a[i]-b[i])) > 2e-4 {
				t.Fatalf("%+v: logit %d is %v, the draft's %v", o, i, b[i], a[i])
			}
		}
		if _, err := newShape(&opt, f.Source(), vocab+1, 7); !errors.Is(err, engine.ErrUsage) {
			t.Errorf("another vocabulary: %v", err)
		}
	}
	path := filepath.Join(t.TempDir(), "more.gguf")
	more := append(tiny.Tensors(tiny.Options{}), tensor.Tensor{Name: "extra.bias", DType: tensor.F32, Rows: 1, Cols: 1, Data: make([]byte, 4)})
	if err := gguf.WriteFile(path, tiny.Meta(tiny.Options{}), more); err != nil {
		t.Fatal(err)
	}
	src, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	embed, _ := src.Tensor("token_embd.weight")
	s, err := shapeFrom(src, embed.Rows)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := startFrom(s.params(), s, src); !errors.Is(err, engine.ErrUsage) {
		t.Errorf("a tensor too many: %v", err)
	}
	for _, o := range []tiny.Options{{RopeDims: 4}, {Window: 40}, {Rope: tiny.RopeYarn}, {Rope: tiny.RopeFactors}} {
		f, err := engine.OpenFile(tiny.Model(t, o), engine.Rope{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		opt := Defaults()
		opt.From = f
		if _, err := newShape(&opt, f.Source(), f.Tokenizer().Vocab().Size(), 7); !errors.Is(err, engine.ErrUsage) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Who goes on with a draft gets a better one or none: a training that spoils it
// says so, leaves the file alone, and stands in no next one's way.
func TestFromWorse(t *testing.T) {
	e := target(t, 1)
	texts := someText(t, e, 40)
	o := small(t, 200)
	if _, err := Run(t.Context(), e, texts, o); err != nil {
		t.Fatal(err)
	}
	before := read(t, o.Out)
	f, err := engine.OpenFile(o.Out, engine.Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.From, o.Steps, o.Rate = f, 20, 0.9
	if _, err := Run(t.Context(), e, texts, o); !errors.Is(err, ErrWorse) {
		t.Errorf("a rate of 0.9: %v", err)
	}
	if !bytes.Equal(read(t, o.Out), before) {
		t.Error("the draft was overwritten by a worse one")
	}
	o.Out, o.Rate, o.Steps = filepath.Join(t.TempDir(), "better.gguf"), 0, 60
	if _, err := Run(t.Context(), e, texts, o); err != nil {
		t.Fatal(err)
	}
}

// logitsOf are those of a few tokens, in floats.
func logitsOf(t *testing.T, path string, told bool) []float32 {
	t.Helper()
	m, run, cache := inFloats(t, path, 16, 256)
	batch := model.Batch{Tokens: []int32{5, 9, 2, 30, 7}, Logits: 5}
	if told {
		batch.States = make([][]float32, 5)
		for i := range m.State {
			batch.States[3] = append(batch.States[3], float32(i%5)-1.5)
		}
	}
	if err := run.Forward(t.Context(), cache, batch); err != nil {
		t.Fatal(err)
	}
	var all []float32
	for i := range 5 {
		all = append(all, run.Logits(i)...)
	}
	return all
}
