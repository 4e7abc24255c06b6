package speculate

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"triforce/sample"
)

var drawsFlag = flag.Int("draws", 1_200_000, "tokens drawn by TestChiSquare")

// every makes the random choices of a run in all possible ways, one after the
// other, and knows the probability of each.
type every struct {
	weight float64
	at     int
	taken  []int       // the choices of this run, in order
	chance [][]float64 // the probabilities of the options of each
}

// pick is an option of the next choice.
func (e *every) pick(chance ...float64) int {
	if e.at == len(e.taken) {
		e.taken, e.chance = append(e.taken, 0), append(e.chance, chance)
		e.skip()
	}
	option := e.taken[e.at]
	e.weight *= e.chance[e.at][option]
	e.at++
	return option
}

// skip moves the last choice past impossible options; it says whether any is left.
func (e *every) skip() bool {
	last := len(e.taken) - 1
	for e.taken[last] < len(e.chance[last]) && e.chance[last][e.taken[last]] <= 0 {
		e.taken[last]++
	}
	return e.taken[last] < len(e.chance[last])
}

// next prepares the run after this one, if there is one.
func (e *every) next() bool {
	e.at, e.weight = 0, 1
	for len(e.taken) > 0 {
		last := len(e.taken) - 1
		e.taken[last]++
		if e.skip() {
			return true
		}
		e.taken, e.chance = e.taken[:last], e.chance[:last]
	}
	return false
}

func (e *every) accept(p float64) bool {
	p = min(p, 1)
	return e.pick(p, 1-p) == 0
}

func (e *every) draw(d *sample.Dist) int32 {
	chance := make([]float64, d.Len())
	for i := range chance {
		_, chance[i] = d.At(i)
	}
	token, _ := d.At(e.pick(chance...))
	return token
}

func (e *every) commit(int) {}

// plainChances is the probability of every text of n tokens by plain decoding.
func plainChances(w world, r Request, n int) map[string]float64 {
	out := map[string]float64{}
	s := sample.New(r.Sampling)
	f := fake{world: w}
	var grow func(history []int32, p float64)
	grow = func(history []int32, p float64) {
		if len(history) == len(r.History)+n {
			out[fmt.Sprint(history[len(r.History):])] = p
			return
		}
		hash := w.seed
		for _, token := range history {
			hash = scramble(hash, uint64(token)+77)
		}
		row := make([]float32, w.vocab)
		f.logits(row, hash)
		var d sample.Dist
		s.Dist(&d, row, history)
		for i := range d.Len() {
			token, q := d.At(i)
			grow(append(slices.Clone(history), token), p*q)
		}
	}
	grow(r.History, 1)
	return out
}

// exactCase is a hierarchy to be judged as a distribution of texts.
type exactCase struct {
	name   string
	vocab  int
	tokens int
	build  func(t testing.TB, w world) *Level
}

func exactCases() []exactCase {
	draft := func(t testing.TB, w world, branches ...int) *Level {
		return New(Config{Name: "draft", Verifier: newFake(t, w, 1, w.scale), Branches: branches})
	}
	over := func(t testing.TB, w world, depth int, below Drafter) *Level {
		return New(Config{Name: "target", Verifier: newFake(t, w, 0, 0), Below: []Drafter{below}, Depth: depth})
	}
	middle := func(t testing.TB, w world, depth int, below Drafter) *Level {
		return New(Config{Name: "middle", Verifier: newFake(t, w, 2, w.scale/2), Below: []Drafter{below}, Depth: depth})
	}
	return []exactCase{
		{"one level, chain", 4, 3, func(t testing.TB, w world) *Level { return over(t, w, 2, draft(t, w)) }},
		{"one level, long chain", 3, 4, func(t testing.TB, w world) *Level { return over(t, w, 3, draft(t, w)) }},
		{"one level, branches", 4, 3, func(t testing.TB, w world) *Level { return over(t, w, 2, draft(t, w, 3, 2)) }},
		{"one level, tree", 3, 3, func(t testing.TB, w world) *Level {
			return over(t, w, 2, &bush{world: w, shape: []int{2, 2}})
		}},
		{"one level, points", 4, 4, func(t testing.TB, w world) *Level { return over(t, w, 2, NewNGram(0)) }},
		{"two levels, chain", 3, 3, func(t testing.TB, w world) *Level {
			return over(t, w, 2, middle(t, w, 1, draft(t, w)))
		}},
		{"two levels, longer", 2, 4, func(t testing.TB, w world) *Level {
			return over(t, w, 3, middle(t, w, 2, draft(t, w)))
		}},
		{"two levels, inner rounds", 3, 4, func(t testing.TB, w world) *Level {
			return over(t, w, 3, middle(t, w, 1, draft(t, w)))
		}},
		{"one level, ends in doubt", 3, 4, func(t testing.TB, w world) *Level { return over(t, w, 3, picky{draft(t, w), 0.5}) }},
		{"two levels, end in doubt", 2, 4, func(t testing.TB, w world) *Level {
			return over(t, w, 3, picky{middle(t, w, 2, picky{draft(t, w), 0.6}), 0.4})
		}},
		{"two levels, branches", 3, 3, func(t testing.TB, w world) *Level {
			return over(t, w, 2, middle(t, w, 1, draft(t, w, 2)))
		}},
		{"two levels, tree", 3, 3, func(t testing.TB, w world) *Level {
			return over(t, w, 2, middle(t, w, 1, &bush{world: w, shape: []int{2}}))
		}},
	}
}

