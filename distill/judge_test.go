package distill

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"gorgonia.org/gorgonia"
	gtensor "gorgonia.org/tensor"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
)

// tinyShape is a student of each layout of heads, whose excerpts are longer than
// the window and no multiple of a block of rows.
func tinyShape(heads, kvHeads int) Shape {
	return Shape{Layers: 2, Dim: 32, FFN: 64, Heads: heads, KVHeads: kvHeads, HeadDim: 8, Vocab: 60, Head: 37, State: 12,
		RopeBase: 10000, Sinks: 5, Window: 40, Length: 101}
}

var layouts = []struct {
	name           string
	heads, kvHeads int
}{{"MHA", 4, 4}, {"GQA", 4, 2}, {"MQA", 4, 1}}

func randomParams(s Shape, seed uint64) []param {
	r := rand.New(rand.NewPCG(seed, 1))
	params := s.params()
	for _, p := range params {
		gain := 1.5 / math.Sqrt(float64(p.rows))
		if p.name == embedName {
			gain = 1
		}
		for i := range p.data {
			p.data[i] = float32(gain * r.NormFloat64())
		}
	}
	return params
}

// bench is a network with tokens and labels.
type rig struct {
	*network
	params []param
	tokens []int32   // of all rows
	given  []float32 // (rows, State)
}

func newRig(t testing.TB, s Shape, batch, threads int, seed uint64) *rig {
	t.Helper()
	team := par.NewTeam(threads)
	t.Cleanup(team.Close)
	r := &rig{params: randomParams(s, seed)}
	n, err := newNetwork(s, r.params, batch, kernel.For(cpu.Best()), team)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.close() })
	r.network = n
	random := rand.New(rand.NewPCG(seed, 2))
	for range n.rows() {
		r.tokens = append(r.tokens, int32(random.IntN(s.Vocab)))
	}
	r.given = randomStates(random, n.rows(), s.State)
	copy(n.states.Value().Data().([]float32), r.given)
	for i := range n.head.labels {
		if random.IntN(7) == 0 {
			continue // a row without a label
		}
		n.head.labels[i] = randomLabel(random, s.Head)
	}
	r.look()
	return r
}

// randomStates are states of mean square 1, of which some are not known.
func randomStates(r *rand.Rand, rows, width int) []float32 {
	all := make([]float32, rows*width)
	for i := range rows {
		if row := all[i*width : (i+1)*width]; r.IntN(3) > 0 {
			for j := range row {
				row[j] = float32(r.NormFloat64())
			}
			norm(row, row)
		}
	}
	return all
}

func randomLabel(r *rand.Rand, head int) label {
	var l label
	total := float32(0)
	for _, at := range r.Perm(head)[:1+r.IntN(6)] {
		l.index = append(l.index, int32(at))
		l.probs = append(l.probs, float32(r.ExpFloat64()))
		total += l.probs[len(l.probs)-1]
	}
	l.tail = total * float32(r.IntN(2)) / 3
	for i := range l.probs {
		l.probs[i] /= total + l.tail
	}
	l.tail /= total + l.tail
	return l
}

// look puts the embeddings of the tokens into the graph.
func (r *rig) look() {
	embed, input := r.matrix(embedName), r.input.Value().Data().([]float32)
	for i, token := range r.tokens {
		copy(input[i*r.Dim:(i+1)*r.Dim], embed[int(token)*r.Dim:])
	}
}

func (r *rig) matrix(name string) []float32 {
	for _, p := range r.params {
		if p.name == name {
			return p.data
		}
	}
	panic(name)
}

