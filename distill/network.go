package distill

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"triforce/internal/gemm"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// network is the student as a graph that Gorgonia differentiates and runs, over
// batches of excerpts. The graph is coarse: products of whole batches, and one
// operation for everything between two of them.
//
// The embedding is outside: its rows are the graph's input, whose gradient
// belongs to the few rows that a batch has.
type network struct {
	Shape
	batch  int
	team   *par.Team
	set    *kernel.Set
	mul    *gemm.Multiplier
	vm     gorgonia.VM
	input  *gorgonia.Node   // (rows, Dim)
	states *gorgonia.Node   // (rows, State), or nil
	nodes  []*gorgonia.Node // of all params but the embedding
	loss   *gorgonia.Node
	head   *head
	hidden *gorgonia.Node // what the head is given

	// A second graph, up to there only, of a student that takes in its own states.
	ahead gorgonia.VM // or nil
	seen  *gorgonia.Node
}

// floats gives Gorgonia our products of float32; gonum does what is left.
type floats struct {
	gonum.Implementation
	mul *gemm.Multiplier
}

// Sgemm computes C = alpha·A·B + beta·C.
func (f floats) Sgemm(ta, tb blas.Transpose, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	f.mul.Multiply(m, n, k, alpha, gemm.Matrix{Data: a, Stride: lda, Trans: ta != blas.NoTrans},
		gemm.Matrix{Data: b, Stride: ldb, Trans: tb != blas.NoTrans}, beta, gemm.Matrix{Data: c, Stride: ldc})
}

// newNetwork builds the graph over the given matrices, which it uses as they
// are. Until it is closed, Gorgonia's products in this process are those of team.
func newNetwork(s Shape, params []param, batch int, set *kernel.Set, team *par.Team) (*network, error) {
	n := &network{Shape: s, batch: batch, team: team, set: set, mul: gemm.New(set, team)}
	gorgonia.Use(floats{mul: n.mul})
	if err := n.build(params); err != nil {
		gorgonia.Use(gonum.Implementation{})
		return nil, fmt.Errorf("distill: graph: %w", err)
	}
	return n, nil
}

// build makes the graphs and the machines that run them.
func (n *network) build(params []param) error {
	s := n.Shape
	values := map[string]*tensor.Dense{"input": newMatrix(n.rows(), s.Dim)}
	if s.State > 0 {
		values["states"] = newMatrix(n.rows(), s.State)
	}
	for _, p := range params[:len(params)-1] { // but the embedding
		values[p.name] = tensor.New(tensor.WithShape(p.rows, p.cols), tensor.WithBacking(p.data))
	}
	b := newBuilder(n, values)
	n.hidden = b.student()
	n.input, n.states = b.byName["input"], b.byName["states"]
	for _, p := range params[:len(params)-1] {
		n.nodes = append(n.nodes, b.byName[p.name])
	}
	n.head = newHead(n)
	n.loss = b.loss(n.hidden, b.byName[headName])
	if b.err != nil {
		return b.err
	}
	wanted := append(gorgonia.Nodes{n.input}, n.nodes...)
	if _, err := gorgonia.Grad(n.loss, wanted...); err != nil {
		return err
	}
	n.vm = gorgonia.NewTapeMachine(b.graph, gorgonia.BindDualValues(wanted...))
	if s.own() {
		b := newBuilder(n, values)
		if n.seen = b.student(); b.err != nil {
			return b.err
		}
		n.ahead = gorgonia.NewTapeMachine(b.graph)
	}
	return nil
}

// rows is the number of rows of a batch.
func (n *network) rows() int { return n.batch * n.Length }

// run computes the loss of what input and head hold, and the gradients.
func (n *network) run() (float32, error) {
	n.vm.Reset()
	if err := n.vm.RunAll(); err != nil {
		return 0, fmt.Errorf("distill: graph: %w", err)
	}
	return n.loss.Value().Data().(float32), nil
}

// look computes what the head would be given of what input and states hold, for
// states of the student's own. It is valid until the next call.
func (n *network) look() ([]float32, error) {
	n.ahead.Reset()
	if err := n.ahead.RunAll(); err != nil {
		return nil, fmt.Errorf("distill: graph: %w", err)
	}
	return n.seen.Value().Data().([]float32), nil
}

// grad is the gradient of a leaf; whoever uses it clears it.
func grad(node *gorgonia.Node) ([]float32, error) {
	g, err := node.Grad()
	if err != nil {
		return nil, fmt.Errorf("distill: gradient of %s: %w", node.Name(), err)
	}
	return g.Data().([]float32), nil
}

// close ends the machines, and gives Gorgonia its own products back: the team may
// end next.
func (n *network) close() error {
	gorgonia.Use(gonum.Implementation{})
	err := n.vm.Close()
	if n.ahead != nil {
		err = errors.Join(err, n.ahead.Close())
	}
	return err
}

// builder adds nodes to a graph until the first error.
type builder struct {
	*network
	graph  *gorgonia.ExprGraph
	byName map[string]*gorgonia.Node
	err    error
}

