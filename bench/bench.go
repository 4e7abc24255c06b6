// Package bench measures how fast a model reads and generates, plainly and by
// speculation, at several lengths of text.
//
// For each depth a session reads the text up to there once, and all modes go on
// from it. Machines are noisy and change their clock: so each run of a mode is
// paired with a run of plain decoding just before it, and the ratio is the
// median over the pairs. Every run starts as a new request does, with what
// speculation learns from the run before forgotten, and generates the same
// tokens: whatever differs from plain decoding where it must not is an error.
//
// The functions use one engine's sessions at a time; nothing that they get is
// kept.
package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"triforce/engine"
	"triforce/sample"
)

// Options say what to measure.
type Options struct {
	Depths  []int     // tokens of the text before those measured, ascending
	Modes   []string  // of engine.SpecModes
	Temps   []float64 // temperatures
	Predict int       // tokens to generate in a run
	Reps    int       // runs of each mode
	Spec    engine.Spec
	Sample  sample.Options
	// Progress, if not nil, is told what is being done and how far it is.
	Progress func(stage string, done, total int)
}

// Defaults are those of a first look.
func Defaults() Options {
	return Options{
		Depths: []int{0, 2 << 10, 8 << 10, 32 << 10},
		Modes:  []string{engine.SpecPlain, engine.SpecNGram, engine.SpecStream, engine.SpecRetrieval, engine.SpecTriForce, engine.SpecAuto},
		Temps:  []float64{0, 0.6}, Predict: 128, Reps: 3,
		Spec: engine.SpecDefaults(), Sample: sample.Defaults(),
	}
}

// Limits on what may be asked for.
const (
	maxReps    = 1 << 10
	maxPredict = 1 << 20
)

