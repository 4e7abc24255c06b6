package llama

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/mem"
	"triforce/internal/par"
	"triforce/model"
	"triforce/tensor"
	"triforce/weights"
)

// Model is the weights of a Llama model, packed for a tier's kernels.
type Model struct {
	Config
	set    *kernel.Set
	rope   *model.Rope
	embed  model.Embedding
	layers []layer
	norm   []float32      // (Dim)
	output *kernel.Matrix // (HeadRows, Dim)
	state  *kernel.Matrix // (Dim, State), or nil
	ones   []float32      // (State)
	arena  mem.Arena
	bytes  int64
	quant  bool // some matrix wants quantized activations
}

// layer is the weights of one transformer block.
type layer struct {
	attnNorm, ffnNorm []float32      // (Dim)
	q                 *kernel.Matrix // (Heads·HeadDim, Dim)
	k, v              *kernel.Matrix // (KVHeads·HeadDim, Dim)
	o                 *kernel.Matrix // (Dim, Heads·HeadDim)
	gate, up          *kernel.Matrix // (FFN, Dim)
	down              *kernel.Matrix // (Dim, FFN)
}

// Options says how to load a model.
type Options struct {
	Set  *kernel.Set
	Team *par.Team // packs the weights
	// Progress, if not nil, is told from time to time how many of the weights'
	// bytes are ready.
	Progress func(done, total int64)
}

// slot is a tensor that the model wants and where it goes.
type slot struct {
	name       string
	rows, cols int
	vector     *[]float32
	matrix     **kernel.Matrix
}

// slots lists every tensor of a model of this shape. The largest comes first,
// so that the file's copy of it is gone before most of the memory is taken.
func (m *Model) slots() []slot {
	q, kv := m.Heads*m.HeadDim, m.KVHeads*m.HeadDim
	all := []slot{
		// The output head is the embedding unless it has a tensor of its own.
		{name: "output.weight", rows: m.HeadRows(), cols: m.Dim, matrix: &m.output},
		{name: "output_norm.weight", rows: 1, cols: m.Dim, vector: &m.norm},
	}
	if m.State > 0 {
		all = append(all, slot{name: StateTensor, rows: m.Dim, cols: m.State, matrix: &m.state})
	}
	for i := range m.layers {
		l := &m.layers[i]
		name := func(s string) string { return fmt.Sprintf("blk.%d.%s.weight", i, s) }
		all = append(all,
			slot{name: name("attn_norm"), rows: 1, cols: m.Dim, vector: &l.attnNorm},
			slot{name: name("attn_q"), rows: q, cols: m.Dim, matrix: &l.q},
			slot{name: name("attn_k"), rows: kv, cols: m.Dim, matrix: &l.k},
			slot{name: name("attn_v"), rows: kv, cols: m.Dim, matrix: &l.v},
			slot{name: name("attn_output"), rows: m.Dim, cols: q, matrix: &l.o},
			slot{name: name("ffn_norm"), rows: 1, cols: m.Dim, vector: &l.ffnNorm},
			slot{name: name("ffn_gate"), rows: m.FFN, cols: m.Dim, matrix: &l.gate},
			slot{name: name("ffn_up"), rows: m.FFN, cols: m.Dim, matrix: &l.up},
			slot{name: name("ffn_down"), rows: m.Dim, cols: m.FFN, matrix: &l.down},
		)
	}
	return all
}

// Load reads and packs the weights of a model. All missing, misshaped and
// unused tensors are listed in one error, which wraps weights.ErrCorrupt.
func Load(ctx context.Context, src weights.Source, opt Options) (*Model, error) {
	cfg, err := ParseConfig(src)
	if err != nil {
		return nil, err
	}
	m := &Model{Config: cfg, set: opt.Set, layers: make([]layer, cfg.Layers)}
	tensors, factors, err := m.bind(src)
	if err != nil {
		return nil, err
	}
	m.arena.Block = int(PackedBytes(src, opt.Set.Tier)) + 64*len(tensors)
	m.rope = model.NewRope(cfg.RopeDims, cfg.RopeBase, cfg.Scaling, factors)
	m.ones = slices.Repeat([]float32{1}, m.State)
	total, done := int64(0), int64(0)
	for _, t := range tensors {
		total += t.Bytes()
	}
	for i, s := range m.slots() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		t := tensors[i]
		if s.vector != nil {
			*s.vector = vector(&t)
		} else {
			*s.matrix = m.pack(&t, opt.Team)
		}
		src.Release(t.Name)
		if s.matrix == &m.output && t.Name == m.embed.Stored.Name && kernel.Unpacks(t.DType) {
			m.embed.Packed, m.embed.Stored.Data = m.output, nil
		}
		if done += t.Bytes(); opt.Progress != nil {
			opt.Progress(done, total)
		}
	}
	for _, t := range tensors {
		src.Release(t.Name) // again: reading one brings in pages of its neighbours
	}
	return m, nil
}

