package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"triforce/bench"
	"triforce/engine"
)

type benchOptions struct {
	Sys      *System
	Model    modelOptions
	Draft    string
	File     string
	Bench    bench.Options
	Rows     []int
	Roofline bool
	Output   string
	// DepthsGiven says that the depths are the user's.
	DepthsGiven bool
	// Command does the same again.
	Command string
}

func newBench(sys *System, run func(context.Context, *benchOptions) error) *cobra.Command {
	o := &benchOptions{Sys: sys, Model: modelDefaults(sys), Bench: bench.Defaults(), Rows: bench.RooflineRows()}
	depths := counts(&o.Bench.Depths)
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure reading and generating at several lengths of text",
		Long: `Measure how fast a model reads and generates after texts of several lengths,
plainly and by speculation. Each run of a mode is paired with one of plain
decoding just before it, and must generate the same tokens.

Without a file, the model reads a story that it wrote itself.

With --roofline, measure what the machine can do, and how close to that passes
of several tokens come.`,
		Example: `  triforce bench --depths 0,2k
  triforce bench -f book.txt --depths 8k,32k --modes plain,triforce --temps 0
  triforce bench -m model.gguf -f book.txt -o json
  triforce bench --roofline -m model.gguf --depths 0,8k --rows 1,8,32`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Draft = cmp.Or(o.Draft, sys.recordedDraft(o.Model.Path))
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			o.DepthsGiven, o.Command = cmd.Flags().Changed("depths"), again(sys, cmd)
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.Model.bindRun(f)
	f.IntVarP(&o.Model.Batch, "batch-size", "b", o.Model.Batch, "prompt `tokens` that a pass takes")
	f.StringVarP(&o.Draft, "draft", "d", "", "draft model: `file` or pulled name, or none (default: the one that belongs to the model)")
	f.StringVarP(&o.File, "file", "f", "", "text `file` to read, - for standard input")
	f.Var(depths, "depths", "`tokens` of text before those measured, such as 0,2k,8k")
	f.StringSliceVar(&o.Bench.Modes, "modes", o.Bench.Modes, "`modes` of speculation: "+strings.Join(engine.SpecModes(), ", "))
	f.Float64SliceVar(&o.Bench.Temps, "temps", o.Bench.Temps, "`temperatures`; 0 takes the most probable token")
	f.IntVarP(&o.Bench.Predict, "predict", "n", o.Bench.Predict, "`tokens` to generate in a run")
	f.IntVarP(&o.Bench.Reps, "reps", "r", o.Bench.Reps, "`runs` of each mode")
	f.Uint64Var(&o.Bench.Sample.Seed, "seed", 0, "the same seed gives the same text")
	bindSpec(f, &o.Bench.Spec)
	_ = f.MarkHidden("spec") // --modes says it
	f.BoolVar(&o.Roofline, "roofline", false, "compare passes with what the machine can do")
	f.IntSliceVar(&o.Rows, "rows", o.Rows, "`tokens` of a pass, with --roofline")
	f.StringVarP(&o.Output, "output", "o", "md", "`form` of the results: "+strings.Join(bench.Formats(), ", "))
	return cmd
}

// check finds flags that contradict each other or would do nothing.
func (o *benchOptions) check(f *pflag.FlagSet) error {
	if !slices.Contains(bench.Formats(), o.Output) {
		return usagef("--output %q: expected one of %s", o.Output, strings.Join(bench.Formats(), ", "))
	}
	if f.Changed("spec") {
		return usagef("--spec has no effect here; name the modes with --modes")
	}
	if o.Roofline {
		idle := append([]string{"draft", "file", "modes", "temps", "predict", "seed", "batch-size"}, specFlags[engine.SpecAuto]...)
		if given := changed(f, idle...); given != "" {
			return usagef("no effect with --roofline: %s", given)
		}
		r := o.roofline()
		return r.Validate()
	}
	if f.Changed("rows") {
		return usagef("--rows needs --roofline")
	}
	if err := o.Bench.Validate(); err != nil {
		return err
	}
	idle := slices.DeleteFunc(slices.Clone(specFlags[engine.SpecAuto]), func(name string) bool {
		if name == "draft" && o.Draft == "none" {
			return true
		}
		return slices.ContainsFunc(o.Bench.Modes, func(mode string) bool { return slices.Contains(specFlags[mode], name) })
	})
	if given := changed(f, idle...); given != "" {
		return usagef("no effect with --modes %s: %s", strings.Join(o.Bench.Modes, ","), given)
	}
	if o.draftOptions().draftPath() == "" {
		return o.withoutDraft(f.Changed("modes"))
	}
	return nil
}

