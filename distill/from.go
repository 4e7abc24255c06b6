package distill

import (
	"fmt"
	"math"

	"triforce/engine"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
)

// shapeFrom is the shape of a draft from which a student is to go on, but for caches
// and excerpts.
func shapeFrom(src weights.Source, vocab int) (Shape, error) {
	c, err := llama.ParseConfig(src)
	if err != nil {
		return Shape{}, err
	}
	unlike := func(format string, args ...any) error {
		return fmt.Errorf("%w: --from %s: %s; students cannot have that", engine.ErrUsage, src.Path(), fmt.Sprintf(format, args...))
	}
	_, factors := src.Tensor("rope_freqs.weight")
	switch {
	case c.Vocab != vocab:
		return Shape{}, unlike("its embedding has %d tokens, the target has %d", c.Vocab, vocab)
	case math.Abs(float64(c.Eps)-epsilon) > epsilon/1000:
		return Shape{}, unlike("it adds %g to mean squares, expected %g", c.Eps, epsilon)
	case c.RopeDims != c.HeadDim || c.Scaling.Type != "" || factors:
		return Shape{}, unlike("it rotates in another way")
	case c.Window > 0:
		return Shape{}, unlike("its layers see a window of %d tokens", c.Window)
	}
	return Shape{
		Layers: c.Layers, Dim: c.Dim, FFN: c.FFN, Heads: c.Heads, KVHeads: c.KVHeads, HeadDim: c.HeadDim,
		Vocab: vocab, Head: c.HeadRows(), RopeBase: c.RopeBase,
	}, nil
}

// startFrom fills the student's matrices with a draft's, and returns the tokens of
// its head. A draft that took in no states of a target begins to.
func startFrom(params []param, s Shape, src weights.Source) ([]int32, error) {
	c, err := llama.ParseConfig(src)
	if err != nil {
		return nil, err
	}
	m := newMatrices(src, params)
	m.used[llama.StateTensor] = true
	copy(m.params[embedName].data, m.read("token_embd.weight", s.Vocab, s.Dim))
	if s.State > 0 {
		if c.State == s.State {
			m.put(stateName, 0, s.Dim, nil, llama.StateTensor)
		} else {
			clear(m.params[stateName].data)
		}
	}
	for i := range s.Layers {
		m.layer(s, i)
	}
	m.put(headName, 0, s.Head, m.read("output_norm.weight", 1, s.Dim), "output.weight")
	for _, name := range src.Names() {
		if m.err == nil && !m.used[name] {
			m.err = fmt.Errorf("%w: --from %s: it has a tensor %s; students have none", engine.ErrUsage, src.Path(), name)
		}
	}
	head := c.Head
	if head == nil {
		for i := range s.Head {
			head = append(head, int32(i))
		}
	}
	return head, m.err
}

// matrices are a Llama model's that become a student's, and the first error.
type matrices struct {
	src    weights.Source
	params map[string]param
	used   map[string]bool // tensors
	err    error
}

func newMatrices(src weights.Source, params []param) *matrices {
	return &matrices{src: src, params: byName(params), used: map[string]bool{}}
}

// read is a tensor's elements, if it has that shape.
func (m *matrices) read(name string, rows, cols int) []float32 {
	m.used[name] = true
	t, ok := m.src.Tensor(name)
	if !ok && name == "output.weight" {
		t, ok = m.src.Tensor("token_embd.weight")
	}
	if m.err == nil && (!ok || t.Rows != rows || t.Cols != cols) {
		m.err = fmt.Errorf("%s: %s is %d×%d, expected %d×%d: %w", m.src.Path(), name, t.Rows, t.Cols, rows, cols, weights.ErrCorrupt)
	}
	x := make([]float32, rows*cols)
	for i := 0; m.err == nil && i < rows; i++ {
		tensor.Dequantize(x[i*cols:(i+1)*cols], t.DType, t.Row(i))
	}
	return x
}

// put is the reverse of columns of fileTensors, after a norm whose weights the
// matrix takes up.
func (m *matrices) put(matrix string, lo, n int, norm []float32, name string) {
	p := m.params[matrix]
	x := m.read(name, n, p.rows)
	for i := range p.rows {
		w := float32(1)
		if norm != nil {
			w = norm[i]
		}
		for j := range n {
			p.data[i*p.cols+lo+j] = w * x[j*p.rows+i]
		}
	}
}

// layer fills the matrices of layer i.
func (m *matrices) layer(s Shape, i int) {
	name := func(what string) string { return fmt.Sprintf("blk.%d.%s.weight", i, what) }
	matrix := func(what string) string { return layerName(i, what) }
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	norm := m.read(name("attn_norm"), 1, s.Dim)
	m.put(matrix("qkv"), 0, q, norm, name("attn_q"))
	m.put(matrix("qkv"), q, kv, norm, name("attn_k"))
	m.put(matrix("qkv"), q+kv, kv, norm, name("attn_v"))
	m.put(matrix("out"), 0, s.Dim, nil, name("attn_output"))
	norm = m.read(name("ffn_norm"), 1, s.Dim)
	m.put(matrix("gate_up"), 0, s.FFN, norm, name("ffn_gate"))
	m.put(matrix("gate_up"), s.FFN, s.FFN, norm, name("ffn_up"))
	m.put(matrix("down"), 0, s.Dim, nil, name("ffn_down"))
}
