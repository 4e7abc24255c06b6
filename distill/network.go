package distill

import (
	"fmt"

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
	graph  *gorgonia.ExprGraph
	vm     gorgonia.VM
	input  *gorgonia.Node   // (rows, Dim)
	states *gorgonia.Node   // (rows, State), or nil
	nodes  []*gorgonia.Node // of all params but the embedding
	loss   *gorgonia.Node
	head   *head
	hidden *gorgonia.Node // what the head is given
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
// are. From here on Gorgonia's products in this process are those of team.
func newNetwork(s Shape, params []param, batch int, set *kernel.Set, team *par.Team) (*network, error) {
	n := &network{Shape: s, batch: batch, team: team, set: set, mul: gemm.New(set, team), graph: gorgonia.NewGraph()}
	gorgonia.Use(floats{mul: n.mul})
	b := builder{network: n, byName: map[string]*gorgonia.Node{}}
	b.leaf("input", n.rows(), s.Dim, newMatrix(n.rows(), s.Dim))
	n.input = b.byName["input"]
	if s.State > 0 {
		b.leaf("states", n.rows(), s.State, newMatrix(n.rows(), s.State))
		n.states = b.byName["states"]
	}
	for _, p := range params {
		if p.name == embedName {
			continue
		}
		b.leaf(p.name, p.rows, p.cols, tensor.New(tensor.WithShape(p.rows, p.cols), tensor.WithBacking(p.data)))
		n.nodes = append(n.nodes, b.byName[p.name])
	}
	x := n.input
	if n.states != nil {
		x = b.add(x, b.times(n.states, stateName))
	}
	for i := range s.Layers {
		a := newAttention(s, batch, set, team)
		h := b.each(layerName(i, "norm"), x, s.Dim, norm, normBack)
		h = b.times(h, layerName(i, "qkv"))
		h = b.unary(layerName(i, "attention"), h, s.Heads*s.HeadDim,
			func(y, x []float32) { a.forward(team, y, x) },
			func(dx, x, dy []float32) { a.backward(team, dx, x, dy) })
		x = b.add(x, b.times(h, layerName(i, "out")))
		h = b.each(layerName(i, "ffn_norm"), x, s.Dim, norm, normBack)
		h = b.times(h, layerName(i, "gate_up"))
		h = b.each(layerName(i, "swiglu"), h, s.FFN, swiGLU, swiGLUBack)
		x = b.add(x, b.times(h, layerName(i, "down")))
	}
	n.hidden = b.each("norm", x, s.Dim, norm, normBack)
	n.head = newHead(n)
	n.loss = b.loss(n.hidden, b.byName[headName])
	if b.err != nil {
		return nil, fmt.Errorf("distill: graph: %w", b.err)
	}
	wanted := append(gorgonia.Nodes{n.input}, n.nodes...)
	if _, err := gorgonia.Grad(n.loss, wanted...); err != nil {
		return nil, fmt.Errorf("distill: gradients: %w", err)
	}
	n.vm = gorgonia.NewTapeMachine(n.graph, gorgonia.BindDualValues(wanted...))
	return n, nil
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

// grad is the gradient of a leaf; whoever uses it clears it.
func grad(node *gorgonia.Node) ([]float32, error) {
	g, err := node.Grad()
	if err != nil {
		return nil, fmt.Errorf("distill: gradient of %s: %w", node.Name(), err)
	}
	return g.Data().([]float32), nil
}

// close ends the machine.
func (n *network) close() error { return n.vm.Close() }

// builder adds nodes until the first error.
type builder struct {
	*network
	byName map[string]*gorgonia.Node
	err    error
}

func (b *builder) leaf(name string, rows, cols int, value *tensor.Dense) {
	b.byName[name] = gorgonia.NewMatrix(b.graph, tensor.Float32, gorgonia.WithName(name),
		gorgonia.WithShape(rows, cols), gorgonia.WithValue(value))
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
