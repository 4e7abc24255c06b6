package engine

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"github.com/dustin/go-humanize"
)

var (
	beyondModel  = flag.String("beyond", "", "the model of TestBeyondMemory")
	beyondDepth  = flag.Int("beyond-depth", 32<<10-64, "tokens in its cache")
	beyondRAM    = flag.String("beyond-ram", "1200MB", "memory for keys and values")
	beyondDir    = flag.String("beyond-dir", "", "folder for the rest of them")
	beyondTokens = flag.Int("beyond-tokens", 16, "tokens to generate")
)

// A model whose keys and values do not fit into memory generates after a long
// text, plainly and with drafts, the same tokens, and takes no more memory than
// its weights and what it was allowed, and 15% of that. Reading the text would
// take an hour, so the cache is filled with noise, by the way that keys and
// values of a prompt go; all else is what sessions do.
func TestBeyondMemory(t *testing.T) {
	if *beyondModel == "" {
		t.Skip("a measurement: name a model with -beyond")
	}
	ram, err := humanize.ParseBytes(*beyondRAM)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	o := Defaults()
	o.Context, o.KVRAM, o.KVDir = *beyondDepth+*beyondTokens+1, int64(ram), *beyondDir
	start := time.Now()
	e, err := Open(ctx, *beyondModel, o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	t.Logf("loaded in %v: weights %v", time.Since(start), Bytes(e.WeightBytes()))
	s := e.NewSession()
	defer s.Close()
	start = time.Now()
	if err := s.fill(ctx, *beyondDepth); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d tokens of noise in %v: %v on disk", *beyondDepth, time.Since(start), Bytes(s.Disk().Bytes))
	s.tokens = make([]int32, *beyondDepth)
	var plain []int32
	for _, mode := range []string{SpecPlain, SpecNGram, SpecRetrieval} {
		g := greedy(*beyondTokens)
		g.IgnoreEOS, g.Spec.Mode, g.Spec.Budget = true, mode, 1024
		var got []int32
		prompt := slices.Concat(s.tokens[:*beyondDepth], []int32{7})
		r, err := s.Generate(ctx, prompt, g, func(tok Token) error {
			if tok.ID >= 0 {
				got = append(got, tok.ID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		top := s.Levels()[0]
		t.Logf("%s: %d tokens in %v (%v before the first), %d passes over everything; read %v at %v a second, waited %v; the most memory until now %v",
			mode, r.Predicted, r.PredictTime, r.PromptTime, top.Passes, Bytes(r.Disk.Read), Bytes(r.Disk.Bandwidth()), r.Disk.Waiting, Bytes(PeakBytes()))
		if plain == nil {
			plain = got
		}
		if !slices.Equal(got, plain) {
			t.Errorf("%s: tokens %v, plain decoding %v", mode, got, plain)
		}
	}
	if peak, most := PeakBytes(), (e.WeightBytes()+o.KVRAM)*115/100; peak == 0 || peak > most {
		t.Errorf("peak memory %v, expected at most %v", Bytes(peak), Bytes(most))
	}
}