// judge is the same model, written with Gorgonia's own operations only, one
// excerpt at a time and without any thought of speed.
func judge(t testing.TB, s Shape, params []param, tokens []int32, states []float32) (logits [][]float32) {
	t.Helper()
	g := gorgonia.NewGraph()
	must := gorgonia.Must
	matrix := func(rows, cols int, data []float32) *gorgonia.Node {
		return gorgonia.NewMatrix(g, gtensor.Float32, gorgonia.WithShape(rows, cols), gorgonia.WithName(fmt.Sprint("m", len(g.AllNodes()))),
			gorgonia.WithValue(gtensor.New(gtensor.WithShape(rows, cols), gtensor.WithBacking(data))))
	}
	w := map[string]param{}
	for _, p := range params {
		w[p.name] = p
	}
	n, d := len(tokens), s.HeadDim
	columns := func(p param, lo, cols int) *gorgonia.Node {
		data := make([]float32, p.rows*cols)
		for i := range p.rows {
			copy(data[i*cols:(i+1)*cols], p.data[i*p.cols+lo:])
		}
		return matrix(p.rows, cols, data)
	}
	norm := func(x *gorgonia.Node) *gorgonia.Node {
		mean := must(gorgonia.Mean(must(gorgonia.Square(x)), 1))
		root := must(gorgonia.Sqrt(must(gorgonia.Add(mean, gorgonia.NewConstant(float32(epsilon))))))
		return must(gorgonia.BroadcastHadamardDiv(x, must(gorgonia.Reshape(root, gtensor.Shape{n, 1})), nil, []byte{1}))
	}
	// rotate turns a head by the angle of each row: x∘cos + x·S∘sin, where S
	// exchanges the halves and negates one.
	rotate := func(x *gorgonia.Node, place func(i int) int) *gorgonia.Node {
		cos, sin, swap := make([]float32, n*d), make([]float32, n*d), make([]float32, d*d)
		for i := range n {
			for j := range d {
				angle := float64(place(i)) * math.Pow(s.RopeBase, -2*float64(j%(d/2))/float64(d))
				cos[i*d+j], sin[i*d+j] = float32(math.Cos(angle)), float32(math.Sin(angle))
			}
		}
		for j := range d / 2 {
			swap[(j+d/2)*d+j], swap[j*d+j+d/2] = -1, 1
		}
		a := must(gorgonia.HadamardProd(x, matrix(n, d, cos)))
		b := must(gorgonia.HadamardProd(must(gorgonia.Mul(x, matrix(d, d, swap))), matrix(n, d, sin)))
		return must(gorgonia.Add(a, b))
	}
	// Masks: what a row sees of the sinks and of the window.
	sinks, window := make([]float32, n*n), make([]float32, n*n)
	hidden := make([]float32, n*n)
	for i := range n {
		for j := range n {
			switch {
			case j < s.Sinks && j <= i:
				sinks[i*n+j] = 1
			case j >= s.Sinks && j <= i && j > i-s.Window:
				window[i*n+j] = 1
			default:
				hidden[i*n+j] = -1e9
			}
		}
	}
	embed := make([]float32, n*s.Dim)
	for i, token := range tokens {
		copy(embed[i*s.Dim:], w[embedName].data[int(token)*s.Dim:][:s.Dim])
	}
	x := must(gorgonia.Add(matrix(n, s.Dim, embed), must(gorgonia.Mul(matrix(n, s.State, states), columns(w[stateName], 0, s.Dim)))))
	same := func(i int) int { return i }
	far := func(i int) int { return min(i, s.Sinks+s.Window-1) }
	for l := range s.Layers {
		h := norm(x)
		qkv := w[layerName(l, "qkv")]
		var sum *gorgonia.Node
		for head := range s.Heads {
			kv := head / (s.Heads / s.KVHeads)
			q := must(gorgonia.Mul(h, columns(qkv, head*d, d)))
			k := rotate(must(gorgonia.Mul(h, columns(qkv, (s.Heads+kv)*d, d))), same)
			v := must(gorgonia.Mul(h, columns(qkv, (s.Heads+s.KVHeads+kv)*d, d)))
			kt := must(gorgonia.Transpose(k, 1, 0))
			a := must(gorgonia.HadamardProd(must(gorgonia.Mul(rotate(q, same), kt)), matrix(n, n, window)))
			b := must(gorgonia.HadamardProd(must(gorgonia.Mul(rotate(q, far), kt)), matrix(n, n, sinks)))
			scores := must(gorgonia.Mul(must(gorgonia.Add(a, b)), gorgonia.NewConstant(float32(1/math.Sqrt(float64(d))))))
			p := must(gorgonia.SoftMax(must(gorgonia.Add(scores, matrix(n, n, hidden))), 1))
			out := w[layerName(l, "out")]
			part := matrix(d, s.Dim, append([]float32(nil), out.data[head*d*s.Dim:(head+1)*d*s.Dim]...))
			y := must(gorgonia.Mul(must(gorgonia.Mul(p, v)), part))
			if sum == nil {
				sum = y
			} else {
				sum = must(gorgonia.Add(sum, y))
			}
		}
		x = must(gorgonia.Add(x, sum))
		h = norm(x)
		gate := must(gorgonia.Mul(h, columns(w[layerName(l, "gate_up")], 0, s.FFN)))
		up := must(gorgonia.Mul(h, columns(w[layerName(l, "gate_up")], s.FFN, s.FFN)))
		act := must(gorgonia.HadamardProd(must(gorgonia.HadamardProd(gate, must(gorgonia.Sigmoid(gate)))), up))
		x = must(gorgonia.Add(x, must(gorgonia.Mul(act, columns(w[layerName(l, "down")], 0, s.Dim)))))
	}
	z := must(gorgonia.Mul(norm(x), columns(w[headName], 0, s.Head)))
	vm := gorgonia.NewTapeMachine(g)
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	data := z.Value().Data().([]float32)
	for i := range n {
		logits = append(logits, data[i*s.Head:(i+1)*s.Head])
	}
	return logits
}

