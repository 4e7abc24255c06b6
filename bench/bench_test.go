package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"triforce/engine"
)

// pair opens the embedded models.
func pair(t *testing.T) *engine.Engine {
	t.Helper()
	var loaded []*engine.Engine
	for _, name := range []string{engine.Embedded, engine.EmbeddedDraft} {
		o := engine.Defaults()
		o.Threads, o.Context = 1, 256
		e, err := engine.Open(context.Background(), name, o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		loaded = append(loaded, e)
	}
	if err := loaded[0].UseDraft(loaded[1]); err != nil {
		t.Fatal(err)
	}
	return loaded[0]
}

// short is options that take little time.
func short() Options {
	o := Defaults()
	o.Depths, o.Predict, o.Reps = []int{0, 96}, 8, 2
	return o
}

// Every depth is read once and every mode measured against plain decoding.
func TestRun(t *testing.T) {
	e := pair(t)
	text, err := Story(context.Background(), e, 97, nil)
	if err != nil || len(text) != 97 {
		t.Fatalf("a story of %d tokens: %v", len(text), err)
	}
	o := short()
	stages := map[string]bool{}
	o.Progress = func(stage string, done, total int) {
		if done > total {
			t.Errorf("%s: %d of %d", stage, done, total)
		}
		stages[stage] = true
	}
	var rows []Row
	if err := Run(context.Background(), e, text, 1e9, o, func(r Row) { rows = append(rows, r) }); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i := range rows {
		r := &rows[i]
		got = append(got, r.Test()+" "+r.Mode)
		if r.Mode == Prefill {
			continue
		}
		if len(r.Seconds) != o.Reps || (r.Mode == engine.SpecPlain) != (len(r.Plain) == 0) || r.KVBytes <= 0 {
			t.Errorf("%s %s: %+v", r.Test(), r.Mode, r)
		}
		if (r.OfLimit() > 0) != (r.Mode == engine.SpecPlain) {
			t.Errorf("%s %s: %v of the bandwidth's limit", r.Test(), r.Mode, r.OfLimit())
		}
		for _, l := range r.Levels {
			if l.Accepted+l.Rejected > l.Proposed || l.Rejected > l.Rounds || l.Passes == 0 {
				t.Errorf("%s %s: level %+v", r.Test(), r.Mode, l)
			}
		}
	}
	for _, test := range []string{"tg8 @ d0 ", "pp96 @ d0 ", "tg8 @ d96 "} {
		if strings.HasPrefix(test, "pp") {
			want = append(want, test+Prefill)
			continue
		}
		for range o.Temps {
			for _, mode := range o.Modes {
				want = append(want, test+mode)
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%q, expected\n%q", got, want)
	}
	for _, stage := range []string{"d96: reading", "d0, temp 0", "d96, temp 0.6"} {
		if !stages[stage] {
			t.Errorf("no progress of %q: %v", stage, stages)
		}
	}
}

// What was finished before an end is kept.
func TestRunCancelled(t *testing.T) {
	e := pair(t)
	text, err := Story(context.Background(), e, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := short()
	o.Depths = []int{0}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	rows := 0
	err = Run(ctx, e, text, 1e9, o, func(Row) {
		if rows++; rows == 2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || rows != 2 {
		t.Errorf("%d rows, %v", rows, err)
	}
	o.Depths = []int{0, 1}
	if err := Run(context.Background(), e, text, 1e9, o, func(Row) {}); err == nil || !strings.Contains(err.Error(), "expected 2") {
		t.Errorf("a text of one token for a depth of one: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for flag, change := range map[string]func(*Options){
		"--depths: expected at least one": func(o *Options) { o.Depths = nil },
		"--depths 5":                      func(o *Options) { o.Depths = []int{5, 5} },
		"--depths -1":                     func(o *Options) { o.Depths = []int{-1} },
		"--modes and --temps":             func(o *Options) { o.Temps = nil },
		"--modes magic":                   func(o *Options) { o.Modes = []string{"magic"} },
		"--predict 0":                     func(o *Options) { o.Predict = 0 },
		"--reps 0":                        func(o *Options) { o.Reps = 0 },
		"--temp -1":                       func(o *Options) { o.Temps = []float64{0, -1} },
		"--budget 1":                      func(o *Options) { o.Spec.Budget = 1 },
	} {
		o := Defaults()
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if err := o.Validate(); !errors.Is(err, engine.ErrUsage) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%v, expected %q", err, flag)
		}
	}
}

func TestExact(t *testing.T) {
	o := Defaults()
	if !o.exact(0) || !o.exact(0.6) {
		t.Error("coupled runs need not be exact")
	}
	o.Spec.Accept = "rejection"
	if !o.exact(0) || o.exact(0.6) {
		t.Error("runs by rejection are exact at temperature 0 alone")
	}
}

func TestDiffer(t *testing.T) {
	for _, c := range []struct {
		a, b []int32
		want int
	}{
		{nil, nil, -1},
		{[]int32{1, 2}, []int32{1, 2}, -1},
		{[]int32{1, 2}, []int32{1, 3}, 1},
		{[]int32{1, 2}, []int32{1}, 1},
		{[]int32{1}, []int32{1, 2}, 1},
	} {
		if got := differ(c.a, c.b); got != c.want {
			t.Errorf("%v and %v part at %d, expected %d", c.a, c.b, got, c.want)
		}
	}
}

// The ratio is that of pairs: a slow spell that hits one pair does not count.
func TestRatio(t *testing.T) {
	r := Row{Mode: engine.SpecTriForce, Tokens: 10, Seconds: []float64{1, 5, 2}, Plain: []float64{2, 10, 6}}
	if got, want := r.Ratio(), (Spread{Median: 2, Min: 2, Max: 3}); got != want {
		t.Errorf("ratio %v, expected %v", got, want)
	}
	if got, want := r.Speed(), (Spread{Median: 5, Min: 2, Max: 10}); got != want {
		t.Errorf("speed %v, expected %v", got, want)
	}
	if got := spread([]float64{4, 1}); got.Median != 2.5 {
		t.Errorf("median of two %v", got.Median)
	}
	l := Level{Proposed: 10, Accepted: 6, Rejected: 2}
	if l.OfProposed() != 0.6 || l.OfJudged() != 0.75 || new(Level).OfJudged() != 0 {
		t.Errorf("%v of proposed, %v of judged", l.OfProposed(), l.OfJudged())
	}
}