// newBuilder begins a graph with leaves of these values.
func newBuilder(n *network, values map[string]*tensor.Dense) *builder {
	b := &builder{network: n, graph: gorgonia.NewGraph(), byName: map[string]*gorgonia.Node{}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		v := values[name]
		b.byName[name] = gorgonia.NewMatrix(b.graph, tensor.Float32, gorgonia.WithName(name), gorgonia.WithShape(v.Shape()...), gorgonia.WithValue(v))
	}
	return b
}

// student is all from the leaves to what the head is given.
func (b *builder) student() *gorgonia.Node {
	x := b.byName["input"]
	if b.State > 0 {
		x = b.add(x, b.times(b.byName["states"], stateName))
	}
	for i := range b.Layers {
		a := newAttention(b.Shape, b.batch, b.set, b.team)
		h := b.each(layerName(i, "norm"), x, b.Dim, norm, normBack)
		h = b.times(h, layerName(i, "qkv"))
		h = b.unary(layerName(i, "attention"), h, b.Heads*b.HeadDim,
			func(y, x []float32) { a.forward(b.team, y, x) },
			func(dx, x, dy []float32) { a.backward(b.team, dx, x, dy) })
		x = b.add(x, b.times(h, layerName(i, "out")))
		h = b.each(layerName(i, "ffn_norm"), x, b.Dim, norm, normBack)
		h = b.times(h, layerName(i, "gate_up"))
		h = b.each(layerName(i, "swiglu"), h, b.FFN,
			func(y, x []float32) { swiGLU(b.set, y, x) },
			func(dx, x, dy []float32) { swiGLUBack(b.set, dx, x, dy) })
		x = b.add(x, b.times(h, layerName(i, "down")))
	}
	return b.each("norm", x, b.Dim, norm, normBack)
}

func (b *builder) keep(node *gorgonia.Node, err error) *gorgonia.Node {
	if b.err == nil {
		b.err = err
	}
	return node
}

func (b *builder) times(x *gorgonia.Node, name string) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	return b.keep(gorgonia.Mul(x, b.byName[name]))
}

func (b *builder) add(x, y *gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	return b.keep(gorgonia.Add(x, y))
}

// each is an operation on every row for itself.
func (b *builder) each(name string, x *gorgonia.Node, cols int, forward func(y, x []float32), backward func(dx, x, dy []float32)) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	in, rows := x.Shape()[1], b.rows()
	parallel := func(f func(r int)) {
		b.team.Run(func(w *par.Worker) {
			lo, hi := w.Share(rows, 1)
			for r := lo; r < hi; r++ {
				f(r)
			}
		})
	}
	return b.unary(name, x, cols,
		func(y, x []float32) {
			parallel(func(r int) { forward(y[r*cols:(r+1)*cols], x[r*in:(r+1)*in]) })
		},
		func(dx, x, dy []float32) {
			parallel(func(r int) { backward(dx[r*in:(r+1)*in], x[r*in:(r+1)*in], dy[r*cols:(r+1)*cols]) })
		})
}

// unary is an operation on a whole batch.
func (b *builder) unary(name string, x *gorgonia.Node, cols int, forward func(y, x []float32), backward func(dx, x, dy []float32)) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	rows, in := b.rows(), x.Shape()[1]
	o := &op{name: name, rows: rows, cols: cols}
	o.do = func(out []float32, in [][]float32) float32 {
		forward(out, in[0])
		return 0
	}
	o.back = func(inputs gorgonia.Nodes, _, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		d := &op{name: name + ".back", rows: rows, cols: in}
		d.do = func(out []float32, in [][]float32) float32 {
			backward(out, in[0], in[1])
			return 0
		}
		node, err := d.apply(inputs[0], grad)
		return gorgonia.Nodes{node}, err
	}
	return b.keep(o.apply(x))
}

// loss is the head: its gradients are computed along with it.
func (b *builder) loss(x, w *gorgonia.Node) *gorgonia.Node {
	if b.err != nil {
		return nil
	}
	h := b.network.head
	o := &op{name: "loss"}
	o.do = func(_ []float32, in [][]float32) float32 { return h.run(in[0], in[1]) }
	o.back = func(_ gorgonia.Nodes, output, grad *gorgonia.Node) (gorgonia.Nodes, error) {
		give := func(name string, rows, cols int, from []float32) (*gorgonia.Node, error) {
			d := &op{name: name, rows: rows, cols: cols, of: []int{0, 0}}
			d.do = func(out []float32, in [][]float32) float32 {
				for i, v := range from {
					out[i] = v * in[1][0]
				}
				return 0
			}
			return d.apply(output, grad)
		}
		dx, err := give("loss.back.input", b.rows(), b.Dim, h.dx)
		if err != nil {
			return nil, err
		}
		dw, err := give("loss.back.weights", b.Dim, b.Head, h.dw)
		return gorgonia.Nodes{dx, dw}, err
	}
	return b.keep(o.apply(x, w))
}
