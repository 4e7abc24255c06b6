package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

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

// brief is options that take little time.
func brief() Options {
	o := Defaults()
	o.Depths, o.Predict, o.Reps, o.SampleTime = []int{0, 96}, 8, 2, 0
	o.Sweeps = []Sweep{
		{Modes: engine.SpecModes(), Temps: []float64{0, 0.6}},
		{Modes: []string{engine.SpecRetrieval, engine.SpecPlain}, Temps: []float64{0}, Axes: []Axis{{"budget", []int{256, 512}}}, Deepest: true},
	}
	return o
}

func story(t *testing.T, e *engine.Engine, n int) *Workload {
	t.Helper()
	w, err := Story(context.Background(), e, n, nil)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var here = Where{Setting: Setting{CPU: "test", Threads: 1, Model: "m", Draft: "d"}, Bandwidth: 1e9}

// Every depth is read once and every setting measured against plain decoding.
func TestRun(t *testing.T) {
	e := pair(t)
	o := brief()
	last := int64(0)
	o.Progress = func(stage string, done, total int64) {
		if done > total || done < last {
			t.Errorf("%s: %d of %d after %d", stage, done, total, last)
		}
		last = done
	}
	var rows []Row
	if err := Run(context.Background(), e, story(t, e, 97), here, o, func(r Row) { rows = append(rows, r) }); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i := range rows {
		r := &rows[i]
		got = append(got, r.Test+" "+series(r, rows))
		if r.Mode == Prefill {
			continue
		}
		plain := r.Mode == engine.SpecPlain
		if len(r.NS) != o.Reps || plain != (len(r.PlainNS) == 0) || !plain && len(r.PlainNS) != o.Reps || r.KVBytes <= 0 || r.OfLimit <= 0 || r.Ratio <= 0 {
			t.Errorf("%s %s: %+v", r.Test, r.Mode, r)
		}
		for _, l := range r.Levels {
			if l.Accepted+l.Rejected > l.Proposed || l.Rejected > l.Rounds || l.Passes == 0 || l.Seconds <= 0 {
				t.Errorf("%s %s: level %+v", r.Test, r.Mode, l)
			}
		}
	}
	for _, test := range []string{"tg8", "pp96", "tg8 @ d96"} {
		if test == "pp96" {
			want = append(want, "pp96 prefill")
			continue
		}
		for _, temp := range []string{"0", "0.6"} {
			for _, mode := range modeOrder() {
				name := test + " " + mode + ", temp " + temp
				if mode != engine.SpecRetrieval {
					want = append(want, name)
					continue
				}
				want = append(want, name+", budget 512")
				if test == "tg8 @ d96" && temp == "0" {
					want = append(want, name+", budget 256")
				}
			}
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("rows\n%q, expected\n%q", got, want)
	}

	// What is there is not measured again, and samples that lack are added.
	o.Progress = nil
	for i := range rows {
		rows[i].NS = rows[i].NS[:1]
	}
	rows[3].NS = Samples{7, 8}
	o.Done, o.Depths = rows, []int{0}
	n := 0
	err := Run(context.Background(), e, story(t, e, 1), here, o, func(r Row) {
		n++
		if len(r.NS) != 2 || r.Setting == rows[3].Setting && !slices.Equal(r.NS, rows[3].NS) || r.Setting != rows[3].Setting && r.NS[1] == 8 {
			t.Errorf("resumed %s %s: %v", r.Test, r.Mode, r.NS)
		}
	})
	if err != nil || n != 15 { // the only depth is the deepest now
		t.Errorf("%d rows, %v", n, err)
	}
}

// A run shorter than a sample is repeated until it has filled it.
func TestSampleTime(t *testing.T) {
	e := pair(t)
	o := brief()
	o.Depths, o.Reps, o.SampleTime = []int{0}, 1, 20*time.Millisecond
	o.Sweeps = []Sweep{{Modes: []string{engine.SpecPlain, engine.SpecNGram}, Temps: []float64{0}}}
	err := Run(context.Background(), e, story(t, e, 1), here, o, func(r Row) {
		if len(r.NS) != 1 || (r.NS[0]+1)*int64(r.Runs) < o.SampleTime.Nanoseconds() {
			t.Errorf("%s: %d runs of %v ns", r.Mode, r.Runs, r.NS)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What was finished before an end is kept.
func TestRunCancelled(t *testing.T) {
	e := pair(t)
	o := brief()
	o.Depths, o.Reps = []int{0, 1}, 1
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Progress = func(stage string, done, total int64) {
		if strings.Contains(stage, "d1 "+engine.SpecRetrieval) {
			cancel()
		}
	}
	var rows []Row
	err := Run(ctx, e, story(t, e, 2), here, o, func(r Row) { rows = append(rows, r) })
	modes := map[string]int{}
	for _, r := range rows {
		modes[r.Mode]++
	}
	if !errors.Is(err, context.Canceled) || modes[engine.SpecPlain] != 3 || modes[engine.SpecRetrieval] != 2 || modes[engine.SpecDraft] != 3 {
		t.Errorf("rows %v, %v", modes, err)
	}
	o.Depths = []int{0, 200}
	o.Progress = nil
	if err := Run(context.Background(), e, story(t, e, 2), here, o, func(Row) {}); !errors.Is(err, ErrShort) {
		t.Errorf("a short story for a depth of 200: %v", err)
	}
}

func TestValidate(t *testing.T) {
	for flag, change := range map[string]func(*Options){
		"--depths: expected at least one": func(o *Options) { o.Depths = nil },
		"--depths 5":                      func(o *Options) { o.Depths = []int{5, 5} },
		"--depths -1":                     func(o *Options) { o.Depths = []int{-1} },
		"--modes and --temps":             func(o *Options) { o.Sweeps[0].Temps = nil },
		"--modes magic":                   func(o *Options) { o.Sweeps[0].Modes = []string{"magic"} },
		"--predict 0":                     func(o *Options) { o.Predict = 0 },
		"--reps 0":                        func(o *Options) { o.Reps = 0 },
		"--sample-time -1s":               func(o *Options) { o.SampleTime = -time.Second },
		"--temp -1":                       func(o *Options) { o.Sweeps[0].Temps = []float64{0, -1} },
		"--budget 1":                      func(o *Options) { o.Sweeps[0].Axes = []Axis{{"budget", []int{512, 1}}} },
		"settings to measure at a depth":  func(o *Options) { o.Sweeps[0].Temps = make([]float64, 0); fill(&o.Sweeps[0].Temps, 5000) },
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

func fill(x *[]float64, n int) {
	for i := range n {
		*x = append(*x, float64(i)/1e4)
	}
}

func TestPresets(t *testing.T) {
	for _, name := range Presets() {
		o, err := Preset(name)
		if err == nil {
			err = o.Validate()
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Preset("slow"); !errors.Is(err, engine.ErrUsage) || !strings.Contains(err.Error(), "quick, paper") {
		t.Errorf("an unknown preset: %v", err)
	}
}

// What a mode does not heed makes no further cases.
func TestCases(t *testing.T) {
	o := brief()
	o.Sweeps = []Sweep{{Modes: engine.SpecModes(), Temps: []float64{0}, Axes: []Axis{{"budget", []int{256, 512}}, {"inner-depth", []int{1, 2, 3}}}}}
	count := map[string]int{}
	for _, c := range o.cases(0, true) {
		count[c.spec.Mode]++
		if s := c.setting(); (s.Budget > 0) != slices.Contains([]string{"stream", "retrieval", "triforce", "auto"}, s.Mode) {
			t.Errorf("%+v", s)
		}
	}
	for mode, want := range map[string]int{"plain": 1, "ngram": 1, "draft": 1, "stream": 2, "retrieval": 2, "triforce": 6, "auto": 6} {
		if count[mode] != want {
			t.Errorf("%s: %d cases, expected %d", mode, count[mode], want)
		}
	}
}

func TestExact(t *testing.T) {
	c := aCase{spec: engine.SpecDefaults(), temp: 0.6}
	if !c.exact() {
		t.Error("coupled runs need not be exact")
	}
	c.spec.Accept = "rejection"
	if c.exact() {
		t.Error("runs by rejection must be exact at temperature 0.6")
	}
	if c.temp = 0; !c.exact() {
		t.Error("runs by rejection need not be exact at temperature 0")
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
func TestFinish(t *testing.T) {
	r := Row{Setting: Setting{Mode: engine.SpecTriForce, Gen: 10}, NS: Samples{1e9, 5e9, 2e9}, PlainNS: Samples{2e9, 10e9, 6e9}, LimitTS: 10}
	r.finish()
	if r.Ratio != 2 || r.RatioMin != 2 || r.RatioMax != 3 || r.MedianTS != 5 || r.MinTS != 2 || r.MaxTS != 10 || r.OfLimit != 0.5 {
		t.Errorf("%+v", r)
	}
	if m, _, _ := spread([]float64{4, 1}); m != 2.5 {
		t.Errorf("median of two %v", m)
	}
	l := Level{Proposed: 10, Accepted: 6, Rejected: 2}
	if l.OfJudged() != 0.75 || new(Level).OfJudged() != 0 {
		t.Errorf("%v of judged", l.OfJudged())
	}
}
