package speculate

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"triforce/sample"
)

// world is a language over a tiny vocabulary: the logits after a path are a pure
// function of the path.
type world struct {
	vocab int
	seed  uint64
	scale float32 // of the logits
}

// fake is a verifier that answers by its world, with its own error added to the
// logits, and watches over how it is used.
type fake struct {
	t       testing.TB
	world   world
	bias    uint64  // which error
	error   float32 // its size, 0 = the target
	full    *fake   // the cache it takes committed tokens from, or nil
	maxRows int
	size    int // capacity, 0 = unbounded

	tokens []int32
	hashes []uint64
	tree   bool // Keep is due
	rows   [][]float32
	flat   []float32
	want   []uint64

	calls   int
	commits []int
	failAt  int  // call that fails, counted from 1
	half    bool // it fails after appending a part
}

var errInjected = errors.New("injected")

func newFake(t testing.TB, w world, bias uint64, size float32) *fake {
	return &fake{t: t, world: w, bias: bias, error: size, maxRows: 32}
}

func scramble(h, x uint64) uint64 {
	h = (h ^ x) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>29
}

// value is a number in [-1, 1].
func value(h uint64) float32 { return float32(int64(h)>>11) / (1 << 52) }

func (f *fake) logits(row []float32, hash uint64) {
	for i := range row {
		h := scramble(hash, uint64(i)+1)
		row[i] = f.world.scale * value(h)
		if f.error != 0 {
			row[i] += f.error * value(scramble(h, f.bias))
		}
	}
}

func (f *fake) last(n int) uint64 {
	if n == 0 {
		return f.world.seed
	}
	return f.hashes[n-1]
}

func (f *fake) push(token int32, before uint64) {
	f.tokens = append(f.tokens, token)
	f.hashes = append(f.hashes, scramble(before, uint64(token)+77))
}

func (f *fake) Len() int { return len(f.tokens) }

func (f *fake) MaxRows() int {
	if f.size > 0 {
		return min(f.maxRows, f.size-len(f.tokens))
	}
	return f.maxRows
}

func (f *fake) Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f.calls++
	switch {
	case f.tree:
		f.t.Fatal("forward before keep")
	case len(tokens) == 0 || len(tokens) > f.MaxRows() || want > len(tokens):
		f.t.Fatalf("forward of %d tokens, %d wanted, at most %d", len(tokens), want, f.MaxRows())
	case parents != nil && len(parents) != len(tokens):
		f.t.Fatalf("%d parents of %d tokens", len(parents), len(tokens))
	}
	base := len(f.tokens)
	for i, token := range tokens {
		if f.calls == f.failAt && (!f.half || i == len(tokens)/2) {
			return nil, errInjected
		}
		parent := i - 1
		if parents != nil {
			if parent = int(parents[i]); parent >= i || parent < -1 {
				f.t.Fatalf("token %d has parent %d", i, parent)
			}
		}
		f.push(token, f.last(base+parent+1))
	}
	f.tree = parents != nil
	for i := range f.flat {
		f.flat[i] = float32(math.NaN()) // whoever still reads the old rows will notice
	}
	f.flat = slices.Grow(f.flat[:0], want*f.world.vocab)[:want*f.world.vocab]
	f.rows = f.rows[:0]
	for i := range want {
		row := f.flat[i*f.world.vocab : (i+1)*f.world.vocab]
		f.logits(row, f.hashes[len(f.tokens)-want+i])
		f.rows = append(f.rows, row)
	}
	return f.rows, nil
}

func (f *fake) Truncate(n int) {
	if f.tree && n > len(f.tokens) {
		f.t.Fatal("truncate to more than there is")
	}
	f.tree = false
	f.tokens, f.hashes = f.tokens[:n], f.hashes[:n]
}

func (f *fake) Keep(base int, path []int32) {
	if !f.tree {
		f.t.Fatal("keep without a tree")
	}
	f.tree = false
	for i, at := range path {
		if i > 0 && at <= path[i-1] {
			f.t.Fatalf("path %v", path)
		}
		f.tokens[base+i], f.hashes[base+i] = f.tokens[base+int(at)], f.hashes[base+int(at)]
	}
	f.tokens, f.hashes = f.tokens[:base+len(path)], f.hashes[:base+len(path)]
}

