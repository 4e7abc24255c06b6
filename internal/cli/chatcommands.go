package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"triforce/engine"
)

// chatCommand is one that a user types in a chat.
type chatCommand struct {
	name, arg, about string
	run              func(c *chat, ctx context.Context, arg string) error
}

// chatCommands lists them in the order of /help.
func chatCommands() []chatCommand {
	return []chatCommand{
		{"/help", "", "list the commands", (*chat).help},
		{"/file", "PATH", "put a file's text before the next message", (*chat).attach},
		{"/regen", "", "take the last answer back and generate another", (*chat).regenerate},
		{"/system", "[TEXT]", "show the system message, or change it; - takes it away", (*chat).system},
		{"/clear", "", "forget what was said", (*chat).clear},
		{"/save", "PATH", "write the conversation to PATH, and what was read to PATH.cache", (*chat).save},
		{"/load", "PATH", "go on with a saved conversation", func(c *chat, _ context.Context, arg string) error { return c.load(arg) }},
		{"/stats", "", "figures of the last answer", (*chat).stats},
	}
}

// command runs what begins with a slash.
func (c *chat) command(ctx context.Context, line string) error {
	name, arg, _ := strings.Cut(strings.TrimSpace(line), " ")
	arg = strings.TrimSpace(arg)
	for _, cmd := range chatCommands() {
		if cmd.name != name {
			continue
		}
		if cmd.arg == "" && arg != "" {
			return fmt.Errorf("%s takes nothing after it", name)
		}
		if cmd.arg == "PATH" && arg == "" {
			return fmt.Errorf("%s needs a path", name)
		}
		return cmd.run(c, ctx, arg)
	}
	return fmt.Errorf("no command %.40q; /help lists them", name)
}

// completeChat completes commands, and paths after those that take one.
func completeChat(line string) []string {
	var list []string
	for _, cmd := range chatCommands() {
		if strings.HasPrefix(cmd.name, line) {
			if cmd.arg != "" {
				cmd.name += " "
			}
			list = append(list, cmd.name)
		}
		before, isPath := strings.CutPrefix(line, cmd.name+" ")
		if !isPath || cmd.arg != "PATH" {
			continue
		}
		paths, _ := filepath.Glob(before + "*")
		for _, p := range paths {
			if info, err := os.Stat(p); err == nil && info.IsDir() {
				p += string(filepath.Separator)
			}
			list = append(list, cmd.name+" "+p)
		}
	}
	return list
}

func (c *chat) help(context.Context, string) error {
	w := tabwriter.NewWriter(c.Sys.Err, 0, 0, 2, ' ', 0)
	for _, cmd := range chatCommands() {
		fmt.Fprintf(w, "%s %s\t%s\n", cmd.name, cmd.arg, cmd.about)
	}
	fmt.Fprintf(w, "\"\"\"\tbegins and ends a message of several lines\n")
	fmt.Fprintf(w, "\\\tat the end of a line: the message goes on\n")
	fmt.Fprintf(w, "Ctrl-C\tstops an answer\n")
	fmt.Fprintf(w, "Ctrl-D\tleaves\n")
	return w.Flush()
}

// attach keeps a file's text for the next message.
func (c *chat) attach(_ context.Context, path string) error {
	if path == "-" {
		return errors.New("/file - would read what you type; name a file")
	}
	text, err := readText(c.Sys, path)
	if err != nil {
		return err
	}
	warnLost(c.Sys, c.e.File(), text)
	tokens := len(c.e.File().Encode(text))
	if limit := c.e.Options().Context; tokens >= limit {
		return fmt.Errorf("%s has %s tokens, the context %s; start with a larger --ctx-size (-c): %w", path, grouped(tokens), grouped(limit), engine.ErrContext)
	}
	c.pending += strings.TrimRight(text, "\n") + "\n\n"
	c.Sys.note("%s: %s tokens, read with your next message", path, grouped(tokens))
	return nil
}

// regenerate asks for another answer, with another seed.
func (c *chat) regenerate(ctx context.Context, _ string) error {
	m := c.c.Messages
	if len(m) == 0 || m[len(m)-1].Role != "assistant" {
		return errors.New("there is no answer to take back")
	}
	if c.Gen.Sample.Temp == 0 {
		return errors.New("with --temp 0 the answer would be the same")
	}
	c.Gen.Sample.Seed++
	c.c.Messages = m[: len(m)-1 : len(m)-1]
	err := c.answer(ctx)
	if err != nil && len(c.c.Messages) < len(m) {
		c.c.Messages = m
	}
	return err
}

func (c *chat) system(_ context.Context, text string) error {
	m := c.c.Messages
	switch {
	case !c.e.File().HasChat():
		return errors.New("this model carries no chat template, so it has no system message")
	case text == "-":
		c.setSystem("")
	case text != "":
		c.setSystem(text)
	case len(m) > 0 && m[0].Role == "system":
		fmt.Fprintln(c.Sys.Err, m[0].Content)
	default:
		c.Sys.note("none but what the model's template brings; /system TEXT sets one")
	}
	return nil
}

// clear keeps the system message.
func (c *chat) clear(context.Context, string) error {
	m := c.c.Messages
	c.c = c.e.File().NewConversation(c.Sys.Now())
	if len(m) > 0 && m[0].Role == "system" {
		c.c.Messages = m[:1:1]
	}
	c.pending, c.last = "", nil
	c.Sys.note("cleared")
	return nil
}

func (c *chat) stats(context.Context, string) error {
	if c.last == nil {
		return errors.New("nothing was generated yet")
	}
	c.last.summarize(c.Sys)
	return nil
}

// cacheSuffix is added to the name of a conversation's file for what was read.
const cacheSuffix = ".cache"

func (c *chat) save(_ context.Context, path string) error {
	data, err := json.MarshalIndent(c.c, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("conversation: %w", err)
	}
	bar := c.Sys.progress("saving")
	err = c.s.Save(path+cacheSuffix, bar.bytes)
	bar.done()
	if err == nil {
		c.Sys.note("%d messages are in %s, what was read in %s", len(c.c.Messages), path, path+cacheSuffix)
	}
	return err
}

// load goes on with a conversation. What was read of it comes from the file
// beside it if that is there and fits, and is read again otherwise.
func (c *chat) load(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("conversation: %w", err)
	}
	conversation, same, err := c.e.File().RestoreConversation(data)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fresh := c.e.NewSession()
	if same {
		bar := c.Sys.progress("restoring")
		err = fresh.Load(path+cacheSuffix, c.Gen.Spec, bar.bytes)
		bar.done()
	} else {
		c.Sys.warn("%s is a conversation with another model; this one will read it anew", path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Sys.warn("%v; the conversation will be read anew", err)
		fresh.Close()
		fresh = c.e.NewSession()
	}
	c.s.Close()
	c.s, c.c, c.last, c.pending = fresh, conversation, nil, ""
	c.Sys.note("%d messages from %s", len(c.c.Messages), path)
	return nil
}
