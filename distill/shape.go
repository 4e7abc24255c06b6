package distill

import (
	"fmt"
	"strings"

	"triforce/model"
	"triforce/weights"
)

// Shape is the form of a student: a Llama model with a trimmed head. Its norms
// have no weights of their own, which the matrices behind them take up.
type Shape struct {
	Layers, Dim, FFN        int
	Heads, KVHeads, HeadDim int
	Vocab                   int // rows of the embedding
	Head                    int // rows of the output head
	State                   int // width of the target's states that it takes in, or 0
	RopeBase                float64
	// Sinks and Window are what its streaming cache shows, and Length the tokens
	// of an excerpt.
	Sinks, Window, Length int
}

// Every student has these.
const (
	epsilon = 1e-5
	headDim = 32
	// mostHeads are enough for a window of some hundred tokens.
	mostHeads = 8
	// mostDim is up to where students are as wide as their targets by themselves.
	mostDim = 576
)

// newShape is the student that the options ask for, of a target with a vocabulary
// and states of that size.
func newShape(o *Options, target weights.Source, vocab, state int) (Shape, error) {
	heads := min(o.Dim/headDim, mostHeads)
	s := Shape{
		Layers: o.Layers, Dim: o.Dim, FFN: 2 * o.Dim,
		Heads: heads, KVHeads: heads, HeadDim: headDim,
		Vocab: vocab, Head: min(o.Head, vocab), RopeBase: 10000,
	}
	if o.From != nil {
		var err error
		if s, err = shapeFrom(o.From.Source(), vocab); err != nil {
			return s, err
		}
	} else if like, ok := o.like(target, vocab); ok {
		s.FFN, s.Heads, s.KVHeads, s.HeadDim, s.RopeBase = like.FFN, like.Heads, like.KVHeads, like.HeadDim, like.RopeBase
	}
	s.Sinks, s.Window, s.Length = o.Sinks, o.Window, o.Length
	if !o.Blind {
		s.State = state
	}
	return s, nil
}

// like is the shape of the target if the student's layers are to begin as the
// target's first.
func (o *Options) like(target weights.Source, vocab int) (Shape, bool) {
	if o.Random {
		return Shape{}, false
	}
	s, err := shapeFrom(target, vocab)
	return s, err == nil && s.Dim == o.Dim && s.Layers >= o.Layers
}

// own reports whether the student's own state can stand in for a target's that is not
// known yet (llama.Config.OwnState).
func (s *Shape) own() bool { return s.State == s.Dim }

// qkv is the width of queries, keys and values side by side.
func (s *Shape) qkv() int { return (s.Heads + 2*s.KVHeads) * s.HeadDim }

// param is a matrix of the student, (rows, cols): a product takes rows inputs
// and gives cols outputs, so that it is the transpose of what a file stores.
type param struct {
	name       string
	rows, cols int
	data       []float32
}

// inner reports whether the matrix is neither head nor embedding.
func (p *param) inner() bool { return p.name != headName && p.name != embedName }

// intoStream reports whether a layer adds what the matrix gives to what it was given.
func (p *param) intoStream() bool {
	return strings.HasSuffix(p.name, ".out") || strings.HasSuffix(p.name, ".down")
}

// byName is the matrices by their names.
func byName(params []param) map[string]param {
	all := make(map[string]param, len(params))
	for _, p := range params {
		all[p.name] = p
	}
	return all
}

// Names of the matrices outside of layers.
const (
	stateName = "state"
	embedName = "embed"
	headName  = "head"
)

func layerName(i int, what string) string { return fmt.Sprintf("layer.%d.%s", i, what) }

// params lists the student's matrices, all zero: what takes in states, if any; for
// each layer queries, keys and values side by side, the output of attention, gate
// and up side by side, and down; then the head and the embedding (Vocab, Dim).
func (s *Shape) params() []param {
	var all []param
	add := func(name string, rows, cols int) {
		all = append(all, param{name, rows, cols, make([]float32, rows*cols)})
	}
	if s.State > 0 {
		add(stateName, s.State, s.Dim)
	}
	for i := range s.Layers {
		add(layerName(i, "qkv"), s.Dim, s.qkv())
		add(layerName(i, "out"), s.Heads*s.HeadDim, s.Dim)
		add(layerName(i, "gate_up"), s.Dim, 2*s.FFN)
		add(layerName(i, "down"), s.FFN, s.Dim)
	}
	add(headName, s.Dim, s.Head)
	add(embedName, s.Vocab, s.Dim)
	return all
}

// rope is the student's rotary embedding.
func (s *Shape) rope() *model.Rope {
	return model.NewRope(s.HeadDim, s.RopeBase, model.RopeScaling{}, nil)
}
