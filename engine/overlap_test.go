package engine

import (
	"context"
	"flag"
	"math"
	"os"
	"slices"
	"testing"

	"triforce/kvcache"
	"triforce/model"
	"triforce/speculate"
)

var (
	overlapText  = flag.String("overlap", "", "text on which to compare what views and the full cache predict")
	overlapModel = flag.String("overlap-model", "", "the model to do it with, the embedded one if empty")
	overlapDepth = flag.Int("overlap-depth", 16384, "tokens of the text before the comparison")
	overlapRows  = flag.Int("overlap-rows", massRows, "newest rows of a pass whose attention ranks chunks")
	overlapFar   = flag.Bool("overlap-far", false, "compare where the text quotes its first page")
)

// TestOverlap measures how well retrieved views of different kinds agree with
// the full cache: Σ min(p, q) at temperature 0.6 over rounds of 8 tokens of a
// text, each view refreshed after each round, as in speculation.
//
//	go test ./engine -run TestOverlap -v -overlap book.txt
func TestOverlap(t *testing.T) {
	if *overlapText == "" {
		t.Skip("a measurement: name a text with -overlap")
	}
	const rounds, width, skipped = 24, 8, 100000
	ctx := context.Background()
	e, err := Open(ctx, *overlapModel, Defaults())
	if err != nil {
		t.Fatal(err)
	}
	book, err := os.ReadFile(*overlapText)
	if err != nil {
		t.Fatal(err)
	}
	depth := *overlapDepth
	ids := e.file.Encode(string(book[min(skipped, len(book)):]))
	if len(ids) < depth+rounds*width {
		t.Fatalf("%s has %d tokens after the first %d bytes, expected %d", *overlapText, len(ids), skipped, depth+rounds*width)
	}
	if *overlapFar {
		const quoted = 24 // tokens of the quotation that are read before the comparison
		ids = slices.Concat(ids[:depth-quoted], ids[:quoted+rounds*width])
	}
	s := e.NewSession()
	defer s.Close()
	s.cache.Record(kvcache.NewMass(s.cache.Shape(), s.e.model.Heads/s.e.model.KVHeads, *overlapRows))
	for at := 0; at < depth; at += e.opt.Batch {
		if err := s.run.Forward(ctx, s.cache, model.Batch{Tokens: ids[at:min(at+e.opt.Batch, depth)]}); err != nil {
			t.Fatal(err)
		}
	}
	kinds := []struct {
		name string
		opt  kvcache.ViewOptions
	}{
		{"mass", kvcache.ViewOptions{Window: 64}},
		{"mean", kvcache.ViewOptions{Window: 64, Rule: kvcache.ByMean}},
		{"window", kvcache.ViewOptions{}},
		{"mass, chunks of 32", kvcache.ViewOptions{Window: 64, Chunk: 32}},
		{"mass, chunks of 64", kvcache.ViewOptions{Window: 64, Chunk: 64}},
		{"mass, window of 128", kvcache.ViewOptions{Window: 128}},
	}
	budgets := []int{256, 512, 1024, 2048}
	var views []*kvcache.View
	for _, k := range kinds {
		for _, b := range budgets {
			o := k.opt
			o.Budget, o.Sinks = b, 16
			if o.Window == 0 {
				o.Window = b - o.Sinks
			}
			if o.Chunk == 0 {
				o.Chunk = 16
			}
			views = append(views, kvcache.NewView(e.set, s.cache, s.b.team, o))
		}
	}
	overlap := make([]float64, len(views))
	for r := range rounds {
		tokens := ids[depth+r*width:][:width]
		pass := func(c kvcache.Cache) (p [width][]float64) {
			if err := s.run.Forward(ctx, c, model.Batch{Tokens: tokens, Logits: width}); err != nil {
				t.Fatal(err)
			}
			for i := range p {
				p[i] = softmax(s.run.Logits(i), 0.6)
			}
			return p
		}
		var q [][width][]float64
		for _, v := range views {
			v.Refresh()
			q = append(q, pass(v))
		}
		for i, p := range pass(s.cache) {
			for j := range views {
				for k := range p {
					overlap[j] += math.Min(p[k], q[j][i][k]) / (rounds * width)
				}
			}
		}
	}
	t.Logf("%-24s %v", "budget", budgets)
	for i, k := range kinds {
		t.Logf("%-24s %.3f", k.name, overlap[i*len(budgets):(i+1)*len(budgets)])
	}
}

// TestLeads measures how often tokens of a view and of the draft are accepted, by
// their lead: in rounds of 16 tokens that go on after a text.
//
//	go test ./engine -run TestLeads -v -overlap book.txt
func TestLeads(t *testing.T) {
	if *overlapText == "" {
		t.Skip("a measurement: name a text with -overlap")
	}
	e, _ := embeddedPair(t)
	book, err := os.ReadFile(*overlapText)
	if err != nil {
		t.Fatal(err)
	}
	prompt := e.file.Encode(string(book))[:*overlapDepth]
	s := e.NewSession()
	defer s.Close()
	t.Logf("leads %v", speculate.Leads())
	for _, mode := range []string{SpecRetrieval, SpecDraft} {
		for _, temp := range []float64{0, 0.6, 1} {
			g := greedy(384)
			g.Sample.Temp, g.Spec.Mode, g.Spec.Outer = temp, mode, 16
			if _, err := s.Generate(context.Background(), prompt, g, func(Token) error { return nil }); err != nil {
				t.Fatal(err)
			}
			below := s.Levels()[1]
			var share []float64
			for i, n := range below.Judged {
				share = append(share, math.Round(1000*float64(below.Trusted[i])/float64(n))/1000)
			}
			t.Logf("%s, temperature %v: judged %v, accepted %v", mode, temp, below.Judged, share)
		}
	}
}

func softmax(logits []float32, temp float64) []float64 {
	largest, sum := math.Inf(-1), 0.0
	for _, l := range logits {
		largest = math.Max(largest, float64(l))
	}
	p := make([]float64, len(logits))
	for i, l := range logits {
		p[i] = math.Exp((float64(l) - largest) / temp)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}