// picky asks a level for no token that is accepted with less than a chance.
type picky struct {
	*Level
	chance float64
}

func (p picky) Reset(r Request) {
	p.Level.Reset(r)
	p.trust = trust{prior: 0.8} // so that a run does not depend on the one before
}

func (p picky) Draft(ctx context.Context, n int, _ Bar) (Proposal, error) {
	return p.Level.Draft(ctx, n, Bar{p.chance, p.chance})
}

// TestRejectionExactly enumerates every random choice of the real loop and adds
// up the probabilities of the texts: they are those of plain decoding.
func TestRejectionExactly(t *testing.T) {
	for _, c := range exactCases() {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 7))
			runs := 0
			for trial := range 4 {
				w := world{vocab: c.vocab, seed: rng.Uint64(), scale: 1 + 2*rng.Float32()}
				o := sample.Options{Temp: 0.5 + rng.Float64(), TopP: 1, RepeatPenalty: 1, RepeatLastN: 3}
				if trial%2 == 1 {
					o.TopK, o.RepeatPenalty = c.vocab-1, 1.3
				}
				var dice every
				r := Request{History: prompt, Sampling: o, Rule: Rejection, dice: &dice}
				r.History = slices.Clone(r.History)
				for i, token := range r.History {
					r.History[i] = token % int32(c.vocab)
				}
				want := plainChances(w, r, c.tokens)
				got := map[string]float64{}
				top := c.build(t, w)
				dice.next()
				for more := true; more; more = dice.next() {
					top.Reset(r)
					text := make([]int32, 0, 8)
					for len(text) < c.tokens {
						tokens, err := top.Round(context.Background(), c.tokens-len(text))
						if err != nil {
							t.Fatal(err)
						}
						for _, token := range tokens {
							text = append(text, token.ID)
						}
					}
					got[fmt.Sprint(text)] += dice.weight
					runs++
				}
				for text, p := range got {
					if math.Abs(p-want[text]) > 1e-12 {
						t.Fatalf("trial %d: text %s has probability %v, plain %v", trial, text, p, want[text])
					}
				}
				for text, p := range want {
					if p > 1e-12 && got[text] == 0 {
						t.Fatalf("trial %d: text %s never comes up, plain %v", trial, text, p)
					}
				}
			}
			t.Logf("%d runs", runs)
		})
	}
}

// TestChiSquare draws texts through the real loop with the real numbers, under
// both rules, and compares how often each comes up with its probability.
func TestChiSquare(t *testing.T) {
	cases := exactCases()
	share := *drawsFlag / (2 * len(cases))
	for _, c := range cases {
		for _, rule := range []Rule{Coupled, Rejection} {
			t.Run(fmt.Sprintf("%s, %v", c.name, rule), func(t *testing.T) {
				w := world{vocab: c.vocab, seed: 11, scale: 1}
				o := sample.Options{Temp: 0.8, TopP: 1, RepeatPenalty: 1.2, RepeatLastN: 2}
				r := Request{History: []int32{0, 1, 0, 1, 0}, Sampling: o, Rule: rule}
				want := plainChances(w, r, c.tokens)
				got := map[string]int{}
				names := map[[4]int32]int{}
				top := c.build(t, w)
				n := share / c.tokens
				for i := range n {
					r.Sampling.Seed = uint64(i)
					top.Reset(r)
					var text [4]int32
					for at := 0; at < c.tokens; {
						tokens, err := top.Round(context.Background(), c.tokens-at)
						if err != nil {
							t.Fatal(err)
						}
						for _, token := range tokens {
							text[at] = token.ID
							at++
						}
					}
					names[text]++
				}
				for text, k := range names {
					got[fmt.Sprint(text[:c.tokens])] = k
				}
				var chi, rest float64
				cells, restGot := 0, 0
				for text, p := range want {
					expect := p * float64(n)
					if expect < 8 { // too rare for its own cell
						rest += expect
						restGot += got[text]
						continue
					}
					d := float64(got[text]) - expect
					chi += d * d / expect
					cells++
				}
				if rest >= 8 {
					d := float64(restGot) - rest
					chi += d * d / rest
					cells++
				}
				// Wilson and Hilferty: the cube root of chi/k is nearly normal.
				k := float64(cells - 1)
				z := (math.Cbrt(chi/k) - (1 - 2/(9*k))) / math.Sqrt(2/(9*k))
				t.Logf("%d texts, chi-square %.1f over %d cells, z = %.2f", n, chi, cells, z)
				if z > 4 {
					t.Errorf("chi-square %.1f over %d cells: z = %.2f", chi, cells, z)
				}
			})
		}
	}
}
