package speculate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"triforce/sample"
)

var (
	seedFlag  = flag.Uint64("seed", 1, "seed of the random hierarchies")
	stackFlag = flag.Int("stacks", 400, "number of random hierarchies")
)

var prompt = []int32{1, 0, 2, 1, 0, 2, 1, 0}

func request(rule Rule, o sample.Options) Request {
	return Request{History: prompt, Sampling: o, Rule: rule}
}

// plainTokens is what the target generates alone.
func plainTokens(t *testing.T, w world, r Request, n int) []int32 {
	t.Helper()
	top := New(Config{Name: "plain", Verifier: newFake(t, w, 0, 0)})
	top.Reset(r)
	return generate(t, top, n)
}

func generate(t *testing.T, top *Level, n int) []int32 {
	t.Helper()
	var out []int32
	for token, err := range top.Tokens(context.Background(), n) {
		if err != nil {
			t.Fatal(err)
		}
		if token.Pos != len(prompt)+len(out) {
			t.Fatalf("token %d is at position %d", len(out), token.Pos)
		}
		out = append(out, token.ID)
	}
	return out
}

// ticking is a clock of random steps, for controllers to be led astray by.
func ticking(rng *rand.Rand) func() time.Duration {
	var now time.Duration
	return func() time.Duration {
		now += time.Duration(rng.IntN(1000)) * time.Microsecond
		return now
	}
}

// randomStack is a hierarchy over a target of the given world.
func randomStack(t testing.TB, rng *rand.Rand, w world) (*Level, string) {
	var about string
	say := func(format string, args ...any) { about += fmt.Sprintf(format, args...) }
	clock := ticking(rng)
	depth := func() int {
		d := 0
		if rng.IntN(2) == 0 {
			d = 1 + rng.IntN(9)
		}
		say(" depth %d", d)
		return d
	}
	model := func(bias uint64, size float32) *fake {
		f := newFake(t, w, bias, size)
		f.maxRows = []int{1, 2, 5, 12, 32}[rng.IntN(5)]
		if rng.IntN(8) == 0 {
			f.size = len(prompt) + 5 + rng.IntN(20) // full before the end
		}
		say(" rows %d size %d", f.maxRows, f.size)
		return f
	}
	small := func() Drafter {
		say(" [draft")
		c := Config{Name: "draft", Origin: 1, Clock: clock}
		f := model(1, w.scale*rng.Float32())
		c.Verifier = f
		if rng.IntN(3) == 0 {
			c.Verifier = &wide{f, rng.IntN(4)}
			say(" forgetful")
		}
		if rng.IntN(3) == 0 {
			c.Branches = []int{1 + rng.IntN(3), rng.IntN(4), rng.IntN(3)}
			say(" branches %v", c.Branches)
		}
		say("]")
		return New(c)
	}
	target := newFake(t, w, 0, 0)
	target.maxRows = []int{1, 3, 8, 32}[rng.IntN(4)]
	say("target rows %d", target.maxRows)
	pool := []Drafter{small(), NewNGram(3)}
	pool = append(pool, FirstOf{pool[1], pool[0]}, &bush{world: w, shape: []int{2, 1, 2, 1}})
	for range rng.IntN(3) {
		say(" [middle")
		f := model(2, w.scale*rng.Float32()*0.3)
		if rng.IntN(2) == 0 {
			f.full = target
			say(" view")
		}
		c := Config{Name: "middle", Origin: 2, Verifier: f, Clock: clock, Depth: depth()}
		for i, d := range pool {
			if rng.IntN(3) == 0 {
				c.Below = append(c.Below, d)
				say(" over %d", i)
			}
		}
		say("]")
		pool = append(pool, New(c))
	}
	c := Config{Name: "target", Verifier: target, Clock: clock, Depth: depth()}
	for i, d := range pool {
		if rng.IntN(2) == 0 {
			c.Below = append(c.Below, d)
			say(" over %d", i)
		}
	}
	return New(c), about
}