func (f *fake) Commit(n int) {
	f.commits = append(f.commits, n)
	if f.full != nil {
		for i := len(f.tokens); i < min(n, f.full.Len()); i++ {
			f.push(f.full.tokens[i], f.last(i))
		}
	}
}

// consistent checks that every cache holds a prefix of its level's history, and
// that all levels agree on it.
func consistent(t testing.TB, top *Level) {
	t.Helper()
	var check func(d Drafter)
	check = func(d Drafter) {
		t.Helper()
		switch d := d.(type) {
		case *Level:
			f, ok := d.Verifier.(*fake)
			if !ok {
				f = d.Verifier.(*wide).fake
			}
			if f.tree || f.Len() > len(d.history) || !slices.Equal(f.tokens, d.history[:f.Len()]) {
				t.Fatalf("level %s: cache %v, history %v", d.Name, f.tokens, d.history)
			}
			for i := range f.tokens {
				if f.hashes[i] != scramble(f.last(i), uint64(f.tokens[i])+77) {
					t.Fatalf("level %s: the cache's token %d was computed for another history", d.Name, i)
				}
			}
			if !slices.Equal(d.history, top.history) {
				t.Fatalf("level %s: history %v, topmost %v", d.Name, d.history, top.history)
			}
			for _, below := range d.Below {
				check(below)
			}
		case *NGram:
			if !slices.Equal(d.history, top.history) {
				t.Fatalf("ngram: history %v, topmost %v", d.history, top.history)
			}
		case FirstOf:
			for _, below := range d {
				check(below)
			}
		}
	}
	check(top)
}

// wide proposes nothing itself: it is a fake whose cache forgets more than it is
// told to, as a streaming cache may.
type wide struct {
	*fake
	slack int
}

func (w *wide) Truncate(n int) { w.fake.Truncate(max(0, n-w.slack)) }

// bush proposes random trees, or chains, of tokens in the world: an ideal subject
// for the rules, as it draws by sequential sampling without replacement from
// distributions that it invents.
type bush struct {
	world   world
	shape   []int // children offered at each position for every node, nil = chain
	history []int32
	rule    Rule
	dice    dice
	sampler *sample.Sampler
	p       Proposal
}

func (b *bush) Reset(r Request) {
	b.history = append(b.history[:0], r.History...)
	b.rule, b.dice = r.Rule, r.dice
	b.sampler = sample.New(r.Sampling)
	if b.sampler.Greedy() {
		b.rule = Coupled
	}
}
func (b *bush) Accept(base int, kept []int32) { b.history = append(b.history[:base], kept...) }
func (b *bush) Commit(int)                    {}

func (b *bush) Draft(_ context.Context, n int, _ Bar) (Proposal, error) {
	p := Proposal{Parents: []int32{}}
	row := make([]float32, b.world.vocab)
	f := fake{world: b.world, bias: 99, error: b.world.scale}
	var grow func(parent int32, path []int32, depth int)
	grow = func(parent int32, path []int32, depth int) {
		if depth == min(n, len(b.shape)) {
			return
		}
		hash := b.world.seed
		for _, token := range path {
			hash = scramble(hash, uint64(token)+77)
		}
		f.logits(row, hash)
		var children []int32
		var q []sample.Dist
		if b.rule == Coupled {
			children = b.sampler.Rank(nil, row, path, b.shape[depth])
		} else {
			var all, left sample.Dist
			b.sampler.Dist(&all, row, path)
			left.Set(&all)
			for range b.shape[depth] {
				token := b.dice.draw(&left)
				children, q = append(children, token), append(q, all)
				if !left.Remove(token) {
					break
				}
			}
		}
		first := int32(len(p.Tokens))
		for range children {
			p.Parents, p.Origin = append(p.Parents, parent), append(p.Origin, 9)
		}
		p.Tokens, p.Q = append(p.Tokens, children...), append(p.Q, q...)
		for i, token := range children {
			grow(first+int32(i), append(slices.Clone(path), token), depth+1)
		}
	}
	grow(-1, b.history, 0)
	return p, nil
}
