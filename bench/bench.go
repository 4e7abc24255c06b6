// Package bench measures how fast a model reads and generates, plainly and by
// speculation, at several lengths of text, and predicts it for models that are
// not at hand.
//
// For each depth a session reads the text up to there once, and all modes go on
// from it. Machines are noisy and change their clock: so the runs of all modes
// take turns, each is paired with a run of plain decoding at most one run
// before it, short ones are repeated until a sample has taken some time, and the
// ratio is the median over the samples. Every run starts as a
// new request does, with what speculation learns from the run before forgotten,
// and generates the same tokens: whatever differs from plain decoding where it
// must not is an error.
//
// Everything that is measured, predicted or read from another program's output
// is a Row, and all output is made of rows.
//
// The functions use one engine's sessions at a time; nothing that they get is
// kept.
package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"triforce/engine"
	"triforce/sample"
)

// Options say what to measure.
type Options struct {
	Depths  []int // tokens of the text before those measured, ascending
	Sweeps  []Sweep
	Predict int // tokens to generate in a run
	Reps    int // samples of each mode
	// SampleTime is how long a sample takes at least: the mean of as many runs.
	SampleTime time.Duration
	Spec       engine.Spec
	Sample     sample.Options
	// Progress, if not nil, is told what is being done and how much of the work
	// is behind, in arbitrary units.
	Progress func(stage string, done, total int64)
	// Around, if not nil, is called before what is measured at a depth, and after each
	// sample of all modes.
	Around func(ctx context.Context, depth int) error
	// Done holds rows of an earlier run: what they have is not measured again.
	Done []Row
}

// Sweep is a grid of settings: each of its lists by each other. What a mode
// does not heed does not multiply.
type Sweep struct {
	Modes   []string // of engine.SpecModes
	Temps   []float64
	Axes    []Axis
	Deepest bool // only at the greatest depth
}

// Axis is the values that one option of speculation takes.
type Axis struct {
	Name   string // of AxisNames
	Values []int
}

// AxisNames are the options that a sweep can vary, by their flags.
func AxisNames() []string { return []string{"budget", "chunk", "window", "outer-depth", "inner-depth"} }

// SetAxis sets the option of that name.
func SetAxis(s *engine.Spec, name string, value int) {
	switch name {
	case "budget":
		s.Budget = value
	case "chunk":
		s.Chunk = value
	case "window":
		s.Window = value
	case "outer-depth":
		s.Outer = value
	case "inner-depth":
		s.Inner = value
	}
}

// Presets names the sets of sweeps that have a name, the first one first.
func Presets() []string { return []string{"quick", "paper", "sweep-budget"} }

// Preset returns the options of a name:
//
//	quick         which way to draft pays from which depth on, in little time
//	paper         the TriForce paper's figures: all modes by depth, each level
//	              left out; acceptance by budget and by temperature
//	sweep-budget  budget and chunk of the middle level
func Preset(name string) (Options, error) {
	o := Options{Depths: []int{0, 2 << 10, 8 << 10, 32 << 10}, Predict: 128, Reps: 5, SampleTime: 300 * time.Millisecond, Spec: engine.SpecDefaults(), Sample: sample.Defaults()}
	budgets := Axis{"budget", []int{128, 256, 512, 1024, 2048, 4096}}
	switch name {
	case "quick":
		o.Predict = 64
		o.Sweeps = []Sweep{{Modes: []string{engine.SpecPlain, engine.SpecNGram, engine.SpecRetrieval, engine.SpecTriForce, engine.SpecAuto}, Temps: []float64{0}}}
	case "paper":
		o.Predict = 64
		view := []string{engine.SpecStream, engine.SpecRetrieval, engine.SpecTriForce}
		o.Sweeps = []Sweep{
			{Modes: []string{engine.SpecPlain, engine.SpecNGram, engine.SpecDraft, engine.SpecStream, engine.SpecRetrieval, engine.SpecTriForce, engine.SpecAuto}, Temps: []float64{0, 0.6}},
			{Modes: view, Temps: []float64{0.6}, Axes: []Axis{budgets}, Deepest: true},
			{Modes: []string{engine.SpecTriForce, engine.SpecRetrieval}, Temps: []float64{0, 0.2, 0.4, 0.6, 0.8, 1}, Deepest: true},
		}
	case "sweep-budget":
		o.Depths = []int{8 << 10}
		o.Sweeps = []Sweep{
			{Modes: []string{engine.SpecPlain, engine.SpecStream, engine.SpecRetrieval, engine.SpecTriForce}, Temps: []float64{0, 0.6}, Axes: []Axis{budgets}},
			{Modes: []string{engine.SpecRetrieval, engine.SpecTriForce}, Temps: []float64{0}, Axes: []Axis{{"chunk", []int{16, 32, 64, 128}}}},
		}
	default:
		return o, fmt.Errorf("%w: --preset %s: expected one of %s", engine.ErrUsage, name, strings.Join(Presets(), ", "))
	}
	return o, nil
}

