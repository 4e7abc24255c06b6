package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/peterh/liner"
)

// Lines reads what a user types. Read returns io.EOF at the end.
type Lines interface {
	Read(ctx context.Context, prompt string) (string, error)
	// Remember adds to what the user can go back to.
	Remember(text string)
	Close()
}

// editLines edits lines on a terminal, with the history in a file.
func editLines(history string, complete func(line string) []string) Lines {
	e := &editedLines{state: liner.NewLiner(), history: history}
	e.state.SetMultiLineMode(true)
	e.state.SetBeep(false)
	e.state.SetTabCompletionStyle(liner.TabPrints)
	e.state.SetCompleter(complete)
	if f, err := os.Open(history); err == nil {
		_, _ = e.state.ReadHistory(f)
		_ = f.Close()
	}
	return e
}

// plainLines are of something that is no terminal.
type plainLines struct{ in *bufio.Reader }

func (p *plainLines) Read(ctx context.Context, _ string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	line, err := p.in.ReadString('\n')
	if err == io.EOF && line != "" {
		err = nil
	}
	return strings.TrimRight(line, "\r\n"), err
}

func (p *plainLines) Remember(string) {}
func (p *plainLines) Close()          {}

// editedLines is a terminal's. Ctrl-C empties the line, Ctrl-D ends.
type editedLines struct {
	state   *liner.State
	history string
}

func (e *editedLines) Read(ctx context.Context, prompt string) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := e.state.Prompt(prompt)
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (e *editedLines) Remember(text string) {
	e.state.AppendHistory(strings.ReplaceAll(text, "\n", " ")) // it has lines
}

// Close gives the terminal back and saves the history, which is only a comfort.
func (e *editedLines) Close() {
	_ = e.state.Close()
	if err := os.MkdirAll(filepath.Dir(e.history), 0o700); err != nil {
		return
	}
	f, err := os.OpenFile(e.history, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return
	}
	_, err = e.state.WriteHistory(f)
	_ = errors.Join(err, f.Close())
}

// quote3 begins and ends a text of several lines.
const quote3 = `"""`

// readMessage reads a message: a line, lines that end with a backslash and the
// one after them, or all between two lines with three quotes.
func readMessage(ctx context.Context, in Lines, prompt string) (string, error) {
	const more = ". "
	line, err := in.Read(ctx, prompt)
	if err != nil {
		return "", err
	}
	if rest, ok := strings.CutPrefix(strings.TrimSpace(line), quote3); ok {
		var text []string
		for {
			if before, found := strings.CutSuffix(strings.TrimRight(rest, " \t"), quote3); found {
				return strings.Trim(strings.Join(append(text, before), "\n"), "\n"), nil
			}
			text = append(text, rest)
			if rest, err = in.Read(ctx, more); err != nil {
				if err == io.EOF {
					err = errors.New(`the text that began with """ has no """ at its end`)
				}
				return "", err
			}
		}
	}
	text := ""
	for {
		before, goesOn := strings.CutSuffix(line, `\`)
		text += before
		if !goesOn {
			return text, nil
		}
		text += "\n"
		if line, err = in.Read(ctx, more); err == io.EOF {
			return text, nil
		} else if err != nil {
			return "", err
		}
	}
}
