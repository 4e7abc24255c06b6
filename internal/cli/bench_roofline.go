package cli

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"triforce/bench"
	"triforce/engine"
)

func (o *benchOptions) roofline() *bench.RooflineOptions {
	return &bench.RooflineOptions{Depths: o.Bench.Depths, Rows: o.Rows, Reps: o.Bench.Reps}
}

// checkRoofline is check with --roofline.
func (o *benchOptions) checkRoofline(f *pflag.FlagSet) error {
	idle := append([]string{"preset", "draft", "workload", "modes", "temps", "predict", "sample-time", "seed", "batch-size", "compare", "resume", "save"}, specFlags[engine.SpecAuto]...)
	if given := changed(f, idle...); given != "" {
		return usagef("no effect with --roofline: %s", given)
	}
	if len(o.Threads) > 1 || len(o.KVTypes) > 1 {
		return usagef("--roofline takes one of --threads and of --kv-type")
	}
	if !slices.Contains(bench.RooflineFormats(), o.Output) {
		return usagef("--output %s: expected one of %s with --roofline", o.Output, strings.Join(bench.RooflineFormats(), ", "))
	}
	r := o.roofline()
	return r.Validate()
}

func (o *benchOptions) runRoofline(ctx context.Context, file *engine.File) error {
	var text []int32
	if o.File != "" {
		work, err := o.workload(file)
		if err != nil {
			return err
		}
		if text, err = work.Prompt(o.need() - 1); err != nil {
			return usagef("--file %s: %w", o.File, err)
		}
	}
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	where := bench.NewWhere(e)
	where.Command = o.Command
	machine := e.Roofline()
	opt := o.roofline()
	opt.Text = text
	bar := o.Sys.progress("")
	defer bar.done()
	opt.Progress = func(stage string, done, total int) { bar.work(stage, int64(done), int64(total)) }
	var passes []bench.Pass
	err = bench.Roofline(ctx, e, machine, *opt, func(p bench.Pass) { passes = append(passes, p) })
	bar.done()
	return errors.Join(bench.WriteRoofline(o.Sys.Out, o.Output, &where, machine, passes), err)
}
