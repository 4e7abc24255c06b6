package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/pflag"

	"triforce/bench"
	"triforce/engine"
)

// planOptions are those of the planner.
type planOptions struct {
	On         bool
	Measure    bool
	Acceptance []float64 // of the middle level, and of the draft
	WeightType string
	planner    *bench.Planner // while it measures
}

var planFlags = []string{"acceptance", "weight-type", "measure"}

func (p *planOptions) bind(f *pflag.FlagSet) {
	p.Acceptance = []float64{0.9, 0.6}
	f.BoolVar(&p.On, "plan", false, "predict speeds by depth from the model's metadata (a GGUF header or config.json)")
	f.Float64SliceVar(&p.Acceptance, "acceptance", p.Acceptance, "assumed `shares` of accepted tokens with --plan: of the middle level's, of the draft's")
	f.StringVar(&p.WeightType, "weight-type", "", "`format` of the weights with --plan and a config.json (default Q8_0)")
	f.BoolVar(&p.Measure, "measure", false, "with --plan, run the model too and show its speed beside the prediction")
}

// checkPlan finds flags that the planner has no use for.
func (o *benchOptions) checkPlan(f *pflag.FlagSet) error {
	if len(o.Threads) > 1 || len(o.KVTypes) > 1 {
		return usagef("--plan takes one of --threads and of --kv-type")
	}
	if len(o.Plan.Acceptance) != 2 {
		return usagef("--acceptance: expected two numbers, such as 0.9,0.6")
	}
	for _, name := range bench.AxisNames() {
		if values := *o.Axes[name]; len(values) > 1 {
			return usagef("--%s: expected one number with --plan", name)
		}
	}
	if o.Plan.Measure {
		if o.Preset != "" || f.Changed("rows") {
			return usagef("--plan --measure has no use for --preset and --rows")
		}
		if !f.Changed("modes") {
			for i := range o.Bench.Sweeps {
				o.Bench.Sweeps[i].Modes = []string{engine.SpecPlain, engine.SpecRetrieval, engine.SpecTriForce}
			}
		}
		if err := o.Bench.Validate(); err != nil {
			return err
		}
		if o.draftOptions().draftPath() == "" {
			return o.withoutDraft(f.Changed("modes"))
		}
		return nil
	}
	if given := changed(f, "preset", "file", "workload", "item", "modes", "temps", "reps", "sample-time", "seed", "compare", "resume", "rows"); given != "" {
		return usagef("no effect with --plan but without --measure: %s", given)
	}
	return o.Bench.Validate()
}

// planDepths are the depths of a first look at a model of any context.
var planDepths = []int{0, 2 << 10, 8 << 10, 32 << 10, 128 << 10, 512 << 10}

func (o *benchOptions) runPlan(ctx context.Context) error {
	path, err := o.Sys.locate(o.Model.Path)
	if err != nil {
		return err
	}
	target, err := engine.OpenShape(path, o.Plan.WeightType)
	if err != nil {
		return err
	}
	opt := bench.PlanOptions{Target: target, Engine: o.Model.Options, Predict: o.Bench.Predict, Spec: o.Bench.Spec,
		View: o.Plan.Acceptance[0], Drafted: o.Plan.Acceptance[1], Command: o.Command}
	for _, name := range bench.AxisNames() {
		if values := *o.Axes[name]; len(values) == 1 {
			bench.SetAxis(&opt.Spec, name, values[0])
		}
	}
	if path := o.draftOptions().draftPath(); path != "" {
		if path, err = o.Sys.locate(path); err != nil {
			return err
		}
		// A draft's own file knows its format; beside a config.json it is small.
		if opt.Draft, err = engine.OpenShape(path, ""); err != nil {
			return err
		}
	}
	if opt.Depths, err = o.planned(target); err != nil {
		return err
	}
	if o.Model.KVRAM == engine.AutoRAM {
		if o.Model.KVRAM, err = o.autoRAM(target, slices.Max(opt.Depths)); err != nil {
			return err
		}
		opt.Engine.KVRAM = o.Model.KVRAM
	}
	if o.Model.KVRAM > 0 {
		if opt.Disk, err = engine.MeasureDisk(o.Model.KVDir); err != nil {
			return err
		}
	}
	planner, err := bench.NewPlanner(opt)
	if err != nil {
		return err
	}
	if o.Plan.Measure {
		o.Plan.On, o.Plan.planner, o.Bench.Around = false, planner, planner.Near
		return runBench(ctx, o)
	}
	bar := o.Sys.progress("timing passes of that shape")
	rows, err := planner.Rows(ctx, bar.tokens)
	bar.done()
	if err != nil {
		return err
	}
	return errors.Join(bench.Write(o.Sys.Out, o.Output, rows), o.save(rows))
}

// autoRAM is what --kv-ram auto comes to at the greatest depth, 0 if all fits.
func (o *benchOptions) autoRAM(s *engine.Shape, depth int) (int64, error) {
	opt := o.Model.Options
	opt.Context = depth + 1 + o.Bench.Predict
	f, err := s.Forecast(opt)
	if err != nil {
		return 0, err
	}
	if f.RAM == 0 {
		o.Sys.note("--kv-ram auto: all %v of keys and values fit into memory", engine.Bytes(f.KV))
	} else {
		o.Sys.note("--kv-ram auto: %v in memory, %v on disk", engine.Bytes(f.RAM), engine.Bytes(f.Disk))
	}
	return f.RAM, nil
}

// planned are the depths to predict for, which the model must be made for.
func (o *benchOptions) planned(s *engine.Shape) ([]int, error) {
	limit := s.Context()
	if o.Model.Context > 0 {
		limit = o.Model.Context
	}
	room := max(limit-1-o.Bench.Predict, 0)
	if o.DepthsGiven {
		if d := slices.Max(o.Bench.Depths); d > limit {
			return nil, usagef("--depths %d: beyond the context of %d; give a larger --ctx-size to plan for a stretched one", d, limit)
		}
		return o.Bench.Depths, nil
	}
	depths := slices.DeleteFunc(slices.Clone(planDepths), func(d int) bool { return d >= room })
	return append(depths, room), nil
}
