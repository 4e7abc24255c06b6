package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"triforce/bench"
	"triforce/engine"
	"triforce/internal/replace"
)

type benchOptions struct {
	Sys      *System
	Model    modelOptions
	Draft    string
	File     string
	Workload string
	Item     int // of a data set, -1 = the first that is long enough
	Preset   string
	Modes    []string
	Temps    []float64
	Axes     map[string]*[]int // of bench.AxisNames
	Threads  []int
	KVTypes  []string
	Bench    bench.Options
	Rows     []int
	Roofline bool
	Output   string
	Compare  string
	Resume   string
	Save     string
	Plan     planOptions
	// DepthsGiven says that the depths are the user's.
	DepthsGiven bool
	// Command does the same again.
	Command string
}

func newBench(sys *System, run func(context.Context, *benchOptions) error) *cobra.Command {
	o := &benchOptions{Sys: sys, Model: modelDefaults(sys), Bench: bench.Defaults(), Rows: bench.RooflineRows(), Item: -1, Axes: map[string]*[]int{}}
	o.Threads, o.KVTypes = []int{o.Model.Threads}, []string{o.Model.KVType}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure reading and generating at several lengths of text",
		Long: `Measure how fast a model reads and generates after texts of several lengths,
plainly and by speculation. The modes take turns, each run is paired with one of
plain decoding just before it, and must generate the same tokens. The text up to
a depth is read once for all modes.

Without a file, the model reads tales that it wrote itself. A file may be plain
text, a folder of texts or of source files, or items of PG-19, LongBench, RULER
or NarrativeQA in JSON lines.

Lists make a sweep: each mode with each temperature, budget, chunk and so on, as
far as it heeds them.

With --plan, nothing of the model but its metadata is needed: a GGUF header or a
config.json. Passes of a model of that shape are timed on this machine, and the
speed of plain decoding and of speculation predicted by depth, for a given
acceptance. So one sees at which context it pays before loading 8 GB. If the
model is there, --measure shows what is measured beside the prediction.

An interrupt ends the run and prints the rows that are finished; with --resume
it goes on. With --roofline, measure what the machine can do, and how close to
that passes of several tokens come: after a text, or without a file after noise,
of which attention leaves nothing out.`,
		Example: `  triforce bench
  triforce bench -f book.txt --depths 8k,32k --modes plain,triforce --temps 0,0.6
  triforce bench -m model.gguf -f book.txt --workload needle -o html > report.html
  triforce bench -m model.gguf -f hotpotqa.jsonl --budget 256,512,1k
  triforce bench -m model.gguf -f book.txt --preset paper --save results
  triforce bench -m model.gguf -f book.txt --compare llama-bench.json
  triforce bench --plan -m config.json -d draft/config.json --acceptance 0.9,0.6
  triforce bench --roofline -m model.gguf -f book.txt --depths 0,8k --rows 1,8,32`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Command = again(sys, cmd)
			o.Draft = cmp.Or(o.Draft, sys.recordedDraft(o.Model.Path))
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Preset, "preset", "", "a `set` of sweeps: "+strings.Join(bench.Presets(), ", ")+" (default quick)")
	o.Model.bindPath(f)
	f.StringVarP(&o.Draft, "draft", "d", "", "draft model: `file` or pulled name, or none (default: the one that belongs to the model)")
	f.StringVarP(&o.File, "file", "f", "", "`file` or folder to read, - for standard input")
	f.StringVar(&o.Workload, "workload", "", "what to do with it: "+strings.Join(bench.Kinds(), ", ")+" (default: what suits the file)")
	f.IntVar(&o.Item, "item", o.Item, "`number` of the item in a data set, from 0 (default: the first that is long enough)")
	f.Var(counts(&o.Bench.Depths), "depths", "`tokens` of text before those measured, such as 0,2k,8k")
	f.StringSliceVar(&o.Modes, "modes", nil, "`modes` of speculation: "+strings.Join(engine.SpecModes(), ", "))
	f.Float64SliceVar(&o.Temps, "temps", nil, "`temperatures`; 0 takes the most probable token")
	f.IntVarP(&o.Bench.Predict, "predict", "n", o.Bench.Predict, "`tokens` to generate in a run")
	f.IntVarP(&o.Bench.Reps, "reps", "r", o.Bench.Reps, "`samples` of each mode")
	f.DurationVar(&o.Bench.SampleTime, "sample-time", o.Bench.SampleTime, "`time` that a sample takes at least; shorter runs are repeated, and their mean is the sample")
	f.Uint64Var(&o.Bench.Sample.Seed, "seed", 0, "the same seed gives the same text")
	o.Model.bindContext(f)
	o.Model.bindBatch(f, "")
	o.Model.bindOffload(f)
	f.VarP(counts(&o.Threads), "threads", "t", "worker `threads`, one or several numbers")
	f.StringSliceVar(&o.KVTypes, "kv-type", o.KVTypes, "stored `forms` of keys and values: "+strings.Join(engine.KVTypes(), ", "))
	// Flags of speculation of which a sweep takes several values.
	spec := pflag.NewFlagSet("", pflag.ContinueOnError)
	bindSpec(spec, &o.Bench.Spec)
	spec.VisitAll(func(flag *pflag.Flag) {
		if slices.Contains(bench.AxisNames(), flag.Name) {
			o.Axes[flag.Name] = &[]int{}
			usage := flag.Usage + "; one or several"
			flag = &pflag.Flag{Name: flag.Name, Usage: usage, Value: counts(o.Axes[flag.Name]), DefValue: flag.DefValue}
		}
		flag.Hidden = flag.Name == "spec" // --modes says it
		f.AddFlag(flag)
	})
	o.Plan.bind(f)
	f.BoolVar(&o.Roofline, "roofline", false, "compare passes with what the machine can do")
	f.IntSliceVar(&o.Rows, "rows", o.Rows, "`tokens` of a pass, with --roofline")
	f.StringVar(&o.Compare, "compare", "", "`file` with the output of llama-bench or llama-sweep-bench, to be shown beside")
	f.StringVar(&o.Resume, "resume", "", "`file` with rows of an earlier run (-o json or jsonl), which are not measured again")
	f.StringVar(&o.Save, "save", "", "`folder` to write the results to in all forms, with the plots as SVG and PNG")
	f.StringVarP(&o.Output, "output", "o", "md", "`form` of the results: "+strings.Join(bench.Formats(), ", "))
	return cmd
}

