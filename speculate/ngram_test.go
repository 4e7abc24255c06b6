package speculate

import (
	"context"
	"slices"
	"testing"
)

func draft(t *testing.T, d Drafter, n int) []int32 {
	t.Helper()
	p, err := d.Draft(context.Background(), n, Bar{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Parents != nil || p.Q != nil || len(p.Origin) != len(p.Tokens) {
		t.Fatalf("proposal %+v", p)
	}
	return slices.Clone(p.Tokens)
}

func TestNGram(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []int32
		n       int
		want    []int32
	}{
		{"nothing repeats", []int32{1, 2, 3, 4, 5}, 4, nil},
		{"one token is no match", []int32{1, 2, 3, 1}, 4, nil},
		{"two tokens", []int32{7, 8, 9, 5, 7, 8}, 4, []int32{9, 5, 7, 8}},
		{"at most n", []int32{7, 8, 9, 5, 7, 8}, 1, []int32{9}},
		{"none asked for", []int32{7, 8, 9, 5, 7, 8}, 0, nil},
		{"at most twice the match", []int32{7, 8, 1, 2, 3, 4, 5, 6, 9, 7, 8}, 9, []int32{1, 2, 3, 4}},
		{"the latest occurrence", []int32{7, 8, 1, 7, 8, 2, 7, 8}, 1, []int32{2}},
		{"the longest match", []int32{5, 7, 8, 1, 6, 7, 8, 2, 5, 7, 8}, 1, []int32{1}},
		{"a period goes on", []int32{9, 1, 2, 1, 2, 1, 2}, 6, []int32{1, 2, 1, 2, 1, 2}},
		{"one token for ever", []int32{4, 4, 4}, 4, []int32{4, 4, 4, 4}},
	} {
		g := NewNGram(3)
		g.Reset(Request{History: c.history})
		g.Commit(len(c.history))
		if got := draft(t, g, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%s: proposed %v, want %v", c.name, got, c.want)
		}
	}
}

// TestNGramRewinds: what was accepted and dropped again, or replaced, is never
// proposed as if it were still there.
func TestNGramRewinds(t *testing.T) {
	g := NewNGram(3)
	g.Reset(Request{History: []int32{1, 2, 3}})
	g.Accept(3, []int32{4, 5, 6, 1, 2})
	g.Commit(8)
	if got := draft(t, g, 3); !slices.Equal(got, []int32{3, 4, 5}) {
		t.Fatalf("proposed %v", got)
	}
	g.Accept(3, []int32{9, 9, 9, 4, 5}) // 4 5 6 is gone
	if got := draft(t, g, 3); got != nil {
		t.Fatalf("proposed %v after 4 5, whose continuation was dropped", got)
	}
	g.Accept(3, []int32{9, 9, 9, 4, 5, 7, 4, 5})
	g.Commit(11)
	if got := draft(t, g, 1); !slices.Equal(got, []int32{7}) {
		t.Fatalf("proposed %v", got)
	}
	g.Accept(3, []int32{6, 7, 8, 6, 7}) // where others were indexed before
	g.Commit(8)
	if got := draft(t, g, 1); !slices.Equal(got, []int32{8}) {
		t.Fatalf("proposed %v", got)
	}
	g.Reset(Request{History: []int32{1, 2, 3, 1, 2, 5}})
	g.Commit(6)
	g.Accept(2, nil) // the latest 1 2 is now the end of the history itself
	if got := draft(t, g, 3); got != nil {
		t.Fatalf("proposed %v from beyond the history", got)
	}
	g.Reset(Request{History: []int32{4, 5}})
	g.Commit(2)
	if got := draft(t, g, 3); got != nil {
		t.Fatalf("proposed %v from the request before", got)
	}
}

// TestNGramIsBounded: an index smaller than the text forgets, it does not grow or
// invent.
func TestNGramIsBounded(t *testing.T) {
	g := NewNGram(3)
	history := make([]int32, 200_000)
	for i := range history {
		history[i] = int32(scramble(uint64(i), 1) >> 40)
	}
	copy(history[len(history)-10:], history[len(history)-1000:])
	g.Reset(Request{History: history})
	g.Commit(len(history))
	if len(g.slots) != mostSlots {
		t.Fatalf("index of %d slots", len(g.slots))
	}
	if got, want := draft(t, g, 4), history[len(history)-990:][:4]; !slices.Equal(got, want) {
		t.Fatalf("proposed %v, want %v", got, want)
	}
}

func TestFirstOf(t *testing.T) {
	w := world{vocab: 50, seed: 3, scale: 2}
	g, model := NewNGram(3), New(Config{Name: "draft", Origin: 1, Verifier: newFake(t, w, 0, 0)})
	f := FirstOf{g, model}
	f.Reset(Request{History: []int32{1, 2, 3, 1, 2}})
	f.Commit(5)
	if got := draft(t, f, 2); !slices.Equal(got, []int32{3, 1}) {
		t.Fatalf("proposed %v", got)
	}
	f.Accept(5, []int32{40})
	p, err := f.Draft(context.Background(), 2, Bar{})
	if err != nil || len(p.Tokens) != 2 || p.Origin[0] != 1 {
		t.Fatalf("%+v, %v, want two tokens of the model", p, err)
	}
	f.Accept(6, nil)
	if !slices.Equal(g.history, model.History()) || len(g.history) != 6 {
		t.Fatalf("histories %v and %v", g.history, model.History())
	}
}

func BenchmarkNGram(b *testing.B) {
	g := NewNGram(3)
	history := make([]int32, 10_000)
	for i := range history {
		history[i] = int32(scramble(uint64(i%3000), 1) % 500)
	}
	g.Reset(Request{History: history})
	for b.Loop() {
		g.Commit(len(g.history))
		p, _ := g.Draft(context.Background(), 8, Bar{})
		if len(g.history) > 30_000 {
			g.Accept(10_000, nil)
		}
		g.Accept(len(g.history), p.Tokens[:1])
	}
}