// Validate reports the first option that is out of range, by its flag. The
// error wraps engine.ErrUsage.
func (o *Options) Validate() error {
	usage := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", engine.ErrUsage, fmt.Sprintf(format, args...))
	}
	if err := checkDepths(o.Depths); err != nil {
		return err
	}
	if len(o.Modes) == 0 || len(o.Temps) == 0 {
		return usage("--modes and --temps: expected at least one of each")
	}
	for _, mode := range o.Modes {
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
	for _, temp := range o.Temps {
		g := o.generation(engine.SpecAuto, temp)
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

// generation is the options of one run.
func (o *Options) generation(mode string, temp float64) engine.GenOptions {
	g := engine.GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample, g.Spec = o.Predict, true, o.Sample, o.Spec
	g.Sample.Temp, g.Spec.Mode = temp, mode
	return g
}

// exact reports whether runs at this temperature must give plain decoding's
// tokens: by rejection they have its distribution only.
func (o *Options) exact(temp float64) bool { return temp == 0 || o.Spec.Accept != "rejection" }

// Prefill is the mode of rows about reading.
const Prefill = "prefill"

// Row is what was measured about one depth, mode and temperature.
type Row struct {
	Mode   string // Prefill, or one of engine.SpecModes
	Depth  int    // tokens in the cache before
	Tokens int    // read or generated, in each sample
	Temp   float64
	// Seconds are the samples, and Plain those of plain decoding that they are
	// paired with, for modes other than plain.
	Seconds, Plain []float64
	// Levels is what each level did in all samples, the topmost first.
	Levels []Level
	// KVBytes is the memory of keys and values, LimitSeconds how long it would
	// take to read the weights and the cache once for each token.
	KVBytes      int64
	LimitSeconds float64
}

// Level is what a level of the hierarchy did. Only levels with passes count.
type Level struct {
	Name       string  `json:"name"`
	Passes     int     `json:"passes"`
	MSPerPass  float64 `json:"ms_per_pass"`
	Rounds     int     `json:"rounds"` // in which tokens were proposed to it
	Proposed   int     `json:"proposed"`
	Accepted   int     `json:"accepted"`
	Rejected   int     `json:"rejected"`    // proposed tokens judged and found wrong
	MeanLength float64 `json:"mean_length"` // tokens that a round yields

	seconds float64
}

// OfProposed is the share of the proposed tokens that were accepted.
func (l *Level) OfProposed() float64 { return share(l.Accepted, l.Proposed) }

// OfJudged is the share of accepted tokens among those accepted and rejected:
// what follows a rejected token was never judged.
func (l *Level) OfJudged() float64 { return share(l.Accepted, l.Accepted+l.Rejected) }

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// Test is the row's name, as llama-bench writes it.
func (r *Row) Test() string {
	kind := "tg"
	if r.Mode == Prefill {
		kind = "pp"
	}
	return kind + strconv.Itoa(r.Tokens) + " @ d" + strconv.Itoa(r.Depth)
}

// Speed is the tokens per second of the samples.
func (r *Row) Speed() Spread {
	var x []float64
	for _, s := range r.Seconds {
		x = append(x, float64(r.Tokens)/s)
	}
	return spread(x)
}

// Ratio is how many times as fast as plain decoding the pairs were; its Median
// is 1 for plain decoding itself and 0 where there is nothing to compare.
func (r *Row) Ratio() Spread {
	var x []float64
	for i, s := range r.Plain {
		x = append(x, s/r.Seconds[i])
	}
	if r.Mode == engine.SpecPlain {
		x = []float64{1}
	}
	return spread(x)
}

// OfLimit is the part of the bandwidth's limit that was reached, or 0 where
// that is not the limit.
func (r *Row) OfLimit() float64 {
	if r.LimitSeconds == 0 {
		return 0
	}
	return r.LimitSeconds * r.Speed().Median
}

// Run measures, calling emit with every row as it is finished: for each depth
// the reading, then for each temperature the modes. text is the tokens to read:
// more than the greatest depth. bandwidth, in bytes per second, is what plain
// decoding is compared with.
func Run(ctx context.Context, e *engine.Engine, text []int32, bandwidth float64, o Options, emit func(Row)) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if need := slices.Max(o.Depths) + 1; len(text) < need {
		return fmt.Errorf("bench: the text has %d tokens, expected %d", len(text), need)
	}
	r := &runner{ctx: ctx, e: e, s: e.NewSession(), o: &o, bandwidth: bandwidth}
	defer r.s.Close()
	for _, depth := range o.Depths {
		if err := r.read(text, depth, emit); err != nil {
			return err
		}
		for _, temp := range o.Temps {
			if err := r.temperature(text[:depth+1], temp, emit); err != nil {
				return err
			}
		}
	}
	return nil
}

// runner is a benchmark under way. Its session's cache holds the text up to
// some depth, and what a run wrote after it.
type runner struct {
	ctx       context.Context
	e         *engine.Engine
	s         *engine.Session
	o         *Options
	depth     int // tokens of the text in the cache
	bandwidth float64
}

// warmUp is the tokens generated after reading, before anything is timed.
const warmUp = 4

// read makes the cache hold depth tokens of the text.
func (r *runner) read(text []int32, depth int, emit func(Row)) error {
	if err := r.rewind(text[:r.depth+1]); err != nil {
		return err
	}
	r.depth = depth
	g := r.o.generation(engine.SpecPlain, 0)
	g.Predict = warmUp
	if r.o.Progress != nil {
		stage := fmt.Sprintf("d%d: reading", depth)
		g.Progress = func(done, total int) { r.o.Progress(stage, done, total) }
	}
	result, err := r.s.Generate(r.ctx, text[:depth+1], g, ignore)
	if err != nil {
		return err
	}
	if result.Read > 0 {
		emit(Row{Mode: Prefill, Depth: result.Cached, Tokens: result.Read,
			Seconds: []float64{result.PromptTime.Seconds()}, KVBytes: r.s.CacheBytes()})
	}
	return nil
}

func ignore(engine.Token) error { return nil }

// temperature measures the modes at one depth and temperature.
func (r *runner) temperature(prompt []int32, temp float64, emit func(Row)) error {
	depth := len(prompt) - 1
	stage := fmt.Sprintf("d%d, temp %v", depth, temp)
	total, done := len(r.o.Modes)*r.o.Reps, 0
	var plain []int32
	for _, mode := range r.o.Modes {
		row := Row{Mode: mode, Depth: depth, Tokens: r.o.Predict, Temp: temp}
		if mode == engine.SpecPlain {
			row.LimitSeconds = r.limit(depth)
		}
		for range r.o.Reps {
			if r.o.Progress != nil {
				r.o.Progress(stage, done, total)
			}
			done++
			if mode != engine.SpecPlain {
				seconds, ids, err := r.once(prompt, engine.SpecPlain, temp)
				if err != nil {
					return err
				}
				row.Plain, plain = append(row.Plain, seconds), ids
			}
			seconds, ids, err := r.once(prompt, mode, temp)
			if err != nil {
				return err
			}
			row.Seconds = append(row.Seconds, seconds)
			row.count(r.s)
			if plain == nil {
				plain = ids
			}
			if at := differ(plain, ids); at >= 0 && r.o.exact(temp) {
				return fmt.Errorf("%w: mode %s at depth %d, temperature %v: token %d", ErrDiffers, mode, depth, temp, at)
			}
		}
		row.KVBytes = r.s.CacheBytes()
		emit(row)
	}
	if r.o.Progress != nil {
		r.o.Progress(stage, total, total)
	}
	return nil
}

// ErrDiffers marks a run that did not generate what plain decoding does.
var ErrDiffers = errors.New("bench: tokens differ from those of plain decoding")

// reread is the tokens of the prompt that a mode reads again: levels take the
// newest rows of the last pass over the prompt for a hint at what matters.
const reread = 32

// once generates in one mode and returns the seconds that it took, reading the
// prompt and preparing the levels left out, and the tokens.
func (r *runner) once(prompt []int32, mode string, temp float64) (float64, []int32, error) {
	if err := r.rewind(prompt[:max(1, len(prompt)-reread)]); err != nil {
		return 0, nil, err
	}
	var ids []int32
	result, err := r.s.Generate(r.ctx, prompt, r.o.generation(mode, temp), func(t engine.Token) error {
		if t.ID >= 0 {
			ids = append(ids, t.ID)
		}
		return nil
	})
	return result.PredictTime.Seconds(), ids, err
}

// rewind makes the cache hold the prompt but for its last token.
func (r *runner) rewind(prompt []int32) error {
	g := r.o.generation(engine.SpecPlain, 0)
	g.Predict = 0
	_, err := r.s.Generate(r.ctx, prompt, g, ignore)
	return err
}

// limit is the seconds that plain decoding takes at least for a token, on the
// average of a run.
func (r *runner) limit(depth int) float64 {
	w := r.e.Work(depth+r.o.Predict/2, 1)
	return float64(w.Weights+w.KV) / r.bandwidth
}

// count adds what the levels did in the last run.
func (row *Row) count(s *engine.Session) {
	for _, l := range s.Levels() {
		if l.Passes == 0 {
			continue
		}
		i := slices.IndexFunc(row.Levels, func(have Level) bool { return have.Name == l.Name })
		if i < 0 {
			i = len(row.Levels)
			row.Levels = append(row.Levels, Level{Name: l.Name})
		}
		sum := &row.Levels[i]
		sum.Passes += l.Passes
		sum.Rounds += l.Rounds
		sum.Proposed += l.Proposed
		sum.Accepted += l.Accepted
		sum.Rejected += l.Rejected
		sum.seconds += l.Seconds
		sum.MSPerPass = 1e3 * sum.seconds / float64(sum.Passes)
		sum.MeanLength = 1 + share(sum.Accepted, sum.Rounds)
	}
}

// differ returns where two runs part, or -1.
func differ(a, b []int32) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	if len(a) != len(b) {
		return min(len(a), len(b))
	}
	return -1
}

// Spread is the middle and the ends of some samples.
type Spread struct{ Median, Min, Max float64 }

func spread(x []float64) Spread {
	if len(x) == 0 {
		return Spread{}
	}
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return Spread{Median: (x[(n-1)/2] + x[n/2]) / 2, Min: x[0], Max: x[n-1]}
}
