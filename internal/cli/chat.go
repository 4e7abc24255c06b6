package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"triforce/demo"
	"triforce/engine"
)

// chatOptions are those of a generation, but for the prompt.
type chatOptions struct {
	generateOptions
	Load         string // file of a saved conversation
	PredictGiven bool
}

// storyPredict is how much is written at a time where a text has no turns.
const storyPredict = 120

func newChat(sys *System, run func(context.Context, *chatOptions) error) *cobra.Command {
	o := &chatOptions{generateOptions: generateOptions{Sys: sys, Model: modelDefaults(sys), Gen: engine.GenDefaults()}}
	o.Gen.Predict = -1
	cmd := &cobra.Command{
		Use:   "chat",
		Short: "Talk with a model, or write a text with it in turn",
		Long: `Talk with a model. What was said stays in memory: each answer reads only what is
new. A model without a chat template, such as the embedded one, does not answer:
it goes on with the text, to which you add what you like.

In the chat, /help lists commands; Ctrl-C stops an answer, Ctrl-D leaves. Without
a terminal each line of standard input is a message.`,
		Example: `  triforce chat
  triforce chat -m smollm2 --color
  triforce chat -m model.gguf --system "Answer in one sentence."
  printf '/file book.txt\nWho is the narrator?\n' | triforce chat -m model.gguf`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Draft = cmp.Or(o.Draft, sys.recordedDraft(o.Model.Path))
			o.PredictGiven = cmd.Flags().Changed("predict")
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
	f.StringVarP(&o.Draft, "draft", "d", "", "draft model: `file` or pulled name, or none (default: the one that belongs to the model)")
	f.StringVar(&o.System, "system", "", "system `message` of the chat")
	f.IntVarP(&o.Gen.Predict, "predict", "n", o.Gen.Predict, fmt.Sprintf("`tokens` of an answer, -1 until it ends (default without a chat template: %d)", storyPredict))
	bindSample(f, &o.Gen.Sample)
	f.StringArrayVar(&o.Gen.Stop, "stop", nil, "end an answer before this `text`; may be given several times")
	bindSpec(f, &o.Gen.Spec)
	f.StringVar(&o.Load, "load", "", "go on with the conversation that /save wrote to this `file`")
	f.StringVar(&o.Color, "color", "never", "colour tokens by the level that proposed them: auto, always or never")
	f.Lookup("color").NoOptDefVal = "always"
	return cmd
}

func (o *chatOptions) check(f *pflag.FlagSet) error { return o.generateOptions.check(f) }

// chat is a conversation in progress.
type chat struct {
	*chatOptions
	e       *engine.Engine
	s       *engine.Session
	c       *engine.Conversation
	in      Lines
	pending string  // text of files for the next message
	last    *report // of the last answer, or nil
	typed   bool    // a person is typing
}

func runChat(ctx context.Context, o *chatOptions) error {
	if o.Idle != "" {
		o.Sys.warn("no effect with --temp 0: %s", o.Idle)
	}
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	if !file.HasChat() && o.System != "" {
		return usagef("%s carries no chat template, which --system needs", file.Name())
	}
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	draft, err := o.loadDraft(ctx, e)
	if err != nil {
		return err
	}
	if draft != nil {
		defer draft.Close()
	}
	if !file.HasChat() && !o.PredictGiven {
		o.Gen.Predict = storyPredict
	}
	c := &chat{chatOptions: o, e: e, s: e.NewSession(), c: file.NewConversation(o.Sys.Now())}
	defer func() { c.s.Close() }()
	c.setSystem(o.System)
	if o.Load != "" {
		if err := c.load(o.Load); err != nil {
			return err
		}
	}
	if c.typed = o.Sys.Edit != nil; c.typed {
		c.in = o.Sys.Edit(filepath.Join(o.Sys.dataFolder(), "chat-history"), completeChat)
	} else {
		c.in = &plainLines{bufio.NewReader(o.Sys.In)}
	}
	defer c.in.Close()
	c.welcome()
	return c.loop(ctx)
}

// welcome says what to expect, once.
func (c *chat) welcome() {
	file, note := c.e.File(), c.Sys.note
	note("%s: %s, %s", cmp.Or(c.Model.Path, file.Name()), c.e.Options(), c.Gen.Sample)
	switch {
	case file.HasChat():
	case c.Model.Path == "":
		note("The built-in model writes stories and answers no questions: you and it write one in turn.")
		note("Begin it, or press Enter to let it go on from:")
		fmt.Fprintf(c.Sys.Err, "\n%s\n\n", demo.Opening)
	default:
		note("This model carries no chat template: it goes on with your text instead of answering it. Enter alone lets it go on.")
	}
	if o := newOutput(&c.generateOptions, file); o.colors {
		legend := "colours: "
		for i, name := range engine.OriginNames() {
			legend += fmt.Sprintf(" \x1b[%dm%s\x1b[0m", originColors[i], name)
		}
		fmt.Fprintln(c.Sys.Err, legend)
	}
	if c.typed {
		note("/help lists commands; Ctrl-C stops an answer, Ctrl-D leaves.")
	}
}

// loop takes messages and commands until there are no more.
func (c *chat) loop(ctx context.Context) error {
	for {
		text, err := readMessage(ctx, c.in, "> ")
		if err == io.EOF {
			if c.typed {
				fmt.Fprintln(c.Sys.Out)
			}
			return nil
		}
		if err == nil {
			if strings.TrimSpace(text) != "" {
				c.in.Remember(text)
			}
			if strings.HasPrefix(text, "/") {
				err = c.command(ctx, text)
			} else {
				err = c.say(ctx, text)
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !c.typed {
			return err
		} else if err != nil {
			c.Sys.warn("%v", err)
		}
	}
}

// say adds the user's message and lets the model answer.
func (c *chat) say(ctx context.Context, text string) error {
	text = c.pending + text
	story := !c.e.File().HasChat()
	if text == "" && !story {
		return nil
	}
	if story {
		text = c.continuation(text)
	}
	before := len(c.c.Messages)
	if text != "" {
		c.c.Messages = append(c.c.Messages, engine.Message{Role: "user", Content: text})
	}
	err := c.answer(ctx)
	if err != nil {
		c.c.Messages = c.c.Messages[:before] // as if it had not been said
		return err
	}
	c.pending = ""
	return nil
}

// continuation is what a user adds to a text: words of its own, after those
// that are there.
func (c *chat) continuation(text string) string {
	if len(c.c.Messages) == 0 {
		if text == "" && c.Model.Path == "" {
			return demo.Opening
		}
		return text
	}
	last := c.c.Messages[len(c.c.Messages)-1].Content
	if text == "" || strings.HasSuffix(last, "\n") || strings.HasSuffix(last, " ") || strings.HasPrefix(text, "\n") {
		return text
	}
	return " " + text
}

// answer generates what follows the messages and adds it to them.
func (c *chat) answer(ctx context.Context) error {
	prompt, err := c.c.Prompt()
	if err != nil {
		return err
	}
	if len(prompt) == 0 {
		return errors.New("there is no text yet to go on with: type its beginning")
	}
	out := newOutput(&c.generateOptions, c.e.File())
	var said strings.Builder
	bar := c.Sys.progress("reading")
	gen := c.Gen
	gen.Progress = bar.tokens
	var result engine.Result
	answering, stop := context.WithCancel(ctx)
	defer stop()
	run := func() {
		result, err = c.s.Generate(answering, prompt, gen, func(t engine.Token) error {
			bar.done()
			said.Write(t.Text)
			return out.token(t)
		})
	}
	if c.typed {
		c.Sys.interrupts.during(stop, run)
	} else {
		run()
	}
	bar.done()
	out.end()
	if !c.Sys.OutTerminal && out.line {
		fmt.Fprintln(c.Sys.Out)
	}
	if result.Stop == "" {
		if errors.Is(err, engine.ErrContext) {
			err = fmt.Errorf("%w, or /clear the conversation", err)
		}
		return err
	}
	c.last = newReport(&c.generateOptions, c.e, c.s, &result, out)
	c.c.Answer(prompt, out.ids, said.String())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case result.Stop == engine.StopCancelled:
		c.Sys.note("(stopped)")
		return nil
	case result.Stop == engine.StopContext:
		c.Sys.warn("the context of %s tokens is full; /clear the conversation, or start with a larger --ctx-size (-c)", grouped(c.e.Options().Context))
	}
	return err
}

// setSystem makes text the system message, or takes it away if it is empty.
func (c *chat) setSystem(text string) {
	m := &c.c.Messages
	if len(*m) > 0 && (*m)[0].Role == "system" {
		*m = (*m)[1:]
	}
	if text != "" {
		*m = slices.Insert(slices.Clone(*m), 0, engine.Message{Role: "system", Content: text})
	}
}
