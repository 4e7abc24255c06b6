// Package cli is the command line. Each command is a file with three parts: an
// options struct, a constructor that binds flags to it, and a run function that
// knows neither cobra nor the process.
//
// Results go to standard output and everything else to standard error. A System
// stands for the process; it is used by one command at a time.
package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/mattn/go-isatty"
)

// System is what a command sees of the process.
type System struct {
	In       io.Reader
	Out, Err io.Writer
	// OutTerminal and ErrTerminal say whether a person reads along.
	OutTerminal, ErrTerminal bool
	Getenv                   func(string) string
	Now                      func() time.Time
	Root                     fs.FS // what the system tells about itself, or nil
	// Edit lets a person edit what it types; nil if nobody types.
	Edit func(history string, complete func(line string) []string) Lines

	interrupts interrupts
}

// Real is the process itself.
func Real() *System {
	terminal := func(f *os.File) bool {
		return isatty.IsTerminal(f.Fd()) || isatty.IsCygwinTerminal(f.Fd())
	}
	sys := &System{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		OutTerminal: terminal(os.Stdout), ErrTerminal: terminal(os.Stderr),
		Getenv: os.Getenv, Now: time.Now, Root: os.DirFS("/"),
	}
	if terminal(os.Stdin) && sys.OutTerminal {
		sys.Edit = editLines
	}
	return sys
}

// colors says whether the user wants colours on a terminal.
func (s *System) colors() bool { return s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb" }

// dim makes remarks recede on a terminal.
func (s *System) dim(text string) string {
	if !s.ErrTerminal || !s.colors() {
		return text
	}
	return "\x1b[2m" + text + "\x1b[0m"
}

// note tells the user what is going on.
func (s *System) note(format string, args ...any) {
	fmt.Fprintln(s.Err, s.dim(fmt.Sprintf(format, args...)))
}

// warn tells the user what they may not expect.
func (s *System) warn(format string, args ...any) {
	fmt.Fprintf(s.Err, "triforce: warning: "+format+"\n", args...)
}
