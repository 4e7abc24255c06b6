package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"triforce/engine"
)

// Where says what is common to all rows of an engine.
type Where struct {
	Setting
	Size      int64   // bytes of the weights
	Bandwidth float64 // bytes a second
	Command   string  // that does it again
}

// NewWhere fills in what the engine knows, and measures the bandwidth.
func NewWhere(e *engine.Engine) Where {
	o := e.Options()
	w := Where{Setting: Setting{CPU: cpuName(), Tier: e.Tier(), Threads: o.Threads, Batch: o.Batch, TypeK: o.KVType, TypeV: o.KVType,
		Model: e.File().Name()}, Size: e.WeightBytes(), Bandwidth: e.ReadBandwidth()}
	if d := e.Draft(); d != nil {
		w.Draft = d.File().Name()
	}
	return w
}

// in is a row's setting at that place.
func (w *Where) in(s Setting) Setting {
	s.CPU, s.Tier, s.Threads, s.Batch, s.TypeK, s.TypeV = w.CPU, w.Tier, w.Threads, w.Batch, w.TypeK, w.TypeV
	s.Model, s.Draft, s.Sent, s.Seed = w.Model, w.Draft, w.Sent, w.Seed
	s.Test = s.name()
	return s
}

// Run measures, calling emit with every row as it is finished: for each depth
// the reading, then the modes by temperature. If it fails or ctx ends, rows of
// which some samples are there are emitted too.
func Run(ctx context.Context, e *engine.Engine, w *Workload, where Where, o Options, emit func(Row)) error {
	if err := o.Validate(); err != nil {
		return err
	}
	r := &runner{ctx: ctx, e: e, s: e.NewSession(), o: &o, where: where, have: map[Setting]*Row{}}
	defer r.s.Close()
	r.where.Sent = w.Sends
	for _, row := range o.Done {
		r.have[row.Setting] = &row
	}
	for i, depth := range o.Depths {
		r.plan(depth, i == len(o.Depths)-1)
	}
	for i, depth := range o.Depths {
		prompt, err := w.Prompt(depth)
		if err == nil && len(prompt) != depth+1 {
			err = fmt.Errorf("bench: the %s of %d tokens has %d", w.Name, depth+1, len(prompt))
		}
		if err == nil {
			err = r.depth(prompt, i == len(o.Depths)-1, emit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// runner is a benchmark under way. Its session's cache holds the last prompt,
// and what a run wrote after it.
type runner struct {
	ctx         context.Context
	e           *engine.Engine
	s           *engine.Session
	o           *Options
	where       Where
	have        map[Setting]*Row // from before, and as they come
	read        int              // tokens of prompts read so far, as planned
	prompt      []int32          // read last
	began       bool             // something was read
	done, total int64            // of the work
}

// row is the one of a setting, from before or new.
func (r *runner) row(s Setting) *Row {
	w := r.where.in(s)
	row := r.have[w]
	if row == nil {
		row = &Row{Setting: w, Size: r.where.Size, Bandwidth: r.where.Bandwidth, Command: r.where.Command}
		r.have[w] = row
	}
	return row
}

// caseRow is the row of a case at a depth.
func (r *runner) caseRow(c *aCase, depth int) *Row {
	s := c.setting()
	s.Depth, s.Gen = depth, r.o.Predict
	return r.row(s)
}

// Costs of the work in nanoseconds, for the progress: they need not be right,
// only in proportion.
const (
	readShare = 0.1 // of the time of a token's reading in that of generating it
	pairShare = 0.5 // of a sample's time that runs of plain decoding beside it add
)

// cost is that of generating n tokens plainly at a depth.
func (r *runner) cost(depth, n int) int64 { return int64(1e9 * float64(n) / r.limit(depth)) }

func (r *runner) readCost(from, to int) int64 {
	return int64(readShare * float64(r.cost((from+to)/2, to-from)))
}

// sampleCost is that of one sample of one case.
func (r *runner) sampleCost(depth int) int64 {
	return int64((1 + pairShare) * float64(max(r.o.SampleTime.Nanoseconds(), r.cost(depth, r.o.Predict))))
}

// missing lists the cases at a depth whose rows lack samples.
func (r *runner) missing(depth int, deepest bool) []aCase {
	return slices.DeleteFunc(r.o.cases(depth, deepest), func(c aCase) bool { return len(r.caseRow(&c, depth).NS) >= r.o.Reps })
}

// plan adds the work at a depth to the total.
func (r *runner) plan(depth int, deepest bool) {
	cases := r.missing(depth, deepest)
	if len(cases) == 0 {
		return
	}
	r.total += r.readCost(r.read, depth)
	r.read = depth
	for _, c := range cases {
		r.total += int64(r.o.Reps-len(r.caseRow(&c, depth).NS)) * r.sampleCost(depth)
	}
}

func (r *runner) progress(stage string, more int64) {
	r.done += more
	if r.o.Progress != nil {
		r.o.Progress(stage, min(r.done, r.total), r.total)
	}
}

// depth measures at one depth what is missing.
func (r *runner) depth(prompt []int32, deepest bool, emit func(Row)) error {
	depth := len(prompt) - 1
	cases := r.missing(depth, deepest)
	if len(cases) == 0 {
		r.emit(depth, deepest, emit)
		return nil
	}
	if err := r.prefill(prompt, emit); err != nil {
		return err
	}
	err := r.warm(prompt, cases)
	if err == nil {
		err = r.rounds(prompt, cases)
	}
	r.emit(depth, deepest, emit)
	return err
}

func (r *runner) around(depth int) error {
	if r.o.Around == nil {
		return nil
	}
	return r.o.Around(r.ctx, depth)
}

// emit hands on the rows of a depth that have samples.
func (r *runner) emit(depth int, deepest bool, emit func(Row)) {
	for _, c := range r.o.cases(depth, deepest) {
		if row := r.caseRow(&c, depth); len(row.NS) > 0 {
			row.finish()
			emit(*row)
		}
	}
}

// warm runs each mode once for a few tokens: the first time, memory is new.
func (r *runner) warm(prompt []int32, cases []aCase) error {
	warmed := map[string]bool{}
	for _, c := range cases {
		if warmed[c.spec.Mode] {
			continue
		}
		warmed[c.spec.Mode] = true
		if err := r.rewind(prompt[:max(1, len(prompt)-reread)]); err != nil {
			return err
		}
		g := r.o.generation(c)
		g.Predict = warmUp
		if _, err := r.s.Generate(r.ctx, prompt, g, ignore); err != nil {
			return err
		}
	}
	return nil
}

// rounds takes a sample of each case in turn until none is missing. A sample is
// the mean of as many runs as fill its time; the cases that lack some take turns,
// so that what disturbs the machine for a while disturbs all of them.
func (r *runner) rounds(prompt []int32, cases []aCase) error {
	depth := len(prompt) - 1
	if err := r.around(depth); err != nil {
		return err
	}
	for rep := range r.o.Reps {
		var open []*sampling
		for _, c := range cases {
			if row := r.caseRow(&c, depth); len(row.NS) <= rep {
				open = append(open, &sampling{aCase: c, row: row, stage: fmt.Sprintf("%s %s %d/%d", row.Test, c.spec.Mode, rep+1, r.o.Reps)})
			}
		}
		if len(open) == 0 { // all from an earlier run
			continue
		}
		for len(open) > 0 {
			if err := r.turn(prompt, open); err != nil {
				return err
			}
			open = slices.DeleteFunc(open, func(s *sampling) bool { return s.done })
		}
		if err := r.around(depth); err != nil {
			return err
		}
	}
	return nil
}

// sampling is a sample under way.
type sampling struct {
	aCase
	row         *Row
	stage       string
	ns, plainNS int64 // of its runs, and of the runs that these are paired with
	runs        int64
	done        bool
}

// finish adds the sample to its row.
func (s *sampling) finish() {
	s.done = true
	s.row.NS = append(s.row.NS, s.ns/s.runs)
	if s.spec.Mode != engine.SpecPlain {
		s.row.PlainNS = append(s.row.PlainNS, s.plainNS/s.runs)
	}
}

// turn runs each case once. Every case but plain decoding is paired with a plain
// run that is at most one run old.
func (r *runner) turn(prompt []int32, open []*sampling) error {
	depth := len(prompt) - 1
	var plain outcome
	temp, age := 0.0, 2 // of the plain run
	for _, s := range open {
		r.progress(s.stage, 0)
		isPlain := s.spec.Mode == engine.SpecPlain
		var err error
		if !isPlain && (age > 1 || temp != s.temp) {
			p := s.aCase
			p.spec = heeded(engine.Spec{Mode: engine.SpecPlain})
			if plain, err = r.once(prompt, p); err != nil {
				return err
			}
			temp, age = s.temp, 0
		}
		run, err := r.once(prompt, s.aCase)
		if err != nil {
			return err
		}
		age++
		if isPlain {
			plain, temp, age = run, s.temp, 0
		} else if at := differ(plain.ids, run.ids); at >= 0 && s.exact() {
			return fmt.Errorf("%w: mode %s at depth %d, temperature %v: token %d", ErrDiffers, s.spec.Mode, depth, s.temp, at)
		}
		s.ns, s.plainNS, s.runs = s.ns+run.ns, s.plainNS+plain.ns, s.runs+1
		s.row.count(r.s.Levels())
		s.row.disk(&run)
		s.row.Runs++
		s.row.KVBytes, s.row.PeakBytes = r.s.CacheBytes(), engine.PeakBytes()
		s.row.LimitTS = r.limit(depth)
		if s.ns >= r.o.SampleTime.Nanoseconds() {
			s.finish()
			r.progress(s.stage, r.sampleCost(depth))
		}
	}
	return nil
}

// ErrDiffers marks a run that did not generate what plain decoding does.
var ErrDiffers = errors.New("bench: tokens differ from those of plain decoding")

const (
	warmUp = 8   // tokens generated in each mode before anything is timed
	first  = 512 // tokens whose reading has a row of its own, as llama-bench has it
)

// prefill makes the cache hold the prompt but for its last token.
func (r *runner) prefill(prompt []int32, emit func(Row)) error {
	if len(r.prompt) > 0 { // forget what was generated after it
		if err := r.rewind(r.prompt); err != nil {
			return err
		}
	}
	r.prompt = prompt
	for _, n := range []int{first, len(prompt) - 1} {
		if n > len(prompt)-1 || n == first && r.began {
			continue
		}
		g := r.o.generation(aCase{spec: heeded(engine.Spec{Mode: engine.SpecPlain})})
		g.Predict = 0
		was := int64(0)
		g.Progress = func(done, _ int) {
			now := r.readCost(n-min(n, done), n)
			r.progress(fmt.Sprintf("reading to %d", len(prompt)-1), now-was)
			was = now
		}
		result, err := r.s.Generate(r.ctx, prompt[:n+1], g, ignore)
		if err != nil {
			return err
		}
		if result.Read == 0 {
			continue
		}
		r.began = true
		row := r.row(Setting{Mode: Prefill, Depth: result.Cached, Prompt: result.Read})
		row.NS, row.KVBytes, row.PeakBytes = Samples{result.PromptTime.Nanoseconds()}, r.s.CacheBytes(), engine.PeakBytes()
		row.finish()
		emit(*row)
	}
	return nil
}

func ignore(engine.Token) error { return nil }

// reread is the tokens of the prompt that a mode reads again: levels take the
// newest rows of the last pass over the prompt for a hint at what matters.
const reread = 32

// outcome is what a run came to.
type outcome struct {
	ns   int64 // but for reading the prompt and preparing the levels
	ids  []int32
	disk engine.DiskStats
}

// once generates in one mode.
func (r *runner) once(prompt []int32, c aCase) (outcome, error) {
	if err := r.rewind(prompt[:max(1, len(prompt)-reread)]); err != nil {
		return outcome{}, err
	}
	ids := make([]int32, 0, r.o.Predict)
	result, err := r.s.Generate(r.ctx, prompt, r.o.generation(c), func(t engine.Token) error {
		if t.ID >= 0 {
			ids = append(ids, t.ID)
		}
		return nil
	})
	return outcome{result.PredictTime.Nanoseconds(), ids, result.Disk}, err
}

// rewind makes the cache hold the prompt but for its last token.
func (r *runner) rewind(prompt []int32) error {
	g := r.o.generation(aCase{spec: heeded(engine.Spec{Mode: engine.SpecPlain})})
	g.Predict = 0
	_, err := r.s.Generate(r.ctx, prompt, g, ignore)
	return err
}

// limit is the most tokens a second that plain decoding can give, on the
// average of a run.
func (r *runner) limit(depth int) float64 {
	w := r.e.Work(depth+r.o.Predict/2, 1)
	return r.where.Bandwidth / float64(w.Weights+w.KV)
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