func randomOptions(rng *rand.Rand) sample.Options {
	o := sample.Options{TopP: 1, RepeatPenalty: 1, RepeatLastN: 64, Seed: rng.Uint64()}
	if rng.IntN(4) > 0 {
		o.Temp = 0.3 + 0.9*rng.Float64()
	}
	if rng.IntN(2) == 0 {
		o.TopK = 1 + rng.IntN(8)
	}
	if rng.IntN(2) == 0 {
		o.TopP = 0.3 + 0.7*rng.Float64()
	}
	if rng.IntN(2) == 0 {
		o.MinP = 0.2 * rng.Float64()
	}
	if rng.IntN(2) == 0 {
		o.RepeatPenalty = 0.8 + rng.Float64()
		o.RepeatLastN = []int{-1, 0, 3, 64}[rng.IntN(4)]
	}
	return o
}

// TestSameTokensAsPlain: random hierarchies, depths, trees, options and clocks
// generate what the target alone does.
func TestSameTokensAsPlain(t *testing.T) {
	for i := range *stackFlag {
		seed := *seedFlag + uint64(i)
		rng := rand.New(rand.NewPCG(seed, 0))
		w := world{vocab: 3 + rng.IntN(12), seed: rng.Uint64(), scale: 1 + 4*rng.Float32()}
		o := randomOptions(rng)
		top, about := randomStack(t, rng, w)
		r := request(Coupled, o)
		if o.Temp == 0 && rng.IntN(2) == 0 {
			r.Rule = Rejection // greedy under either rule
		}
		for range 2 { // the second request meets warm caches and controllers
			n := 1 + rng.IntN(60)
			want := plainTokens(t, w, r, n)
			top.Reset(r)
			got := generate(t, top, n)
			if !slices.Equal(got, want) {
				t.Fatalf("%s\n%v\ngot  %v\nwant %v\nreplay: go test ./speculate -run %s -seed %d -stacks 1",
					about, o, got, want, t.Name(), seed)
			}
			if len(top.Stats().ProposedAt) > MaxDepth {
				t.Fatalf("proposals over %d positions", len(top.Stats().ProposedAt))
			}
			consistent(t, top)
		}
	}
}

// threeLevels is the full hierarchy over one world.
func threeLevels(t testing.TB, w world, outer, inner int) (*Level, []*fake) {
	target, view, small := newFake(t, w, 0, 0), newFake(t, w, 2, w.scale*0.15), newFake(t, w, 1, w.scale*0.5)
	view.full = target
	draft := New(Config{Name: "draft", Origin: 1, Verifier: small})
	middle := New(Config{Name: "middle", Origin: 2, Verifier: view, Below: []Drafter{draft}, Depth: inner})
	top := New(Config{Name: "target", Origin: 3, Verifier: target, Below: []Drafter{middle}, Depth: outer})
	return top, []*fake{target, view, small}
}

// TestFaults: whichever pass of whichever level fails, before or in the middle,
// every level is back at the history before the round, and the generation that
// goes on from there is that of plain decoding.
func TestFaults(t *testing.T) {
	w := world{vocab: 6, seed: 5, scale: 3}
	for _, rule := range []Rule{Coupled, Rejection} {
		r := request(rule, sample.Options{Temp: 0.8, TopP: 1, RepeatPenalty: 1.1, RepeatLastN: 8, Seed: 3})
		stacks := map[string]func() (*Level, []*fake){
			"chain": func() (*Level, []*fake) { return threeLevels(t, w, 6, 3) },
			"tree": func() (*Level, []*fake) {
				top, fakes := threeLevels(t, w, 4, 3)
				draft := top.Below[0].(*Level).Below[0].(*Level)
				draft.Branches = []int{3, 2}
				return top, fakes
			},
		}
		for name, build := range stacks {
			reference, _ := build()
			reference.Reset(r)
			want := generate(t, reference, 30)
			if rule == Coupled && !slices.Equal(want, plainTokens(t, w, r, 30)) {
				t.Fatalf("%s: reference differs from plain", name)
			}
			for level := range 3 {
				for _, half := range []bool{false, true} {
					failed := 0
					for at := 1; ; at++ {
						top, fakes := build()
						top.Reset(r)
						fakes[level].failAt, fakes[level].half = at, half
						var got []int32
						for len(got) < 30 {
							before := slices.Clone(top.History())
							tokens, err := top.Round(context.Background(), 30-len(got))
							if err != nil {
								if !errors.Is(err, errInjected) {
									t.Fatal(err)
								}
								if !slices.Equal(before, top.History()) {
									t.Fatalf("history %v after the error, %v before", top.History(), before)
								}
								failed++
							}
							consistent(t, top)
							for _, token := range tokens {
								got = append(got, token.ID)
							}
						}
						if rule == Coupled && !slices.Equal(got, want) {
							t.Fatalf("%s: level %d, call %d failed: got %v, want %v", name, level, at, got, want)
						}
						if fakes[level].calls < at {
							break
						}
					}
					if failed < 5 {
						t.Fatalf("%s %v: level %d failed %d times only", name, rule, level, failed)
					}
				}
			}
		}
	}
}

