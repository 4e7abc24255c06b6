package sample

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for flag, change := range map[string]func(*Options){
		"--temp -1":             func(o *Options) { o.Temp = -1 },
		"--temp NaN":            func(o *Options) { o.Temp = math.NaN() },
		"--temp +Inf":           func(o *Options) { o.Temp = math.Inf(1) },
		"--top-k -1":            func(o *Options) { o.TopK = -1 },
		"--top-p 0":             func(o *Options) { o.TopP = 0 },
		"--top-p 1.1":           func(o *Options) { o.TopP = 1.1 },
		"--top-p NaN":           func(o *Options) { o.TopP = math.NaN() },
		"--min-p -0.1":          func(o *Options) { o.MinP = -0.1 },
		"--min-p 2":             func(o *Options) { o.MinP = 2 },
		"--repeat-penalty 0":    func(o *Options) { o.RepeatPenalty = 0 },
		"--repeat-penalty +Inf": func(o *Options) { o.RepeatPenalty = math.Inf(1) },
		"--repeat-last-n -2":    func(o *Options) { o.RepeatLastN = -2 },
	} {
		o := Defaults()
		change(&o)
		if err := o.Validate(); err == nil || !strings.HasPrefix(err.Error(), "sample: "+flag+": expected") {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestString(t *testing.T) {
	o := Defaults()
	o.Seed = 5
	if got, want := o.String(), "temp 0.8, top-k 40, top-p 0.95, min-p 0.05, repeat penalty off, seed 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	o.Temp, o.RepeatPenalty = 0, 1.1
	if got, want := o.String(), "greedy, repeat penalty 1.1 over 64"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// reference is the processed distribution by sorting everything, in llama.cpp's
// order: penalties, top-k, top-p, min-p, temperature.
func reference(o Options, logits []float32, history []int32) map[int32]float64 {
	row := slices.Clone(logits)
	if o.RepeatPenalty != 1 {
		recent := history
		if o.RepeatLastN >= 0 && o.RepeatLastN < len(history) {
			recent = history[len(history)-o.RepeatLastN:]
		}
		for id := range row {
			if !slices.Contains(recent, int32(id)) {
				continue
			}
			if row[id] > 0 {
				row[id] /= float32(o.RepeatPenalty)
			} else {
				row[id] *= float32(o.RepeatPenalty)
			}
		}
	}
	var order []int
	for id, v := range row {
		if v > float32(math.Inf(-1)) {
			order = append(order, id)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case row[a] > row[b]:
			return -1
		case row[a] < row[b]:
			return 1
		}
		return 0
	})
	if o.Temp == 0 {
		return map[int32]float64{int32(order[0]): 1}
	}
	if o.TopK > 0 {
		order = order[:min(o.TopK, len(order))]
	}
	softmax := func(temp float64) []float64 {
		p := make([]float64, len(order))
		var sum float64
		for i, id := range order {
			p[i] = math.Exp((float64(row[id]) - float64(row[order[0]])) / temp)
			sum += p[i]
		}
		for i := range p {
			p[i] /= sum
		}
		return p
	}
	if o.TopP < 1 {
		var sum float64
		for i, p := range softmax(1) {
			if sum += p; sum >= o.TopP {
				order = order[:i+1]
				break
			}
		}
	}
	for i, id := range order {
		if o.MinP > 0 && row[id] < row[order[0]]+float32(math.Log(o.MinP)) {
			order = order[:i]
			break
		}
	}
	out := map[int32]float64{}
	for i, p := range softmax(o.Temp) {
		out[int32(order[i])] = p
	}
	return out
}

func randomRow(rng *rand.Rand, n int) []float32 {
	row := make([]float32, n)
	for i := range row {
		row[i] = float32(rng.NormFloat64() * 3)
		switch rng.IntN(12) {
		case 0:
			row[i] = float32(math.Round(float64(row[i]))) // ties
		case 1:
			row[i] = float32(math.Inf(-1))
		}
	}
	row[rng.IntN(n)] = 1
	return row
}

func randomOptions(rng *rand.Rand) Options {
	o := Options{Temp: 0.1 + 1.5*rng.Float64(), TopP: 1, RepeatPenalty: 1, RepeatLastN: 64, Seed: rng.Uint64()}
	if rng.IntN(2) == 0 {
		o.TopK = 1 + rng.IntN(60)
	}
	if rng.IntN(2) == 0 {
		o.TopP = 0.05 + 0.949*rng.Float64()
	}
	if rng.IntN(2) == 0 {
		o.MinP = rng.Float64() * rng.Float64()
	}
	if rng.IntN(2) == 0 {
		o.RepeatPenalty = 0.5 + 2*rng.Float64()
		o.RepeatLastN = rng.IntN(20) - 1
	}
	if rng.IntN(5) == 0 {
		o.Temp = 0
	}
	return o
}

// TestAgainstReference: distribution, draw and ranking are those of sorting all.
func TestAgainstReference(t *testing.T) {
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		o := randomOptions(rng)
		logits := randomRow(rng, 1+rng.IntN(200))
		history := make([]int32, rng.IntN(40))
		for i := range history {
			history[i] = int32(rng.IntN(len(logits) + 3)) // some beyond the vocabulary
		}
		want := reference(o, logits, history)
		kept := slices.Clone(logits)
		s := New(o)
		var d Dist
		s.Dist(&d, logits, history)
		if d.Len() != len(want) {
			t.Fatalf("seed %d, %v: %d tokens, want %d", seed, o, d.Len(), len(want))
		}
		best, token := math.Inf(-1), int32(-1)
		noise := NoiseAt(o.Seed, Coupling, len(history))
		for i := range d.Len() {
			id, p := d.At(i)
			if math.Abs(p-want[id]) > 1e-12 || d.P(id) != p {
				t.Fatalf("seed %d, %v: token %d has probability %v, want %v", seed, o, id, p, want[id])
			}
			if v := math.Log(p) + noise.Gumbel(uint64(id)); p > 0 && v > best {
				best, token = v, id
			}
		}
		if got := s.Draw(logits, history); got != token {
			t.Fatalf("seed %d, %v: drew %d, want %d", seed, o, got, token)
		}
		rank := s.Rank(nil, logits, history, 3)
		if rank[0] != token || o.Temp > 0 && len(rank) != min(3, len(want)) {
			t.Fatalf("seed %d, %v: ranked %v, drew %d of %d", seed, o, rank, token, len(want))
		}
		if o.Temp > 0 {
			for i, id := range rank[1:] {
				a := math.Log(want[rank[i]]) + noise.Gumbel(uint64(rank[i]))
				if b := math.Log(want[id]) + noise.Gumbel(uint64(id)); b > a+1e-9 {
					t.Fatalf("seed %d, %v: ranked %v", seed, o, rank)
				}
			}
		}
		for i := range logits {
			if math.Float32bits(logits[i]) != math.Float32bits(kept[i]) {
				t.Fatalf("seed %d: logit %d was changed", seed, i)
			}
		}
	}
}

func TestGreedyTies(t *testing.T) {
	s := New(Options{TopP: 1, RepeatPenalty: 1})
	row := []float32{1, 3, 3, 2, 3}
	if got := s.Draw(row, nil); got != 1 {
		t.Errorf("drew %d, want the lowest of the largest, 1", got)
	}
	if got := s.Rank(nil, row, nil, 4); !slices.Equal(got, []int32{1, 2, 4, 3}) {
		t.Errorf("ranked %v", got)
	}
	s = New(Options{TopP: 1, RepeatPenalty: 2, RepeatLastN: 1})
	if got := s.Draw(row, []int32{2, 1}); got != 2 {
		t.Errorf("drew %d, want 2: only 1 is recent", got)
	}
}

// TestBrokenLogits: what a broken model says leads to some token, not to a panic.
func TestBrokenLogits(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, row := range [][]float32{{nan, nan}, {-inf, -inf}, {nan, 1, -inf}, {inf, 1, inf}, {nan}} {
		for _, o := range []Options{Defaults(), {TopP: 1, RepeatPenalty: 1}, {Temp: 1, TopP: 1, RepeatPenalty: 1}} {
			s := New(o)
			var d Dist
			s.Dist(&d, row, nil)
			tokens := append(s.Rank(nil, row, nil, 2), s.Draw(row, nil), d.Draw(0.5))
			for _, token := range tokens {
				if token < 0 || int(token) >= len(row) {
					t.Errorf("%v, %v: tokens %v", row, o, tokens)
				}
			}
		}
	}
	if got := New(Options{TopP: 1, RepeatPenalty: 1}).Draw([]float32{nan, 1, nan}, nil); got != 1 {
		t.Errorf("drew %d beside NaN", got)
	}
}

// TestDrawFollowsDist: over positions, tokens come up as often as the processed
// distribution says.
func TestDrawFollowsDist(t *testing.T) {
	logits := []float32{2, 1, 0.5, 0, -1, 1.5}
	o := Options{Temp: 0.9, TopK: 5, TopP: 0.97, RepeatPenalty: 1, Seed: 9}
	s := New(o)
	const n = 200_000
	var d Dist
	s.Dist(&d, logits, nil)
	counts := map[int32]float64{}
	history := make([]int32, n)
	for i := range n {
		counts[s.Draw(logits, history[:i])]++
	}
	var chi float64
	for i := range d.Len() {
		id, p := d.At(i)
		chi += (counts[id] - n*p) * (counts[id] - n*p) / (n * p)
		delete(counts, id)
	}
	if len(counts) > 0 || chi > 25 { // 4 degrees of freedom
		t.Errorf("chi-square %.1f, impossible tokens %v", chi, counts)
	}
}

func TestLogProbs(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	row := randomRow(rng, 300)
	var sum float64
	for _, v := range row {
		sum += math.Exp(float64(v))
	}
	list := LogProbs(row, 20)
	if len(list) != 20 || len(LogProbs(row, 1000)) > 300 || len(LogProbs(row, 0)) != 0 {
		t.Fatalf("%d tokens", len(list))
	}
	for i, lp := range list {
		if want := float64(row[lp.ID]) - math.Log(sum); math.Abs(lp.Value-want) > 1e-9 || lp.Value != LogProbOf(row, lp.ID) {
			t.Errorf("token %d: %v, want %v", lp.ID, lp.Value, want)
		}
		if i > 0 && (lp.Value > list[i-1].Value || lp.Value == list[i-1].Value && lp.ID < list[i-1].ID) {
			t.Errorf("entry %d after %d: %v", i, i-1, list)
		}
	}
	for id, v := range row {
		if float64(v) > list[19].Value+math.Log(sum)+1e-6 && !slices.ContainsFunc(list, func(l LogProb) bool { return l.ID == int32(id) }) {
			t.Errorf("token %d is missing", id)
		}
	}
}

func TestAllocations(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	row := randomRow(rng, 5000)
	history := []int32{1, 2, 3, 4, 5}
	for _, o := range []Options{Defaults(), {Temp: 1, TopP: 0.9, MinP: 0.01, RepeatPenalty: 1.2, RepeatLastN: 4}, {TopP: 1, RepeatPenalty: 1}} {
		s := New(o)
		var d Dist
		rank := make([]int32, 0, 8)
		use := func() {
			s.Draw(row, history)
			s.Dist(&d, row, history)
			rank = s.Rank(rank[:0], row, history, 4)
		}
		use()
		if n := testing.AllocsPerRun(50, use); n != 0 {
			t.Errorf("%v: %v allocations", o, n)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	rng := rand.New(rand.NewPCG(6, 6))
	row := make([]float32, 128_256)
	for i := range row {
		row[i] = float32(rng.NormFloat64() * 2.5)
	}
	row[77] = 14
	all := Options{Temp: 0.8, TopP: 1, RepeatPenalty: 1}
	nucleus := Options{Temp: 0.8, TopP: 0.95, RepeatPenalty: 1}
	penalized := Defaults()
	penalized.RepeatPenalty = 1.1
	for _, c := range []struct {
		name string
		o    Options
	}{{"greedy", Options{TopP: 1, RepeatPenalty: 1}}, {"defaults", Defaults()}, {"penalty", penalized}, {"top-p", nucleus}, {"all", all}} {
		b.Run(fmt.Sprintf("vocabulary=%d/%s", len(row), c.name), func(b *testing.B) {
			s := New(c.o)
			for b.Loop() {
				s.Draw(row, []int32{1, 2, 3})
			}
		})
	}
}

// TestLead: the token stays while its logit falls by less than its lead.
func TestLead(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for trial := range 400 {
		o := Options{Temp: []float64{0, 0.6, 1}[trial%3], TopP: 1, RepeatPenalty: 1, Seed: uint64(trial)}
		s := New(o)
		row := make([]float32, 40)
		for i := range row {
			row[i] = 4 * rng.Float32()
		}
		token, lead := s.DrawLead(row, nil)
		if lead < 0 || math.IsInf(lead, 0) {
			t.Fatalf("lead %v", lead)
		}
		other := func(by float64) int32 {
			moved := slices.Clone(row)
			moved[token] -= float32(by)
			return s.Draw(moved, nil)
		}
		if got := other(0.999*lead - 1e-5); got != token {
			t.Errorf("temperature %v: token %d, %d within its lead of %v", o.Temp, token, got, lead)
		}
		if got := other(1.001*lead + 1e-5); got == token {
			t.Errorf("temperature %v: token %d beyond its lead of %v", o.Temp, got, lead)
		}
	}
	one := New(Options{Temp: 1, TopK: 1, TopP: 1, RepeatPenalty: 1})
	if token, lead := one.DrawLead([]float32{1, 3, 2}, nil); token != 1 || !math.IsInf(lead, 1) {
		t.Errorf("the only token is %d with lead %v", token, lead)
	}
}

// The largest logits are those that sorting finds, however many there are, the
// lower id first among equals; what is no number is not among them.
func TestLargest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		row := make([]float32, 1+rng.IntN(8000))
		levels := []float64{5, 300, 1e6}[rng.IntN(3)] // few make ties
		for i := range row {
			row[i] = float32(math.Round(levels*rng.NormFloat64()) / levels)
			switch rng.IntN(50) {
			case 0:
				row[i] = float32(math.NaN())
			case 1:
				row[i] = float32(math.Inf(-1))
			}
		}
		if rng.IntN(4) == 0 { // the largest all lie where no sample is taken, or all where one is
			for i := rng.IntN(2) * 8; i < len(row); i += 16 {
				row[i] += 100
			}
		}
		var want []candidate
		for i, v := range row {
			if v > float32(math.Inf(-1)) {
				want = append(want, candidate{v, int32(i)})
			}
		}
		slices.SortFunc(want, byRank)
		if len(want) > 1 {
			id, lead := argmax(row)
			if ahead := float64(want[0].logit) - float64(want[1].logit); id != want[0].id || lead != ahead {
				t.Fatalf("the largest of %d is %d by %v, expected %d by %v", len(row), id, lead, want[0].id, ahead)
			}
		}
		k := 1 + rng.IntN(120)
		want = want[:min(k, len(want))]
		got := largest(nil, row, k)
		slices.SortFunc(got, byRank)
		if !slices.Equal(got, want) {
			t.Fatalf("%d largest of %d: %v, expected %v", k, len(row), got, want)
		}
	}
}
