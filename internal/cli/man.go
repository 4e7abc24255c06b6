package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

type manOptions struct {
	Sys  *System
	Root *cobra.Command
	Dir  string
}

// newMan is for those who make packages: people read --help.
func newMan(sys *System, run func(context.Context, *manOptions) error) *cobra.Command {
	o := &manOptions{Sys: sys}
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write a manual page for each command into a folder",
		Hidden: true,
		Example: `  triforce man /usr/local/share/man/man1
  SOURCE_DATE_EPOCH=0 triforce man ./man`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("expected one DIR, found %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Root, o.Dir = cmd.Root(), args[0]
			return run(cmd.Context(), o)
		},
	}
}

func runMan(_ context.Context, o *manOptions) error {
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	o.Root.DisableAutoGenTag = true // no date but the header's
	header := &doc.GenManHeader{Title: "TRIFORCE", Section: "1", Source: "triforce", Manual: "triforce"}
	if err := doc.GenManTree(o.Root, header, o.Dir); err != nil {
		return fmt.Errorf("man: %w", err)
	}
	o.Sys.note("manual pages are in %s", o.Dir)
	return nil
}