// inFloats opens a draft on the reference tier, which computes with floats, over a
// streaming cache in floats.
func inFloats(t *testing.T, path string, sinks, window int) (*llama.Model, *llama.Session, *kvcache.Stream) {
	t.Helper()
	src, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() }) // rows of the embedding are read from it
	team, set := par.NewTeam(2), kernel.For(cpu.Reference)
	t.Cleanup(team.Close)
	m, err := llama.Load(t.Context(), src, llama.Options{Set: set, Team: team})
	if err != nil {
		t.Fatal(err)
	}
	return m, m.NewSession(team, kernel.KVF32, 64, 64), kvcache.NewStream(kvcache.NewStore(m.KVShape(kernel.KVF32), set), sinks, window, 64)
}

// The model that a draft becomes gives the logits of the judge, over its
// streaming cache; the reference tier computes with floats as the judge does.
func TestJudge(t *testing.T) {
	for _, l := range layouts {
		t.Run(l.name, func(t *testing.T) {
			s := tinyShape(l.heads, l.kvHeads)
			params := randomParams(s, 1)
			tokens := make([]int32, s.Length)
			r := rand.New(rand.NewPCG(3, 0))
			for i := range tokens {
				tokens[i] = int32(r.IntN(s.Vocab))
			}
			states := randomStates(r, len(tokens), s.State)
			want := judge(t, s, params, tokens, states)
			head := make([]int32, s.Head)
			for i := range head {
				head[i] = int32(i + i/2)
			}
			path := filepath.Join(t.TempDir(), "draft.gguf")
			if err := export(path, "draft", s, params, head, weights.Meta{}, formats{tensor.F32, tensor.F32}); err != nil {
				t.Fatal(err)
			}
			_, run, cache := inFloats(t, path, s.Sinks, s.Window)
			worst := 0.0
			for at := 0; at < len(tokens); {
				n := min(1+r.IntN(20), len(tokens)-at)
				given := make([][]float32, n)
				for i := range given {
					if row := states[(at+i)*s.State : (at+i+1)*s.State]; row[0] != 0 {
						given[i] = slices.Clone(row)
						times(given[i], 3) // any scale will do
					}
				}
				if err := run.Forward(t.Context(), cache, model.Batch{Tokens: tokens[at : at+n], Logits: n, States: given}); err != nil {
					t.Fatal(err)
				}
				for i := range n {
					for j, token := range head {
						worst = max(worst, math.Abs(float64(run.Logits(i)[token]-want[at+i][j])))
					}
				}
				at += n
			}
			if worst > 2e-4 {
				t.Errorf("logits differ by up to %g", worst)
			}
			t.Logf("logits differ by up to %g", worst)
		})
	}
}