// check finds flags that contradict each other or would do nothing, and makes
// the sweeps.
func (o *benchOptions) check(f *pflag.FlagSet) error {
	if err := o.Model.checkOffload(f); err != nil {
		return err
	}
	o.Model.budgetForDisk(f, &o.Bench.Spec)
	if !slices.Contains(bench.Formats(), o.Output) {
		return usagef("--output %q: expected one of %s", o.Output, strings.Join(bench.Formats(), ", "))
	}
	if f.Changed("spec") {
		return usagef("--spec has no effect here; name the modes with --modes")
	}
	if err := o.sweeps(f); err != nil {
		return err
	}
	for _, o.Model.Threads = range o.Threads {
		for _, o.Model.KVType = range o.KVTypes {
			if err := o.Model.Options.Validate(); err != nil {
				return err
			}
		}
	}
	if o.Roofline {
		return o.checkRoofline(f)
	}
	if o.Plan.On {
		return o.checkPlan(f)
	}
	if given := changed(f, planFlags...); given != "" {
		return usagef("%s: no effect without --plan", given)
	}
	if f.Changed("rows") {
		return usagef("--rows needs --roofline")
	}
	if o.File == "" && o.Workload == "code" {
		return usagef("--workload code needs a folder or a file of source code; name it with --file (-f)")
	}
	if o.Workload != "" && !slices.Contains(bench.Kinds(), o.Workload) {
		return usagef("--workload %q: expected one of %s", o.Workload, strings.Join(bench.Kinds(), ", "))
	}
	if o.File == "" && o.Workload != "" {
		return usagef("--workload %s needs a text; name one with --file (-f)", o.Workload)
	}
	if err := o.Bench.Validate(); err != nil {
		return err
	}
	modes := o.Bench.Modes()
	idle := slices.DeleteFunc(slices.Clone(specFlags[engine.SpecAuto]), func(name string) bool {
		if name == "draft" && o.Draft == "none" {
			return true
		}
		return slices.ContainsFunc(modes, func(mode string) bool { return slices.Contains(specFlags[mode], name) })
	})
	if given := changed(f, idle...); given != "" {
		return usagef("no effect with --modes %s: %s", strings.Join(modes, ","), given)
	}
	if o.draftOptions().draftPath() == "" {
		return o.withoutDraft(f.Changed("modes"))
	}
	return nil
}

