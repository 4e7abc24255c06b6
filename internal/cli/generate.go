package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"triforce/demo"
	"triforce/engine"
	"triforce/internal/mem"
	"triforce/sample"
)

type generateOptions struct {
	Sys   *System
	Model modelOptions
	Draft string // path, "none", or "" for the model's own
	Gen   engine.GenOptions
	Prompt
	Color string
	Cache string
	JSON  bool
	// Idle names the flags given that do nothing at temperature 0.
	Idle string
}

func newGenerate(sys *System, run func(context.Context, *generateOptions) error) *cobra.Command {
	o := &generateOptions{Sys: sys, Model: modelDefaults(sys), Gen: engine.GenDefaults()}
	cmd := &cobra.Command{
		Use:   "generate [PROMPT]",
		Short: "Continue a text or answer a message",
		Long: `Continue a text, or answer a message where the model carries a chat template.
The text goes to standard output, everything else to standard error.`,
		Example: `  triforce generate
  triforce generate -m model.gguf "Why is the sky blue?"
  triforce generate -m model.gguf -f book.txt "Who is the narrator?" -n 300
  triforce generate -m model.gguf --raw --temp 0 --json "The capital of France is"`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Text, o.HasText = args[0], true
			}
			o.Draft = cmp.Or(o.Draft, sys.recordedDraft(o.Model.Path))
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	o.Model.bindRun(f)
	o.Model.bindBatch(f, "")
	o.Model.bindOffload(f)
	f.StringVarP(&o.Draft, "draft", "d", "", "draft model: `file` or pulled name, or none (default: the one that belongs to the model)")
	f.StringVarP(&o.File, "file", "f", "", "prompt `file`, - for standard input; PROMPT is appended")
	f.BoolVar(&o.Chat, "chat", false, "lay the prompt out by the model's chat template (default if it carries one)")
	f.BoolVar(&o.Raw, "raw", false, "take the prompt as it is")
	f.StringVar(&o.System, "system", "", "system `message` of the chat")
	f.IntVarP(&o.Gen.Predict, "predict", "n", o.Gen.Predict, "`tokens` to generate, -1 until the context is full")
	bindSample(f, &o.Gen.Sample)
	f.StringArrayVar(&o.Gen.Stop, "stop", nil, "end before this `text`; may be given several times")
	f.BoolVar(&o.Gen.IgnoreEOS, "ignore-eos", false, "go on after the end of the text")
	bindSpec(f, &o.Gen.Spec)
	f.StringVar(&o.Cache, "cache", "", "load what was read from this `file` if it exists, and save it there")
	f.StringVar(&o.Color, "color", "auto", "colour tokens by the level that proposed them: auto, always or never")
	f.Lookup("color").NoOptDefVal = "always"
	f.BoolVar(&o.JSON, "json", false, "print one JSON object at the end and no text")
	f.IntVar(&o.Gen.LogProbs, "logprobs", 0, "with --json, the `k` most probable alternatives to each token")
	return cmd
}

// bindSample binds the flags of sampling.
func bindSample(f *pflag.FlagSet, s *sample.Options) {
	f.Float64Var(&s.Temp, "temp", s.Temp, "temperature; 0 takes the most probable token")
	f.IntVar(&s.TopK, "top-k", s.TopK, "sample from the `k` most probable tokens, 0 = all")
	f.Float64Var(&s.TopP, "top-p", s.TopP, "sample from the fewest tokens with this probability, 1 = all")
	f.Float64Var(&s.MinP, "min-p", s.MinP, "least probability relative to the best token, 0 = all")
	f.Float64Var(&s.RepeatPenalty, "repeat-penalty", s.RepeatPenalty, "weaken recent tokens, 1 = off")
	f.IntVar(&s.RepeatLastN, "repeat-last-n", s.RepeatLastN, "recent tokens to weaken, -1 = all")
	f.Uint64Var(&s.Seed, "seed", s.Seed, "the same seed gives the same text")
}