// bind finds the tensor of every slot, in order, and checks their shapes.
func (m *Model) bind(src weights.Source) (tensors []tensor.Tensor, factors []float32, err error) {
	var problems []string
	used := map[string]bool{}
	find := func(name string, rows, cols int) (tensor.Tensor, bool) {
		t, ok := src.Tensor(name)
		if !ok {
			return t, false
		}
		used[name] = true
		if t.Rows != rows || t.Cols != cols {
			problems = append(problems, fmt.Sprintf("%s is %d×%d, expected %d×%d", name, t.Rows, t.Cols, rows, cols))
		}
		return t, true
	}
	if n := blocks(src); n != m.Layers {
		problems = append(problems, fmt.Sprintf("block_count is %d, the tensors are of %d blocks", m.Layers, n))
	}
	embed, _ := find("token_embd.weight", m.Vocab, m.Dim)
	m.embed.Stored = embed
	for _, s := range m.slots() {
		t, ok := find(s.name, s.rows, s.cols)
		if !ok && s.name == "output.weight" && m.Head == nil && src.Meta().Bool(weights.TiedKey, true) {
			t, ok = embed, true
		}
		if !ok {
			problems = append(problems, s.name+" is missing")
		}
		tensors = append(tensors, t)
	}
	if t, ok := src.Tensor("rope_freqs.weight"); ok {
		before := len(problems)
		find(t.Name, 1, m.RopeDims/2)
		factors = vector(&t)
		if len(problems) == before && slices.ContainsFunc(factors, func(f float32) bool { return !(f > 0) }) {
			problems = append(problems, "rope_freqs.weight has a factor that is not positive")
		}
	}
	for _, name := range src.Names() {
		if !used[name] {
			problems = append(problems, name+" is not used by this architecture")
		}
	}
	if len(problems) > 0 {
		return nil, nil, fmt.Errorf("%s: %d of the tensors do not fit: %s: %w", src.Path(), len(problems), strings.Join(problems, "; "), weights.ErrCorrupt)
	}
	return tensors, factors, nil
}

// blocks counts the layers that the file has tensors of.
func blocks(src weights.Source) int {
	n := 0
	for _, name := range src.Names() {
		var i int
		if _, err := fmt.Sscanf(name, "blk.%d.", &i); err == nil {
			n = max(n, i+1)
		}
	}
	return n
}

func vector(t *tensor.Tensor) []float32 {
	v := make([]float32, t.Rows*t.Cols)
	tensor.Dequantize(v, t.DType, t.Data)
	return v
}

// pack brings a matrix into the layout that the kernels want; the reference
// tier works on floats.
func (m *Model) pack(t *tensor.Tensor, team *par.Team) *kernel.Matrix {
	format, pack := kernel.FormatOf(t.DType), kernel.Pack
	if m.set.Tier == cpu.Reference {
		format, pack = kernel.F32, kernel.PackFloat
	}
	w := kernel.NewMatrix(format, t.Rows, t.Cols, m.arena.Take)
	m.bytes += int64(len(w.Data))
	m.quant = m.quant || !format.Float()
	const grain = 4 // panels at a time
	team.Run(func(worker *par.Worker) {
		for i := range worker.Each((w.Panels() + grain - 1) / grain) {
			pack(w, t, i*grain, min((i+1)*grain, w.Panels()))
		}
	})
	return w
}

// WeightBytes is the memory of the packed weights.
func (m *Model) WeightBytes() int64 { return m.bytes }

// PackedBytes forecasts WeightBytes for a source on the given tier, without
// loading it.
func PackedBytes(src weights.Source, tier cpu.Tier) int64 {
	total := int64(0)
	_, separate := src.Tensor("output.weight")
	for _, name := range src.Names() {
		t, _ := src.Tensor(name)
		if t.Rows == 1 || name == "token_embd.weight" && separate {
			continue
		}
		format := kernel.FormatOf(t.DType)
		if tier == cpu.Reference {
			format = kernel.F32
		}
		total += int64((t.Rows+kernel.Panel-1)/kernel.Panel) * int64(format.PanelBytes(t.Cols))
	}
	return total
}
