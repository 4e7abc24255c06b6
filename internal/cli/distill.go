package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"triforce/distill"
	"triforce/engine"
	"triforce/hub"
	"triforce/tokenizer"
)

type distillOptions struct {
	Sys   *System
	Model modelOptions
	Texts []string // files and folders
	distill.Options
	From string // a draft
	JSON bool
}

func newDistill(sys *System, run func(context.Context, *distillOptions) error) *cobra.Command {
	o := &distillOptions{Sys: sys, Model: modelDefaults(sys), Options: distill.Defaults()}
	start := sys.Now()
	o.Now, o.Clock, o.Free = sys.Now, func() time.Duration { return sys.Now().Sub(start) }, hub.FreeBytes
	cmd := &cobra.Command{
		Use:   "distill",
		Short: "Make a draft for a model",
		Long: `Make a draft for a model: a small one that learns, from the model itself, what
it would say, so that it can guess its tokens. It is remembered as the draft
that belongs to the model, and used by the other commands from then on.

The model is asked what it thinks of texts that are given, or that it writes
itself; then the draft is trained until the time is over or it no longer gets
better. Interrupted, the same command goes on where it was.

What it prints as expected acceptance was measured on text that was kept back:
how probable it is that a guessed token is accepted, sampled and at temperature
0. Texts should be of the kind that the model will be used for.`,
		Example: `  triforce distill -m model.gguf --self 200000
  triforce distill -m model.gguf --text books/ --text notes.txt --minutes 60
  triforce distill -m model.gguf --text chats/ --from model-draft.gguf
  triforce distill -m model.gguf --text chats/ --layers 3 --dim 192 --vocab-head 16384`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(o.Texts) == 0 && o.Self == 0 {
				return usagef("there is nothing to learn from: give texts (--text), or let the model write them (--self)")
			}
			if o.Steps > 0 && cmd.Flags().Changed("minutes") {
				return usagef("--minutes has no effect with --steps")
			}
			for _, flag := range []string{"layers", "dim", "vocab-head", "random-start"} {
				if o.From != "" && cmd.Flags().Changed(flag) {
					return usagef("--%s has no effect with --from: the draft's shape stays", flag)
				}
			}
			if o.Steps > 0 {
				o.Minutes = 0
			}
			o.Out = cmp.Or(o.Out, draftName(o.Model.Path))
			o.Work = cmp.Or(o.Work, o.Out+".work")
			if err := o.Validate(); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.Model.bindPath(f)
	f.StringArrayVar(&o.Texts, "text", nil, "text `file` or folder to learn from; may be given several times")
	f.IntVar(&o.Self, "self", 0, "let the model write this many `tokens` of text to learn from")
	f.StringVarP(&o.Out, "out", "o", "", "`file` of the draft (default: the model's name with -draft.gguf, in this folder)")
	f.Float64Var(&o.Minutes, "minutes", o.Minutes, "how long it may take")
	f.IntVar(&o.Layers, "layers", o.Layers, "layers of the draft")
	f.IntVar(&o.Dim, "dim", o.Dim, "width of the draft (0 = the model's, up to 576)")
	f.IntVar(&o.Head, "vocab-head", o.Head, "`tokens` that the draft can guess: the most useful on the texts")
	f.IntVarP(&o.Model.Threads, "threads", "t", o.Model.Threads, "worker `threads`")
	f.StringVar(&o.Work, "work", "", "`folder` for what is kept until the draft is done, and labels for a next one (default: that of the draft with .work)")
	f.IntVar(&o.Steps, "steps", 0, "train this many `steps`, whatever the time: gives the same bits again (0 = by time)")
	f.IntVar(&o.Labels, "labels", 0, "ask the model about this many `excerpts` of the texts (0 = by time)")
	f.IntVar(&o.Batch, "batch", o.Batch, "`excerpts` of a step")
	f.Float64Var(&o.Rate, "rate", o.Rate, "highest learning rate (0 = by the draft's width, and lower with --from)")
	f.StringVar(&o.From, "from", "", "`draft` to go on from instead of a new one; it keeps its shape, and nothing is written if it gets worse (\"embedded\": that of the embedded model)")
	f.BoolVar(&o.Blind, "blind", false, "do not let the draft see what the model had in mind (its last hidden state)")
	f.BoolVar(&o.Random, "random-start", false, "start from random embeddings, not from a projection of the model's")
	f.Uint64Var(&o.Seed, "seed", 0, "of all chance")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

// draftName is what the draft of a model is called unless the user says so.
func draftName(model string) string {
	base := filepath.Base(cmp.Or(model, "fable.gguf"))
	return strings.TrimSuffix(base, filepath.Ext(base)) + "-draft.gguf"
}

func runDistill(ctx context.Context, o *distillOptions) error {
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	if o.From != "" {
		path := engine.EmbeddedDraft
		if o.From != "embedded" {
			if path, err = o.Sys.locate(o.From); err != nil {
				return err
			}
		}
		if o.Options.From, err = engine.OpenFile(path, engine.Rope{}); err != nil {
			return err
		}
		defer o.Options.From.Close()
		if err := file.CanDraft(o.Options.From); err != nil {
			return err
		}
	}
	texts, err := o.texts(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.Work, 0o755); err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	o.Model.Context = max(2*o.Length, 1024)
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	view := distillView{sys: o.Sys}
	o.Report = view.show
	result, err := distill.Run(ctx, e, texts, o.Options)
	view.done()
	if err != nil {
		if ctx.Err() != nil {
			o.Sys.note("the same command goes on from here; what it has so far is in %s", o.Work)
		}
		return err
	}
	if err := o.record(file); err != nil {
		return err
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, result)
	}
	fmt.Fprintf(o.Sys.Out, "%s: %s steps over %s tokens, %s labels; its %s tokens hold %.1f%% of what the model would say\n", result.Out,
		grouped(result.Steps), grouped(result.Tokens), grouped(result.Labels), grouped(result.Head), 100*result.Covered)
	for _, s := range []struct {
		what  string
		score distill.Score
	}{{"the texts", result.Text}, {"the model's own texts", result.Self}} {
		if s.score.Places > 0 {
			fmt.Fprintf(o.Sys.Out, "expected acceptance on %s: %.3f sampled, %.3f at temperature 0; of the token after it %.3f and %.3f (%s places that were kept back)\n",
				s.what, s.score.Overlap, s.score.Agreement, s.score.LaterOverlap, s.score.LaterAgreement, grouped(s.score.Places))
		}
	}
	_, err = fmt.Fprintf(o.Sys.Out, "%.0f s, %s tokens a second in training\n", result.Seconds, grouped(int(result.TokensPerSecond)))
	return err
}

// record remembers the draft as the model's own.
func (o *distillOptions) record(file *engine.File) error {
	path, err := filepath.Abs(o.Out)
	if err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	if o.Model.Path == "" {
		o.Sys.note("use it with: triforce generate -d %s", o.Out)
		return nil
	}
	if err := o.Sys.drafts().Record(file, o.Model.Path, path); err != nil {
		return err
	}
	o.Sys.note("it is remembered as the draft of %s; without it: --draft none", o.Model.Path)
	return nil
}

// maxTextBytes bounds what is read of texts.
const maxTextBytes = 4 << 30

// texts reads and encodes all texts; of folders every file that holds text.
func (o *distillOptions) texts(file *engine.File) ([][]int32, error) {
	var all [][]int32
	size, bar := int64(0), o.Sys.progress("encoding")
	defer bar.done()
	add := func(path string, must bool) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("text: %w", err)
		}
		if bytes.IndexByte(data[:min(len(data), 1<<12)], 0) >= 0 {
			if must {
				return usagef("--text %s: not a text: it holds zero bytes; unpack archives first", path)
			}
			return nil
		}
		if size += int64(len(data)); size > maxTextBytes {
			return usagef("--text: more than %v of text", engine.Bytes(maxTextBytes))
		}
		all = append(all, file.Tokenizer().Encode(nil, string(data), tokenizer.Options{}))
		bar.tokens(len(all), len(all)+1)
		return nil
	}
	for _, name := range o.Texts {
		info, err := os.Stat(name)
		if err != nil {
			return nil, fmt.Errorf("text: %w", err)
		}
		if !info.IsDir() {
			if err := add(name, true); err != nil {
				return nil, err
			}
			continue
		}
		err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasPrefix(d.Name(), ".") {
				return err
			}
			return add(path, false)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// distillView shows how a run goes on: a bar on a terminal, a line now and then
// elsewhere.
type distillView struct {
	sys   *System
	phase distill.Phase
	score distill.Score
	bar   *progress
}

func (v *distillView) show(s distill.Status) {
	if s.Phase != v.phase {
		v.done()
		v.phase, v.bar = s.Phase, v.sys.progress(string(s.Phase))
		if !v.sys.ErrTerminal {
			v.sys.note("%s", s.Phase)
		}
	}
	if s.Phase == distill.Training {
		about := string(s.Phase)
		if s.Done > 0 {
			about += fmt.Sprintf(": loss %.3f", s.Loss)
		}
		if s.Score.Places > 0 {
			about += fmt.Sprintf(", expected acceptance %.3f, at temperature 0 %.3f", s.Score.Overlap, s.Score.Agreement)
		}
		v.bar.describe(about)
		if s.Score != v.score {
			v.score = s.Score
			if !v.sys.ErrTerminal {
				v.sys.note("step %s of %s, %s", grouped(s.Done), grouped(s.Total), about)
			}
		}
	}
	v.bar.tokens(s.Done, max(s.Total, s.Done+1))
}

func (v *distillView) done() {
	if v.bar != nil {
		v.bar.done()
	}
}
