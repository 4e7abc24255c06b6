package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// newRoot is the tree of commands.
func newRoot(sys *System) *cobra.Command {
	root := &cobra.Command{
		Use:   "triforce",
		Short: "Generate text with Llama-style models, fast on long contexts",
		Long: `triforce runs Llama-style models on ordinary CPUs. Without a model it uses a
small one that is part of the program.`,
		Example: `  triforce generate
  triforce generate -m model.gguf "Why is the sky blue?"
  triforce chat
  triforce pull smollm2
  triforce doctor`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := ""
			for _, s := range cmd.SuggestionsFor(args[0]) {
				hint += fmt.Sprintf("; did you mean %q?", s)
			}
			return usagef("no command %q%s", args[0], hint)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetIn(sys.In)
	root.SetOut(sys.Out)
	root.SetErr(sys.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		newGenerate(sys, runGenerate),
		newChat(sys, runChat),
		newTokenize(sys, runTokenize),
		newPerplexity(sys, runPerplexity),
		newBench(sys, runBench),
		newInspect(sys, runInspect),
		newServe(sys, runServe),
		newSnapshot(sys, runSnapshotSave, runSnapshotRestore, runSnapshotInspect),
		newDistill(sys, runDistill),
		newPull(sys, runPull),
		newList(sys, runList),
		newDoctor(sys, runDoctor),
		newVersion(sys, runVersion),
		newMan(sys, runMan),
	)
	completeFlags(sys, root)
	return root
}

// atMost accepts up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(n)(cmd, args); err != nil {
			return usageError{err}
		}
		return nil
	}
}