// TestReplayAfterFault: a round that failed is drawn again with the same numbers,
// so an interrupted generation under the rejection rule ends in the same text.
func TestReplayAfterFault(t *testing.T) {
	w := world{vocab: 6, seed: 8, scale: 2}
	r := request(Rejection, sample.Options{Temp: 1, TopP: 1, RepeatPenalty: 1, Seed: 4})
	top, _ := threeLevels(t, w, 4, 2)
	top.Reset(r)
	want := generate(t, top, 40)

	// A view that missed a commit would draft otherwise; so the failure is in the
	// topmost pass, after all drafting.
	top, fakes := threeLevels(t, w, 4, 2)
	top.Reset(r)
	fakes[0].failAt = 4
	var got []int32
	for len(got) < 40 {
		tokens, err := top.Round(context.Background(), 40-len(got))
		if err != nil && !errors.Is(err, errInjected) {
			t.Fatal(err)
		}
		for _, token := range tokens {
			got = append(got, token.ID)
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

func TestCancel(t *testing.T) {
	w := world{vocab: 6, seed: 5, scale: 3}
	top, _ := threeLevels(t, w, 4, 2)
	top.Reset(request(Coupled, sample.Defaults()))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := 0
	var last error
	for _, err := range top.Tokens(ctx, 100) {
		if err != nil {
			last = err
			break
		}
		if n++; n == 10 {
			cancel()
		}
	}
	if !errors.Is(last, context.Canceled) || n < 10 || n >= 20 {
		t.Fatalf("%d tokens, then %v", n, last)
	}
	if len(top.History()) != len(prompt)+n {
		t.Fatalf("history of %d tokens after %d", len(top.History()), n)
	}
	consistent(t, top)
}

// TestStop: leaving the loop drops what the round had generated beyond.
func TestStop(t *testing.T) {
	w := world{vocab: 6, seed: 5, scale: 3}
	r := request(Coupled, sample.Defaults())
	want := plainTokens(t, w, r, 40)
	for stop := 1; stop <= 20; stop++ {
		top, _ := threeLevels(t, w, 8, 3)
		top.Reset(r)
		n := 0
		for range top.Tokens(context.Background(), 100) {
			if n++; n == stop {
				break
			}
		}
		if got := top.History()[len(prompt):]; !slices.Equal(got, want[:stop]) {
			t.Fatalf("stop after %d: history %v", stop, got)
		}
		consistent(t, top)
		for token, err := range top.Tokens(context.Background(), 5) {
			if err != nil {
				t.Fatal(err)
			}
			if token.ID != want[n] {
				t.Fatalf("stop after %d: token %d is %d, want %d", stop, n, token.ID, want[n])
			}
			n++
		}
	}
}

func TestFull(t *testing.T) {
	w := world{vocab: 6, seed: 5, scale: 3}
	r := request(Coupled, sample.Defaults())
	want := plainTokens(t, w, r, 20)
	top, fakes := threeLevels(t, w, 8, 3)
	fakes[0].size = len(prompt) + 12
	top.Reset(r)
	var got []int32
	var last error
	for token, err := range top.Tokens(context.Background(), 100) {
		if last = err; err == nil {
			got = append(got, token.ID)
		}
	}
	// The last token is drawn from the last slot's row, and needs none itself.
	if !errors.Is(last, ErrFull) || !slices.Equal(got, want[:13]) {
		t.Fatalf("%v, then %v; want %v", got, last, want[:13])
	}
	consistent(t, top)
}

// TestRowsAndOrigins: the row handed out with a token is the one it was drawn
// from, and origins name who proposed it.
func TestRowsAndOrigins(t *testing.T) {
	w := world{vocab: 9, seed: 21, scale: 3}
	o := sample.Options{Temp: 0.5, TopP: 1, RepeatPenalty: 1, Seed: 1}
	top, fakes := threeLevels(t, w, 6, 3)
	top.Reset(request(Coupled, o))
	s := sample.New(o)
	var by [4]int
	for token, err := range top.Tokens(context.Background(), 300) {
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Draw(token.Row, top.History()[:token.Pos]); got != token.ID {
			t.Fatalf("position %d: token %d, its row says %d", token.Pos, token.ID, got)
		}
		by[token.Origin]++
	}
	stats := top.Stats()
	if by[0] != 0 || by[1]+by[2] != stats.Accepted || by[3] != 300-stats.Accepted || by[1] == 0 || by[2] == 0 {
		t.Fatalf("tokens by origin %v, accepted %d", by, stats.Accepted)
	}
	if stats.Passes != fakes[0].calls || stats.Rounds > stats.Passes || stats.Proposed < stats.Accepted {
		t.Fatalf("%+v after %d calls", stats, fakes[0].calls)
	}
	sum := 0
	for i, n := range stats.AcceptedAt {
		if sum += n; n > stats.ProposedAt[i] {
			t.Fatalf("%+v", stats)
		}
	}
	if sum != stats.Accepted {
		t.Fatalf("accepted %d, by position %d", stats.Accepted, sum)
	}
	if got, want := stats.MeanAcceptance(), 1+float64(stats.Accepted)/float64(stats.Rounds); got != want {
		t.Fatalf("mean acceptance %v, want %v", got, want)
	}
}

// TestCommit: before each round, every level learns once how much is final, and the
// view has taken over the topmost cache.
func TestCommit(t *testing.T) {
	w := world{vocab: 9, seed: 21, scale: 3}
	top, fakes := threeLevels(t, w, 6, 3)
	top.Reset(request(Coupled, sample.Defaults()))
	var want []int
	for range 20 {
		want = append(want, len(top.History()))
		if _, err := top.Round(context.Background(), 100); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range fakes {
		if !slices.Equal(f.commits, want) {
			t.Errorf("verifier %d: committed %v, want %v", i, f.commits, want)
		}
	}
	// The view computes its own passes only: nothing is fed to it twice or late.
	middle := top.Below[0].(*Level).Stats()
	if draft := middle.Proposed + middle.Passes; middle.Rows > draft+len(prompt) {
		t.Errorf("the view was fed %d tokens in %d passes over %d proposed", middle.Rows, middle.Passes, middle.Proposed)
	}
}

// TestDraftEqualsTarget: with equal models everything is accepted.
func TestDraftEqualsTarget(t *testing.T) {
	w := world{vocab: 9, seed: 2, scale: 3}
	for _, rule := range []Rule{Coupled, Rejection} {
		top, fakes := threeLevels(t, w, 7, 3)
		fakes[1].error, fakes[2].error = 0, 0
		top.Reset(request(rule, sample.Defaults()))
		generate(t, top, 100)
		for l := top; len(l.Below) > 0; l = l.Below[0].(*Level) {
			if s := l.Stats(); s.Proposed == 0 || s.Accepted != s.Proposed {
				t.Errorf("%v: level %s accepted %d of %d", rule, l.Name, s.Accepted, s.Proposed)
			}
		}
	}
}

// TestAllocations: after warm-up a token allocates nothing.
func TestAllocations(t *testing.T) {
	w := world{vocab: 50, seed: 5, scale: 3}
	for _, rule := range []Rule{Coupled, Rejection} {
		for _, depth := range []int{0, 5} {
			top, _ := threeLevels(t, w, depth, depth)
			ngram := NewNGram(4)
			top.Below = append(top.Below, ngram, FirstOf{ngram, top.Below[0]})
			var now time.Duration
			top = New(Config{Name: "target", Verifier: top.Verifier, Below: top.Below, Depth: depth,
				Clock: func() time.Duration { now += time.Millisecond; return now }})
			o := sample.Defaults()
			o.RepeatPenalty = 1.1
			top.Reset(request(rule, o))
			generate(t, top, 3000)
			top.Reset(request(rule, o)) // buffers stay
			round := func() {
				if _, err := top.Round(context.Background(), 100); err != nil {
					t.Fatal(err)
				}
			}
			for range 50 {
				round()
			}
			if n := testing.AllocsPerRun(200, round); n != 0 {
				t.Errorf("%v, depth %d: %v allocations a round", rule, depth, n)
			}
		}
	}
}