// check finds flags that contradict each other or would do nothing.
func (o *generateOptions) check(f *pflag.FlagSet) error {
	if err := o.Gen.Validate(); err != nil {
		return err
	}
	if err := o.Model.checkOffload(f); err != nil {
		return err
	}
	o.Model.budgetForDisk(f, &o.Gen.Spec)
	switch {
	case o.Chat && o.Raw:
		return usagef("--chat and --raw exclude each other")
	case o.Raw && f.Changed("system"):
		return usagef("--system has no effect with --raw")
	case o.Gen.LogProbs > 0 && !o.JSON:
		return usagef("--logprobs needs --json")
	case f.Changed("color") && o.JSON:
		return usagef("--color has no effect with --json")
	case !slices.Contains([]string{"auto", "always", "never"}, o.Color):
		return usagef("--color %q: expected auto, always or never", o.Color)
	case f.Changed("repeat-last-n") && o.Gen.Sample.RepeatPenalty == 1:
		return usagef("--repeat-last-n has no effect without --repeat-penalty")
	}
	mode := o.Gen.Spec.Mode
	if (mode == engine.SpecDraft || mode == engine.SpecTriForce) && o.draftPath() == "" {
		return usagef("--spec %s needs a draft model; name one with --draft (-d)", mode)
	}
	if idle := idleSpecFlags(f, mode); idle != "" {
		return usagef("no effect with --spec %s: %s", mode, idle)
	}
	if o.Gen.Sample.Temp == 0 {
		o.Idle = changed(f, "top-k", "top-p", "min-p", "seed", "accept")
	}
	return nil
}

func runGenerate(ctx context.Context, o *generateOptions) error {
	if o.Idle != "" {
		o.Sys.warn("no effect with --temp 0: %s", o.Idle)
	}
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	if o.Model.Path == "" && !o.HasText && o.File == "" {
		o.Text = demo.Opening
		fmt.Fprintln(o.Sys.Err, o.Sys.dim(demo.Opening))
	}
	prompt, layout, err := o.tokens(o.Sys, file)
	if err != nil {
		return err
	}
	if err := file.CheckLength("prompt", len(prompt), o.Model.Options); err != nil {
		return err
	}
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	noteDisk(o.Sys, e)
	draft, err := o.loadDraft(ctx, e)
	if err != nil {
		return err
	}
	if draft != nil {
		defer draft.Close()
	}
	o.Sys.note("%s: %s, %s", file.Name(), e.Options(), o.Gen.Sample)
	o.Sys.note("prompt of %s tokens, %s", grouped(len(prompt)), layout)

	s := e.NewSession()
	defer s.Close()
	if err := o.loadCache(s); err != nil {
		return err
	}
	out := newOutput(o, file)
	bar := o.Sys.progress("reading")
	o.Gen.Progress = func(done, total int) {
		bar.tokens(done, total)
		if done == total {
			mem.TrimProgram() // what reading needed, before drafting takes its own
		}
	}
	result, err := s.Generate(ctx, prompt, o.Gen, func(t engine.Token) error {
		bar.done()
		return out.token(t)
	})
	bar.done()
	if result.Stop == "" {
		return err
	}
	if o.Cache != "" {
		saving := o.Sys.progress("saving")
		err = errors.Join(err, s.Save(o.Cache, saving.bytes))
		saving.done()
	}
	r := newReport(o, e, s, &result, out)
	if o.JSON {
		return errors.Join(err, writeJSON(o.Sys.Out, r))
	}
	out.end()
	r.summarize(o.Sys)
	return err
}

// draftPath names the draft model, "" for none.
func (o *generateOptions) draftPath() string {
	switch {
	case o.Draft == "none":
		return ""
	case o.Draft == "" && o.Model.Path == "":
		return engine.EmbeddedDraft
	}
	return o.Draft
}