// sweeps makes the options of the preset, changed where flags were given.
func (o *benchOptions) sweeps(f *pflag.FlagSet) error {
	o.DepthsGiven = f.Changed("depths")
	preset := o.Preset
	if preset == "" {
		preset = bench.Presets()[0]
	}
	p, err := bench.Preset(preset)
	if err != nil {
		return err
	}
	if !o.DepthsGiven {
		o.Bench.Depths = p.Depths
	}
	if !f.Changed("predict") {
		o.Bench.Predict = p.Predict
	}
	if !f.Changed("reps") {
		o.Bench.Reps = p.Reps
	}
	o.Bench.Sweeps = p.Sweeps
	for i := range o.Bench.Sweeps {
		s := &o.Bench.Sweeps[i]
		if f.Changed("modes") {
			s.Modes = o.Modes
		}
		if f.Changed("temps") {
			s.Temps = o.Temps
		}
		for _, name := range bench.AxisNames() {
			if f.Changed(name) {
				s.Axes = slices.DeleteFunc(s.Axes, func(a bench.Axis) bool { return a.Name == name })
				s.Axes = append(s.Axes, bench.Axis{Name: name, Values: *o.Axes[name]})
			}
		}
	}
	return nil
}

// withoutDraft leaves out the modes that need a draft, or refuses them if they
// were asked for.
func (o *benchOptions) withoutDraft(asked bool) error {
	needs := func(mode string) bool { return mode == engine.SpecDraft || mode == engine.SpecTriForce }
	if asked && slices.ContainsFunc(o.Bench.Modes(), needs) {
		return usagef("--modes draft and triforce need a draft model; name one with --draft (-d), or use some of %s",
			strings.Join(slices.DeleteFunc(engine.SpecModes(), needs), ", "))
	}
	for i := range o.Bench.Sweeps {
		s := &o.Bench.Sweeps[i]
		s.Modes = slices.DeleteFunc(slices.Clone(s.Modes), needs)
	}
	o.Bench.Sweeps = slices.DeleteFunc(o.Bench.Sweeps, func(s bench.Sweep) bool { return len(s.Modes) == 0 })
	return nil
}

// draftOptions is what finds and loads the draft for the modes.
func (o *benchOptions) draftOptions() *generateOptions {
	g := &generateOptions{Sys: o.Sys, Model: o.Model, Draft: o.Draft}
	g.Gen.Spec.Mode = engine.SpecPlain
	for _, mode := range o.Bench.Modes() {
		if slices.Contains(specFlags[mode], "draft") {
			g.Gen.Spec.Mode = engine.SpecAuto
		}
	}
	return g
}

func runBench(ctx context.Context, o *benchOptions) error {
	if o.Plan.On {
		return o.runPlan(ctx)
	}
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := o.fit(file); err != nil {
		return err
	}
	if o.Roofline {
		return o.runRoofline(ctx, file)
	}
	// What is wrong with other files is known before anything takes time.
	var peers []bench.Row
	if o.Compare != "" {
		if peers, err = readFile(o.Compare, bench.ReadPeer); err != nil {
			return err
		}
	}
	if o.Resume != "" {
		if o.Bench.Done, err = readFile(o.Resume, bench.ReadRows); err != nil {
			return err
		}
	}
	if o.Save != "" {
		if err := os.MkdirAll(o.Save, 0o755); err != nil {
			return fmt.Errorf("--save: %w", err)
		}
	}
	var work *bench.Workload
	if o.File != "" {
		if work, err = o.workload(file); err != nil {
			return err
		}
	}
	rows := slices.Clone(o.Bench.Done)
	err = o.measure(ctx, file, work, func(r bench.Row) {
		if o.Plan.planner != nil {
			o.Plan.planner.Beside(&r)
		}
		if i := slices.IndexFunc(rows, func(have bench.Row) bool { return have.Setting == r.Setting }); i >= 0 {
			rows[i] = r
		} else {
			rows = append(rows, r)
		}
	})
	rows = bench.Beside(rows, peers)
	return errors.Join(bench.Write(o.Sys.Out, o.Output, rows), o.save(rows), err)
}

func readFile(path string, read func(name string, data []byte) ([]bench.Row, error)) ([]bench.Row, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("rows: %w", err)
	}
	return read(path, data)
}

