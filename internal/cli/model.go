package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"triforce/engine"
)

// modelOptions says which model to use, and how: what several commands share.
type modelOptions struct {
	Path string
	engine.Options
	Rope engine.Rope
}

func modelDefaults(sys *System) modelOptions {
	o := modelOptions{Options: engine.Defaults()}
	o.Tier = sys.Getenv("TRIFORCE_TIER")
	return o
}

// bindPath binds the flag that names the model.
func (o *modelOptions) bindPath(f *pflag.FlagSet) {
	f.StringVarP(&o.Path, "model", "m", "", "GGUF `file`, safetensors file or folder, or pulled name (default: the embedded model)")
}

// bindBatch binds the flag for the prompt tokens of a pass; of says whose they are.
func (o *modelOptions) bindBatch(f *pflag.FlagSet, of string) {
	f.IntVarP(&o.Batch, "batch-size", "b", o.Batch, "prompt `tokens` that a pass takes"+of+", 0 = 64, or 128 for a large model")
}

// bindContext binds the flags that shape the context.
func (o *modelOptions) bindContext(f *pflag.FlagSet) {
	f.IntVarP(&o.Context, "ctx-size", "c", o.Context, "context in `tokens` (0 = the model's own)")
	f.StringVar(&o.Rope.Scaling, "rope-scaling", "", "stretch the context: none, linear or yarn (default: as the model says)")
	f.Float64Var(&o.Rope.Scale, "rope-scale", 0, "`factor` to stretch the context by")
	f.Float64Var(&o.Rope.Base, "rope-base", 0, "base `frequency` of the rotary embedding")
}

// bindRun binds the flags of a command that runs the model.
func (o *modelOptions) bindRun(f *pflag.FlagSet) {
	o.bindPath(f)
	o.bindContext(f)
	f.IntVarP(&o.Threads, "threads", "t", o.Threads, "worker `threads`")
	f.StringVar(&o.KVType, "kv-type", o.KVType, "stored form of keys and values: q8_0, f16 or f32")
}

// open opens the model that the flags name.
func (o *modelOptions) open(sys *System) (*engine.File, error) {
	path, err := sys.locate(o.Path)
	if err != nil {
		return nil, err
	}
	return engine.OpenFile(path, o.Rope)
}

// load reads the weights, with a bar on a terminal.
func (o *modelOptions) load(ctx context.Context, sys *System, f *engine.File) (*engine.Engine, error) {
	p := sys.progress("loading")
	defer p.done()
	opt := o.Options
	opt.Progress = p.bytes
	return f.Load(ctx, opt)
}

// changed lists those of the named flags that were given, spelt as such.
func changed(f *pflag.FlagSet, names ...string) string {
	var given []string
	f.Visit(func(flag *pflag.Flag) {
		if slices.Contains(names, flag.Name) {
			given = append(given, "--"+flag.Name)
		}
	})
	return strings.Join(given, ", ")
}