// Defaults are those of a first look.
func Defaults() Options {
	o, _ := Preset(Presets()[0])
	return o
}

// Limits on what may be asked for.
const (
	maxReps    = 1 << 10
	maxPredict = 1 << 20
	maxCases   = 1 << 12

	maxSampleTime = time.Hour
)

// Modes lists the modes that the sweeps name.
func (o *Options) Modes() []string {
	var modes []string
	for _, s := range o.Sweeps {
		for _, mode := range s.Modes {
			if !slices.Contains(modes, mode) {
				modes = append(modes, mode)
			}
		}
	}
	return modes
}

// Validate reports the first option that is out of range, by its flag. The
// error wraps engine.ErrUsage.
func (o *Options) Validate() error {
	usage := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", engine.ErrUsage, fmt.Sprintf(format, args...))
	}
	if err := checkDepths(o.Depths); err != nil {
		return err
	}
	for _, s := range o.Sweeps {
		if len(s.Modes) == 0 || len(s.Temps) == 0 {
			return usage("--modes and --temps: expected at least one of each")
		}
	}
	for _, mode := range o.Modes() {
		if !slices.Contains(engine.SpecModes(), mode) {
			return usage("--modes %s: expected some of %s", mode, strings.Join(engine.SpecModes(), ", "))
		}
	}
	if o.Predict < 1 || o.Predict > maxPredict {
		return usage("--predict %d: expected 1 to %d", o.Predict, maxPredict)
	}
	if o.Reps < 1 || o.Reps > maxReps {
		return usage("--reps %d: expected 1 to %d", o.Reps, maxReps)
	}
	if o.SampleTime < 0 || o.SampleTime > maxSampleTime {
		return usage("--sample-time %v: expected 0 to %v", o.SampleTime, maxSampleTime)
	}
	cases := o.cases(0, true)
	if len(cases) > maxCases {
		return usage("%d settings to measure at a depth: expected at most %d; name fewer values", len(cases), maxCases)
	}
	for _, c := range cases {
		g := o.generation(c)
		if err := g.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// checkDepths reports depths that are not ascending from 0 on.
func checkDepths(depths []int) error {
	if len(depths) == 0 {
		return fmt.Errorf("%w: --depths: expected at least one", engine.ErrUsage)
	}
	for i, d := range depths {
		if d < 0 || i > 0 && d <= depths[i-1] {
			return fmt.Errorf("%w: --depths %d: expected ascending numbers from 0 on", engine.ErrUsage, d)
		}
	}
	return nil
}

// Need is the number of tokens that a context must hold.
func (o *Options) Need() int { return slices.Max(o.Depths) + 1 + o.Predict }

// aCase is a mode with what it heeds, at a temperature.
type aCase struct {
	spec engine.Spec
	temp float64
}

// cases lists what the sweeps ask for at a depth, once each: plain decoding
// first of each temperature.
func (o *Options) cases(depth int, deepest bool) []aCase {
	var all []aCase
	add := func(c aCase) {
		if !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	for _, s := range o.Sweeps {
		if s.Deepest && !deepest {
			continue
		}
		for _, temp := range s.Temps {
			for _, spec := range s.specs(o.Spec) {
				spec.Budget = spec.BudgetAt(depth)
				add(aCase{spec, temp})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b aCase) int {
		switch {
		case a.temp != b.temp && a.temp < b.temp:
			return -1
		case a.temp != b.temp:
			return 1
		}
		return slices.Index(modeOrder(), a.spec.Mode) - slices.Index(modeOrder(), b.spec.Mode)
	})
	return all
}

// modeOrder is that of modes in tables and plots.
func modeOrder() []string {
	return []string{engine.SpecPlain, engine.SpecNGram, engine.SpecDraft, engine.SpecRetrieval, engine.SpecStream, engine.SpecTriForce, engine.SpecAuto}
}

// specs is the grid of a sweep's axes by its modes.
func (s *Sweep) specs(base engine.Spec) []engine.Spec {
	grid := []engine.Spec{base}
	for _, axis := range s.Axes {
		var next []engine.Spec
		for _, value := range axis.Values {
			for _, spec := range grid {
				SetAxis(&spec, axis.Name, value)
				next = append(next, spec)
			}
		}
		grid = next
	}
	var specs []engine.Spec
	for _, mode := range s.Modes {
		for _, spec := range grid {
			spec.Mode = mode
			specs = append(specs, heeded(spec))
		}
	}
	return specs
}

// heeded is the options with what the mode does not heed as it is by default.
func heeded(s engine.Spec) engine.Spec {
	d := engine.SpecDefaults()
	draft, view := false, false
	switch d.Mode = s.Mode; s.Mode {
	case engine.SpecPlain:
		return d
	case engine.SpecNGram:
	case engine.SpecDraft:
		draft = true
	case engine.SpecStream:
		d.Budget, d.Sinks = s.Budget, s.Sinks
	case engine.SpecRetrieval:
		view = true
	default:
		draft, view = true, true
		d.Inner = s.Inner
	}
	d.Accept, d.Outer = s.Accept, s.Outer
	if draft {
		d.Sinks, d.Window, d.Tree = s.Sinks, s.Window, s.Tree
	}
	if view {
		d.Budget, d.Chunk, d.Sinks, d.Window, d.Retrieval = s.Budget, s.Chunk, s.Sinks, s.Window, s.Retrieval
	}
	return d
}

// setting describes a case, but for where and what: what the mode does not heed
// stays zero.
func (c *aCase) setting() Setting {
	s := Setting{Mode: c.spec.Mode, Temp: c.temp}
	if c.spec.Mode == engine.SpecPlain {
		return s
	}
	p := &c.spec
	s.Accept, s.Outer = p.Accept, p.Outer
	switch p.Mode {
	case engine.SpecNGram:
	case engine.SpecDraft:
		s.Sinks, s.Window, s.Tree = p.Sinks, p.Window, p.Tree
	case engine.SpecStream:
		s.Budget, s.Sinks = p.Budget, p.Sinks
	default:
		s.Budget, s.Chunk, s.Sinks, s.Window, s.Ranking, s.Inner, s.Tree = p.Budget, p.Chunk, p.Sinks, p.Window, p.Retrieval, p.Inner, p.Tree
	}
	return s
}

// generation is the options of one run.
func (o *Options) generation(c aCase) engine.GenOptions {
	g := engine.GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample, g.Spec = o.Predict, true, o.Sample, c.spec
	g.Sample.Temp = c.temp
	return g
}

// exact reports whether runs at this temperature must give plain decoding's
// tokens: by rejection they have its distribution only.
func (c *aCase) exact() bool { return c.temp == 0 || c.spec.Accept != "rejection" }
