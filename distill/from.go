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
	// read is a tensor's elements, if it has that shape.
	used := map[string]bool{llama.StateTensor: true}
	read := func(name string, rows, cols int) []float32 {
		used[name] = true
		t, ok := src.Tensor(name)
		if !ok && name == "output.weight" {
			t, ok = src.Tensor("token_embd.weight")
		}
		if err == nil && (!ok || t.Rows != rows || t.Cols != cols) {
			err = fmt.Errorf("%s: %s is %d×%d, expected %d×%d: %w", src.Path(), name, t.Rows, t.Cols, rows, cols, weights.ErrCorrupt)
		}
		x := make([]float32, rows*cols)
		for i := 0; err == nil && i < rows; i++ {
			tensor.Dequantize(x[i*cols:(i+1)*cols], t.DType, t.Row(i))
		}
		return x
	}
	byName := map[string]param{}
	for _, p := range params {
		byName[p.name] = p
	}
	// put is the reverse of columns of fileTensors, after a norm whose weights
	// the matrix takes up.
	put := func(p param, lo, n int, norm []float32, name string) {
		x := read(name, n, p.rows)
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
	copy(byName[embedName].data, read("token_embd.weight", s.Vocab, s.Dim))
	if p, ok := byName[stateName]; ok {
		if c.State == s.State {
			put(p, 0, s.Dim, nil, llama.StateTensor)
		} else {
			clear(p.data)
		}
	}
	for i := range s.Layers {
		name := func(what string) string { return fmt.Sprintf("blk.%d.%s.weight", i, what) }
		get := func(what string) param { return byName[layerName(i, what)] }
		q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
		norm := read(name("attn_norm"), 1, s.Dim)
		put(get("qkv"), 0, q, norm, name("attn_q"))
		put(get("qkv"), q, kv, norm, name("attn_k"))
		put(get("qkv"), q+kv, kv, norm, name("attn_v"))
		put(get("out"), 0, s.Dim, nil, name("attn_output"))
		norm = read(name("ffn_norm"), 1, s.Dim)
		put(get("gate_up"), 0, s.FFN, norm, name("ffn_gate"))
		put(get("gate_up"), s.FFN, s.FFN, norm, name("ffn_up"))
		put(get("down"), 0, s.Dim, nil, name("ffn_down"))
	}
	put(byName[headName], 0, s.Head, read("output_norm.weight", 1, s.Dim), "output.weight")
	for _, name := range src.Names() {
		if err == nil && !used[name] {
			err = fmt.Errorf("%w: --from %s: it has a tensor %s; students have none", engine.ErrUsage, src.Path(), name)
		}
	}
	head := c.Head
	if head == nil {
		for i := range s.Head {
			head = append(head, int32(i))
		}
	}
	return head, err
}
