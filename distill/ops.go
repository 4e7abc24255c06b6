package distill

import (
	"fmt"
	"hash"
	"hash/fnv"

	"github.com/chewxy/hm"
	"gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// op is an operation of the graph that Gorgonia does not have, or not fast. Its
// name is its own, so that the graph never takes it for another. It owns the
// memory of its result.
type op struct {
	name  string
	arity int
	rows  int // of the result; 0 is a number
	cols  int
	out   *tensor.Dense
	do    func(out []float32, in [][]float32) float32
	// back, if not nil, makes the nodes of its inputs' gradients.
	back func(inputs gorgonia.Nodes, output, grad *gorgonia.Node) (gorgonia.Nodes, error)
	// of are the dimensions of inputs, 0 for a number; nil is matrices.
	of []int
}

// newMatrix makes room for a matrix of the graph.
func newMatrix(rows, cols int) *tensor.Dense {
	return tensor.New(tensor.Of(tensor.Float32), tensor.WithShape(rows, cols))
}

// apply puts the operation into the graph.
func (o *op) apply(inputs ...*gorgonia.Node) (*gorgonia.Node, error) {
	o.arity = len(inputs)
	if o.rows > 0 {
		o.out = newMatrix(o.rows, o.cols)
	}
	return gorgonia.ApplyOp(o, inputs...)
}

func (o *op) Arity() int { return o.arity }

func (o *op) Type() hm.Type {
	matrix := func(dims int) hm.Type {
		if dims == 0 {
			return tensor.Float32
		}
		return gorgonia.TensorType{Dims: dims, Of: tensor.Float32}
	}
	var types []hm.Type
	for i := range o.arity {
		dims := 2
		if o.of != nil {
			dims = o.of[i]
		}
		types = append(types, matrix(dims))
	}
	result := 2
	if o.rows == 0 {
		result = 0
	}
	return hm.NewFnType(append(types, matrix(result))...)
}

func (o *op) InferShape(...gorgonia.DimSizer) (tensor.Shape, error) {
	if o.rows == 0 {
		return tensor.ScalarShape(), nil
	}
	return tensor.Shape{o.rows, o.cols}, nil
}

func (o *op) Do(values ...gorgonia.Value) (gorgonia.Value, error) {
	in := make([][]float32, len(values))
	for i, v := range values {
		switch data := v.Data().(type) {
		case []float32:
			in[i] = data
		case float32:
			in[i] = []float32{data}
		default:
			return nil, fmt.Errorf("distill: %s: input %d holds %T", o.name, i, data)
		}
	}
	if o.rows == 0 {
		return gorgonia.NewF32(o.do(nil, in)), nil
	}
	o.do(o.out.Data().([]float32), in)
	return o.out, nil
}

func (o *op) DiffWRT(n int) []bool {
	all := make([]bool, n)
	for i := range all {
		all[i] = o.back != nil
	}
	return all
}

func (o *op) SymDiff(inputs gorgonia.Nodes, output, grad *gorgonia.Node) (gorgonia.Nodes, error) {
	if o.back == nil {
		return nil, fmt.Errorf("distill: %s has no gradient", o.name)
	}
	return o.back(inputs, output, grad)
}

func (o *op) ReturnsPtr() bool     { return true }
func (o *op) CallsExtern() bool    { return false }
func (o *op) OverwritesInput() int { return -1 }
func (o *op) String() string       { return o.name }

func (o *op) WriteHash(h hash.Hash) { _, _ = h.Write([]byte(o.name)) }

func (o *op) Hashcode() uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}