// withoutDraft leaves out the modes that need a draft, or refuses them if they
// were asked for.
func (o *benchOptions) withoutDraft(asked bool) error {
	needs := func(mode string) bool { return mode == engine.SpecDraft || mode == engine.SpecTriForce }
	if asked && slices.ContainsFunc(o.Bench.Modes, needs) {
		return usagef("--modes draft and triforce need a draft model; name one with --draft (-d), or use some of %s",
			strings.Join(slices.DeleteFunc(engine.SpecModes(), needs), ", "))
	}
	o.Bench.Modes = slices.DeleteFunc(slices.Clone(o.Bench.Modes), needs)
	return nil
}

// draftOptions is what finds and loads the draft for the modes.
func (o *benchOptions) draftOptions() *generateOptions {
	g := &generateOptions{Sys: o.Sys, Model: o.Model, Draft: o.Draft}
	g.Gen.Spec.Mode = engine.SpecPlain
	for _, mode := range o.Bench.Modes {
		if slices.Contains(specFlags[mode], "draft") {
			g.Gen.Spec.Mode = engine.SpecAuto
		}
	}
	return g
}

func (o *benchOptions) roofline() *bench.RooflineOptions {
	return &bench.RooflineOptions{Depths: o.Bench.Depths, Rows: o.Rows, Reps: o.Bench.Reps}
}

func runBench(ctx context.Context, o *benchOptions) error {
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := o.fit(file); err != nil {
		return err
	}
	var text []int32
	if o.File != "" && !o.Roofline {
		if text, err = o.text(file); err != nil {
			return err
		}
	}
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	stages := &stages{sys: o.Sys}
	defer stages.done()
	if o.Roofline {
		return o.runRoofline(ctx, e, stages)
	}
	draft, err := o.draftOptions().loadDraft(ctx, e)
	if err != nil {
		return err
	}
	if draft != nil {
		defer draft.Close()
	}
	head := bench.NewHead(e)
	head.Text, head.Command = o.File+", from its beginning", o.Command
	head.Accept, head.Seed = o.Bench.Spec.Accept, o.Bench.Sample.Seed
	if text == nil {
		head.Text = "a story that the model wrote itself, at temperature 0.8"
		text, err = bench.Story(ctx, e, slices.Max(o.Bench.Depths)+1, func(done, total int) { stages.move("writing a story", done, total) })
		if err != nil {
			return err
		}
	}
	head.Bandwidth = e.ReadBandwidth()
	o.Bench.Progress = stages.move
	var rows []bench.Row
	err = bench.Run(ctx, e, text, head.Bandwidth, o.Bench, func(r bench.Row) { rows = append(rows, r) })
	stages.done()
	return errors.Join(bench.Write(o.Sys.Out, o.Output, &head, rows), err)
}

