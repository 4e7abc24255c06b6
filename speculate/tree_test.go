package speculate

import (
	"context"
	"slices"
	"testing"

	"triforce/sample"
)

// TestBranches: a position's candidates are siblings, the level's own token first;
// only that one is continued, and greedy candidates are the largest logits.
func TestBranches(t *testing.T) {
	w := world{vocab: 9, seed: 4, scale: 3}
	for _, rule := range []Rule{Coupled, Rejection} {
		for _, temp := range []float64{0, 0.9} {
			r := request(rule, sample.Options{Temp: temp, TopP: 1, RepeatPenalty: 1, Seed: 6})
			chain := New(Config{Name: "draft", Origin: 1, Verifier: newFake(t, w, 0, 0)})
			tree := New(Config{Name: "draft", Origin: 1, Verifier: newFake(t, w, 0, 0), Branches: []int{3, 0, 2}})
			chain.Reset(r)
			tree.Reset(r)
			q, err := tree.Draft(context.Background(), 4, Bar{})
			if err != nil {
				t.Fatal(err)
			}
			if want := []int32{-1, -1, -1, 0, 3, 3, 4}; !slices.Equal(q.Parents, want) {
				t.Fatalf("parents %v, want %v", q.Parents, want)
			}
			if q.depth() != 4 || q.child(-1, 1) != 1 || q.child(0, 1) != 3 || q.child(1, 2) != -1 {
				t.Fatalf("tree %v", q.Parents)
			}
			siblings := slices.Clone(q.Tokens[:3])
			slices.Sort(siblings)
			if len(slices.Compact(siblings)) != 3 {
				t.Fatalf("siblings %v", q.Tokens[:3])
			}
			if (q.Q != nil) != (rule == Rejection && temp > 0) {
				t.Fatalf("rule %v, temperature %v: distributions %v", rule, temp, q.Q != nil)
			}
			if rule == Rejection && temp > 0 {
				continue // the siblings' numbers make the chains differ
			}
			p, err := chain.Draft(context.Background(), 4, Bar{})
			if err != nil {
				t.Fatal(err)
			}
			trunk := []int32{q.Tokens[0], q.Tokens[3], q.Tokens[4], q.Tokens[6]}
			if !slices.Equal(p.Tokens, trunk) {
				t.Fatalf("chain %v, trunk of the tree %v", p.Tokens, trunk)
			}
		}
	}
}

// TestBranchesHelp: with a poor drafter, siblings raise acceptance.
func TestBranchesHelp(t *testing.T) {
	w := world{vocab: 9, seed: 4, scale: 3}
	mean := func(rule Rule, branches ...int) float64 {
		d := New(Config{Name: "draft", Verifier: newFake(t, w, 1, w.scale), Branches: branches})
		top := New(Config{Name: "target", Verifier: newFake(t, w, 0, 0), Below: []Drafter{d}, Depth: 3})
		top.Reset(request(rule, sample.Options{Temp: 0.8, TopP: 1, RepeatPenalty: 1}))
		generate(t, top, 2000)
		s := top.Stats()
		return s.MeanAcceptance()
	}
	for _, rule := range []Rule{Coupled, Rejection} {
		chain, tree := mean(rule), mean(rule, 4, 2)
		t.Logf("%v: mean acceptance %.2f as a chain, %.2f as a tree", rule, chain, tree)
		if tree < chain+0.1 {
			t.Errorf("%v: mean acceptance %.2f as a chain, %.2f as a tree", rule, chain, tree)
		}
	}
}

func TestCut(t *testing.T) {
	p := Proposal{Tokens: []int32{1, 2, 3}, Parents: []int32{-1, -1, 0}, Q: make([]sample.Dist, 3), Origin: []uint8{1, 1, 1}}
	p.cut(5)
	if len(p.Tokens) != 3 || p.depth() != 2 {
		t.Fatalf("%+v", p)
	}
	p.cut(2)
	if len(p.Tokens) != 2 || len(p.Parents) != 2 || len(p.Q) != 2 || len(p.Origin) != 2 || p.depth() != 1 {
		t.Fatalf("%+v", p)
	}
	p.cut(0)
	if p.depth() != 0 || p.child(-1, 0) != -1 {
		t.Fatalf("%+v", p)
	}
}
