package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"triforce/engine"
)

type snapshotOptions struct {
	Sys   *System
	Model modelOptions
	Draft string
	Path  string // of the snapshot
	Prompt
	JSON bool
}

func newSnapshot(sys *System, save, restore, inspect func(context.Context, *snapshotOptions) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Keep what was read of a text in a file",
		Long: `Keep what a model has read of a text in a file, so that it need not be read
again: generate --cache FILE begins with it, and so may chat.`,
		Example: `  triforce snapshot save book.kv -m model.gguf -f book.txt
  triforce snapshot inspect book.kv
  triforce snapshot restore book.kv -m model.gguf
  triforce generate --cache book.kv -m model.gguf -f book.txt "Who is the narrator?"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("snapshot has no command %q; it has save, restore and inspect", args[0])
			}
			return cmd.Help()
		},
	}
	sub := func(use, short string, bind func(*cobra.Command, *snapshotOptions), run func(context.Context, *snapshotOptions) error) {
		o := &snapshotOptions{Sys: sys, Model: modelDefaults(sys)}
		c := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("%s: expected the snapshot's file, found %d arguments", cmd.Name(), len(args))
			}
			o.Path = args[0]
			return run(cmd.Context(), o)
		}}
		c.Flags().SortFlags = false
		bind(c, o)
		cmd.AddCommand(c)
	}
	sub("save FILE", "Read a text and save what came of it", func(c *cobra.Command, o *snapshotOptions) {
		f := c.Flags()
		o.Model.bindRun(f)
		o.Model.bindBatch(f, "")
		f.StringVarP(&o.File, "file", "f", "", "text `file`, - for standard input")
		f.BoolVar(&o.Chat, "chat", false, "lay the text out by the model's chat template, as a message")
	}, save)
	sub("restore FILE", "Load a snapshot, all of it checked, and say what it saves", func(c *cobra.Command, o *snapshotOptions) {
		o.Model.bindRun(c.Flags())
		c.Flags().BoolVar(&o.JSON, "json", false, "print JSON")
	}, restore)
	sub("inspect FILE", "Say what a snapshot holds, without a model", func(c *cobra.Command, o *snapshotOptions) {
		c.Flags().BoolVar(&o.JSON, "json", false, "print JSON")
	}, inspect)
	return cmd
}

// session opens the model and makes a session for plain decoding, which needs no
// draft.
func (o *snapshotOptions) session(ctx context.Context, do func(*engine.Engine, *engine.Session, engine.GenOptions) error) error {
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	s := e.NewSession()
	defer s.Close()
	g := engine.GenDefaults()
	g.Spec.Mode, g.Predict = engine.SpecPlain, 0
	return do(e, s, g)
}

func runSnapshotSave(ctx context.Context, o *snapshotOptions) error {
	if o.File == "" {
		return usagef("snapshot save: name the text with --file (-f)")
	}
	return o.session(ctx, func(e *engine.Engine, s *engine.Session, g engine.GenOptions) error {
		o.Raw = !o.Chat
		tokens, _, err := o.tokens(o.Sys, e.File())
		if err != nil {
			return err
		}
		bar := o.Sys.progress("reading")
		g.Progress = bar.tokens
		r, err := s.Generate(ctx, tokens, g, func(engine.Token) error { return nil })
		bar.done()
		if err != nil {
			return err
		}
		bar = o.Sys.progress("saving")
		err = s.Save(o.Path, bar.bytes)
		bar.done()
		if err == nil {
			o.Sys.note("%s: %s tokens, read in %v", o.Path, grouped(r.Prompt), r.PromptTime.Round(time.Millisecond))
		}
		return err
	})
}

// restored is what restore reports.
type restored struct {
	engine.SnapshotInfo
	RestoreMS float64 `json:"restore_ms"`
}

func runSnapshotRestore(ctx context.Context, o *snapshotOptions) error {
	info, err := engine.InspectSnapshot(o.Path)
	if err != nil {
		return err
	}
	return o.session(ctx, func(e *engine.Engine, s *engine.Session, g engine.GenOptions) error {
		bar := o.Sys.progress("restoring")
		start := time.Now()
		err := s.Load(o.Path, g.Spec, bar.bytes)
		took := time.Since(start)
		bar.done()
		if err != nil {
			return err
		}
		if o.JSON {
			return writeJSON(o.Sys.Out, restored{*info, float64(took.Microseconds()) / 1e3})
		}
		_, err = fmt.Fprintf(o.Sys.Out, "%s is whole: %s tokens of %s, restored in %v\n", o.Path, grouped(info.Cached), e.File().Name(), took.Round(time.Millisecond))
		return err
	})
}

func runSnapshotInspect(_ context.Context, o *snapshotOptions) error {
	info, err := engine.InspectSnapshot(o.Path)
	if err != nil {
		return err
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, info)
	}
	draft := ""
	if info.Draft != "" {
		draft = ", and a cache of draft " + info.Draft
	}
	_, err = fmt.Fprintf(o.Sys.Out, "%s: %s tokens, %s of them cached as %s in %d layers of %d × %d, by model %s%s; %s on disk, %s in memory\n",
		o.Path, grouped(info.Tokens), grouped(info.Cached), info.KVType, info.Layers, info.KVHeads, info.HeadDim, info.Model, draft,
		engine.Bytes(info.FileBytes), engine.Bytes(info.CacheBytes))
	return err
}