func (o *benchOptions) runRoofline(ctx context.Context, e *engine.Engine, stages *stages) error {
	head := bench.NewHead(e)
	head.Command = o.Command
	machine := e.Roofline()
	opt := o.roofline()
	opt.Progress = stages.move
	var passes []bench.Pass
	err := bench.Roofline(ctx, e, machine, *opt, func(p bench.Pass) { passes = append(passes, p) })
	stages.done()
	return errors.Join(bench.WriteRoofline(o.Sys.Out, o.Output, &head, machine, passes), err)
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
		o.Bench.Depths = slices.DeleteFunc(slices.Clone(o.Bench.Depths), func(d int) bool { return d > limit })
	}
	last := len(o.Bench.Depths) - 1
	deepest := o.Bench.Depths[last]
	if deepest > limit || room < 0 || last > 0 && room <= o.Bench.Depths[last-1] && deepest > room {
		return usagef("--depths %d: with what follows, %d tokens exceed the context of %d; "+
			"stretch it with --rope-scaling and --rope-scale, or raise --ctx-size if it was given", deepest, o.need(), limit)
	}
	if deepest > room {
		o.Sys.warn("the context of %d has room for a depth of %d, not %d", limit, room, deepest)
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

// text is the tokens of the file, as many as are needed. Depths that it does
// not reach are left out.
func (o *benchOptions) text(file *engine.File) ([]int32, error) {
	text, err := readText(o.Sys, o.File)
	if err != nil {
		return nil, err
	}
	ids := file.Encode(text)
	if len(ids) == 0 {
		return nil, usagef("--file %s: the text has no tokens", o.File)
	}
	reached := slices.DeleteFunc(slices.Clone(o.Bench.Depths), func(d int) bool { return d >= len(ids) })
	if len(reached) == 0 {
		return nil, usagef("--file %s: the text has %s tokens, too few for --depths %d", o.File, grouped(len(ids)), slices.Min(o.Bench.Depths))
	}
	if len(reached) < len(o.Bench.Depths) {
		o.Sys.warn("%s has %s tokens: depths beyond are left out", o.File, grouped(len(ids)))
		o.Bench.Depths = reached
	}
	return ids[:min(len(ids), slices.Max(reached)+1)], nil
}

// stages shows one bar after another.
type stages struct {
	sys *System
	bar *progress
}

func (s *stages) move(stage string, done, total int) {
	if s.bar == nil || s.bar.label != stage {
		s.done()
		s.bar = s.sys.progress(stage)
	}
	s.bar.tokens(done, total)
}

func (s *stages) done() {
	if s.bar != nil {
		s.bar.done()
		s.bar = nil
	}
}

// counts binds a list of numbers that may be written with a k for 1024.
func counts(list *[]int) pflag.Value { return (*countsValue)(list) }

type countsValue []int

func (v *countsValue) Type() string { return "counts" }

func (v *countsValue) String() string {
	var s []string
	for _, n := range *v {
		if n > 0 && n%1024 == 0 {
			s = append(s, strconv.Itoa(n/1024)+"k")
		} else {
			s = append(s, strconv.Itoa(n))
		}
	}
	return strings.Join(s, ",")
}

func (v *countsValue) Set(text string) error {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		digits, unit := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(part)), "k"), 1
		if digits != strings.ToLower(strings.TrimSpace(part)) {
			unit = 1024
		}
		n, err := strconv.ParseUint(digits, 10, 28)
		if err != nil {
			return fmt.Errorf("%q: expected numbers of tokens such as 0,2k,8192", part)
		}
		list = append(list, int(n)*unit)
	}
	*v = list
	return nil
}

// again is the command line with the flags that were given.
func again(sys *System, cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	if tier := sys.Getenv("TRIFORCE_TIER"); tier != "" {
		words = slices.Insert(words, 0, "TRIFORCE_TIER="+quoted(tier))
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			items := list.GetSlice()
			for i, item := range items { // of numbers, as short as they are
				if x, err := strconv.ParseFloat(item, 64); err == nil {
					items[i] = strconv.FormatFloat(x, 'f', -1, 64)
				}
			}
			value = strings.Join(items, ",")
		}
		if f.NoOptDefVal != "" && value == f.NoOptDefVal {
			words = append(words, "--"+f.Name)
			return
		}
		words = append(words, "--"+f.Name+"="+quoted(value))
	})
	return strings.Join(words, " ")
}

// quoted is a word that a shell takes as it is.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_./,:=+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
