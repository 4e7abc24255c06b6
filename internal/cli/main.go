package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"triforce/bench"
	"triforce/distill"
	"triforce/engine"
	"triforce/hub"
	"triforce/tokenizer"
	"triforce/weights"
)

// Exit codes.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitFile      = 3
	exitMemory    = 4
	exitCancelled = 130
)

// usageError marks a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// Main runs a command line and returns the exit code. An interrupt cancels the
// command, unless it takes them; a second one ends the process.
func Main(args []string, sys *System) int {
	bench.ReleaseFonts()
	ctx, stop := sys.interrupts.watch()
	defer stop()
	return Run(ctx, args, sys)
}

// Run is Main without signals.
func Run(ctx context.Context, args []string, sys *System) int {
	root := newRoot(sys)
	root.SetArgs(args)
	cmd, err := execute(ctx, root)
	code := exitCode(err)
	switch code {
	case exitOK, exitCancelled:
	case exitUsage:
		fmt.Fprintf(sys.Err, "triforce: %v\nTry '%s --help'.\n", err, cmd.CommandPath())
	default:
		fmt.Fprintf(sys.Err, "triforce: %v\n", err)
	}
	return code
}

// execute runs a command. A vocabulary with which a text cannot be encoded is an
// error like that of any other bad file.
func execute(ctx context.Context, root *cobra.Command) (cmd *cobra.Command, err error) {
	defer func() {
		if p := recover(); p != nil {
			endless, ok := p.(tokenizer.Endless)
			if !ok {
				panic(p)
			}
			cmd, err = root, endless
		}
	}()
	return root.ExecuteContextC(ctx)
}

// exitCode says how the process ends after err.
func exitCode(err error) int {
	var usage usageError
	is := func(targets ...error) bool {
		for _, target := range targets {
			if errors.Is(err, target) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitOK
	case is(context.Canceled):
		return exitCancelled
	case errors.As(err, &usage), is(engine.ErrUsage, hub.ErrName):
		return exitUsage
	case is(engine.ErrMemory, engine.ErrContext):
		return exitMemory
	case is(weights.ErrCorrupt, weights.ErrUnsupported, hub.ErrCorrupt, tokenizer.ErrCorrupt, tokenizer.ErrUnsupported, engine.ErrTemplate, engine.ErrSnapshot,
		bench.ErrRows, bench.ErrDataset, distill.ErrWork):
		return exitFile
	}
	return exitFailed
}