// loadDraft loads the draft that the mode wants and the model has, or nil.
func (o *generateOptions) loadDraft(ctx context.Context, e *engine.Engine) (*engine.Engine, error) {
	path := o.draftPath()
	if path == "" || !slices.Contains(specFlags[o.Gen.Spec.Mode], "draft") {
		return nil, nil
	}
	path, err := o.Sys.locate(path)
	if err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	opt := o.Model.Options
	opt.Context, opt.KVRAM = 0, 0 // it keeps a window only
	d, err := engine.Open(ctx, path, opt)
	if err != nil {
		return nil, err
	}
	if err := e.UseDraft(d); err != nil {
		d.Close()
		return nil, usageError{err}
	}
	return d, nil
}

// loadCache reads the snapshot, if there is one.
func (o *generateOptions) loadCache(s *engine.Session) error {
	if o.Cache == "" {
		return nil
	}
	bar := o.Sys.progress("restoring")
	defer bar.done()
	err := s.Load(o.Cache, o.Gen.Spec, bar.bytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Prompt is where the prompt comes from and how it is laid out.
type Prompt struct {
	File    string
	Text    string
	HasText bool
	Chat    bool
	Raw     bool
	System  string
}

// tokens reads the prompt and says how it was laid out.
func (p *Prompt) tokens(sys *System, f *engine.File) (ids []int32, layout string, err error) {
	text := p.Text
	if p.File != "" {
		file, err := readText(sys, p.File)
		if err != nil {
			return nil, "", err
		}
		text = file + text
	}
	warnLost(sys, f, text)
	if !f.HasChat() && (p.Chat || p.System != "") {
		return nil, "", usagef("%s carries no chat template, which --chat and --system need", f.Name())
	}
	if p.Raw || !f.HasChat() {
		return f.Encode(text), "taken as it is (raw)", nil
	}
	var messages []engine.Message
	if p.System != "" {
		messages = append(messages, engine.Message{Role: "system", Content: p.System})
	}
	messages = append(messages, engine.Message{Role: "user", Content: text})
	ids, err = f.Chat(nil, messages, sys.Now())
	if err != nil {
		err = fmt.Errorf("%w; --raw does without", err)
	}
	return ids, "laid out by the model's chat template (chat)", err
}

// output shows text as it comes and keeps what the report wants.
type output struct {
	o        *generateOptions
	text     strings.Builder // with --json
	ids      []int32
	logprobs []tokenLogProbs
	piece    func(id int32) string
	colors   bool
	color    int // of the text last written; 0 = none
	line     bool
}

func newOutput(o *generateOptions, f *engine.File) *output {
	auto := o.Sys.OutTerminal && o.Sys.colors() && o.Gen.Spec.Mode != engine.SpecPlain
	return &output{
		o: o, piece: f.Tokenizer().Vocab().Piece,
		colors: !o.JSON && (o.Color == "always" || o.Color == "auto" && auto),
		ids:    []int32{},
	}
}

// token takes a step of the generation.
func (w *output) token(t engine.Token) error {
	if t.ID >= 0 {
		w.ids = append(w.ids, t.ID)
	}
	if w.o.JSON {
		w.text.Write(t.Text)
		if t.ID >= 0 && w.o.Gen.LogProbs > 0 {
			w.logprobs = append(w.logprobs, newTokenLogProbs(t, w.piece))
		}
		return nil
	}
	if len(t.Text) == 0 {
		return nil
	}
	if w.colors {
		w.paint(originColors[int(t.Origin)%len(originColors)])
	}
	w.line = t.Text[len(t.Text)-1] != '\n'
	_, err := w.o.Sys.Out.Write(t.Text)
	return err
}

// originColors are terminal colours by Token.Origin: the target's own tokens
// stay plain.
var originColors = [...]int{0, 34, 32, 35}

// paint switches the colour of what follows.
func (w *output) paint(color int) {
	if color != w.color {
		fmt.Fprintf(w.o.Sys.Out, "\x1b[%dm", color)
		w.color = color
	}
}

// end leaves the terminal as a person expects it.
func (w *output) end() {
	if w.colors {
		w.paint(0)
	}
	if w.o.Sys.OutTerminal && w.line {
		fmt.Fprintln(w.o.Sys.Out)
	}
}