// measure runs the sweeps with each number of threads and form of cache.
func (o *benchOptions) measure(ctx context.Context, file *engine.File, work *bench.Workload, emit func(bench.Row)) error {
	all, n := len(o.Threads)*len(o.KVTypes), 0
	for _, o.Model.Threads = range o.Threads {
		for _, o.Model.KVType = range o.KVTypes {
			if err := o.measureOne(ctx, file, &work, all, n, emit); err != nil {
				return err
			}
			n++
		}
	}
	return nil
}

// measureOne runs the sweeps with one engine, the n-th of all.
func (o *benchOptions) measureOne(ctx context.Context, file *engine.File, work **bench.Workload, all, n int, emit func(bench.Row)) error {
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	noteDisk(o.Sys, e)
	draft, err := o.draftOptions().loadDraft(ctx, e)
	if err != nil {
		return err
	}
	if draft != nil {
		defer draft.Close()
	}
	if *work == nil {
		bar := o.Sys.progress("writing a story to read")
		*work, err = bench.Story(ctx, e, slices.Max(o.Bench.Depths)+1, bar.tokens)
		bar.done()
		if err != nil {
			return err
		}
	}
	where := bench.NewWhere(e)
	where.Command, where.Seed = o.Command, o.Bench.Sample.Seed
	bar := o.Sys.progress("")
	defer bar.done()
	opt := o.Bench
	opt.Progress = func(stage string, done, total int64) { bar.work(stage, int64(n)*total+done, int64(all)*total) }
	return bench.Run(ctx, e, *work, where, opt, emit)
}

// save writes the results in all forms to the folder that was named.
func (o *benchOptions) save(rows []bench.Row) error {
	if o.Save == "" || len(rows) == 0 {
		return nil
	}
	write := func(name string, data []byte) error {
		// What was there may be what is gone on with.
		return replace.Data(filepath.Join(o.Save, name), 0o644, data)
	}
	figures := bench.Figures(rows)
	for _, format := range bench.Formats() {
		var b strings.Builder
		if err := bench.Write(&b, format, rows); err != nil {
			return err
		}
		text := b.String()
		name := "results." + format
		switch format {
		case "benchstat":
			name = "results.benchstat.txt"
		case "md":
			for _, f := range figures {
				text += fmt.Sprintf("\n![%s](%s.svg)\n", f.Caption, f.Name)
			}
		}
		if err := write(name, []byte(text)); err != nil {
			return fmt.Errorf("--save: %w", err)
		}
	}
	for _, f := range figures {
		for _, format := range []string{"svg", "png"} {
			data, err := f.Render(format)
			if err == nil {
				err = write(f.Name+"."+format, data)
			}
			if err != nil {
				return fmt.Errorf("--save: %w", err)
			}
		}
	}
	return nil
}

// fit sets the context to what is needed, which the model must be made for. A
// depth that leaves no room for the tokens after it gives way to them; one
// beyond the context is a mistake if it was asked for.
func (o *benchOptions) fit(file *engine.File) error {
	limit, err := o.Model.Context, error(nil)
	if limit == 0 {
		limit, err = file.Context()
	}
	if err != nil {
		return err
	}
	room := limit - (o.need() - slices.Max(o.Bench.Depths))
	if !o.DepthsGiven {
		if reached := slices.DeleteFunc(slices.Clone(o.Bench.Depths), func(d int) bool { return d > limit }); len(reached) > 0 {
			o.Bench.Depths = reached
		} else {
			o.Bench.Depths = []int{max(room, 0)}
		}
	}
	last := len(o.Bench.Depths) - 1
	deepest := o.Bench.Depths[last]
	if deepest > limit || room < 0 || last > 0 && room <= o.Bench.Depths[last-1] && deepest > room {
		return usagef("--depths %d: with what follows, %d tokens exceed the context of %d; "+
			"stretch it with --rope-scaling and --rope-scale, or raise --ctx-size if it was given", deepest, o.need(), limit)
	}
	if deepest > room {
		if o.DepthsGiven {
			o.Sys.warn("the context of %d has room for a depth of %d, not %d", limit, room, deepest)
		}
		o.Bench.Depths = append(slices.Clone(o.Bench.Depths[:last]), room)
	}
	o.Model.Context = o.need()
	return nil
}

// need is the number of tokens that the context must hold.
func (o *benchOptions) need() int {
	if o.Roofline {
		return o.roofline().Need()
	}
	return o.Bench.Need()
}
