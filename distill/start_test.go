package distill

import (
	"math"
	"slices"
	"testing"

	"triforce/engine"
	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/internal/testutil/tiny"
)

// A student as wide as its target begins with the target's first layers, which say
// as much beside its embedding, or less in proportion; others with layers of their
// own.
func TestStart(t *testing.T) {
	team := par.NewTeam(2)
	defer team.Close()
	set := kernel.For(cpu.Best())
	f, err := engine.OpenFile(tiny.Model(t, tiny.Options{Heads: 4, KVHeads: 2, Layers: 3, FFN: 80}), engine.Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vocab := f.Tokenizer().Vocab().Size()
	begin := func(o Options) (Shape, []param) {
		s, err := newShape(&o, f.Source(), vocab, 32)
		if err != nil {
			t.Fatal(err)
		}
		params := s.params()
		tokens := make([]int32, s.Head)
		for i := range tokens {
			tokens[i] = int32(i)
		}
		if err := initialize(params, s, f.Source(), tokens, make([]float64, vocab), &o, set, team); err != nil {
			t.Fatal(err)
		}
		return s, params
	}
	o := Defaults()
	o.Layers, o.Dim, o.Head = 2, 32, 64
	s, params := begin(o)
	if s.Heads != 4 || s.KVHeads != 2 || s.HeadDim != 8 || s.FFN != 80 {
		t.Fatalf("%+v", s)
	}

	o.From = f
	whole, err := newShape(&o, f.Source(), vocab, 32)
	if err != nil {
		t.Fatal(err)
	}
	theirs := whole.params()
	if _, err := startFrom(theirs, whole, f.Source()); err != nil {
		t.Fatal(err)
	}
	find := func(params []param, name string) param {
		return params[slices.IndexFunc(params, func(p param) bool { return p.name == name })]
	}
	ratio := func(name string, i int) float64 {
		return float64(find(params, name).data[i] / find(theirs, name).data[i])
	}
	for l := range 2 {
		for _, what := range []string{"qkv", "gate_up"} {
			if name := layerName(l, what); !slices.Equal(find(params, name).data, find(theirs, name).data) {
				t.Errorf("%s is not the target's", name)
			}
		}
		for _, what := range []string{"out", "down"} {
			name := layerName(l, what)
			want := layerGain * ratio(embedName, 5)
			for i := range find(params, name).data {
				if got := ratio(name, i); math.Abs(got-want) > 1e-4*want {
					t.Fatalf("%s: element %d is %v of the target's, expected %v", name, i, got, want)
				}
			}
		}
	}

	o.From = nil
	for _, o := range []Options{
		{Layers: 2, Dim: 32, Head: 64, Random: true},
		{Layers: 1, Dim: 64, Head: 64},
		{Layers: 4, Dim: 32, Head: 64},
	} {
		if s, params := begin(o); s.FFN != 2*o.Dim || s.HeadDim != headDim || find(params, layerName(0, "down")).data[0] == 0 {
			t.Errorf("%+v: %+v", o, s)
		}
	}
}
