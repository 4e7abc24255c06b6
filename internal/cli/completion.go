package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"triforce/bench"
	"triforce/engine"
	"triforce/hub"
)

// completeFlags makes shells complete the values of flags, of all commands that
// have them. Scripts for shells come from cobra's own command, completion.
func completeFlags(sys *System, root *cobra.Command) {
	words := func(list ...string) cobra.CompletionFunc {
		return cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp)
	}
	models := func(more ...string) cobra.CompletionFunc {
		return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			// Where no name fits, shells go on with files.
			return startingWith(append(modelNames(sys), more...), typed), cobra.ShellCompDirectiveDefault
		}
	}
	for flag, complete := range map[string]cobra.CompletionFunc{
		"model":        models(),
		"draft":        models("none"),
		"spec":         words(engine.SpecModes()...),
		"modes":        listOf(engine.SpecModes()),
		"accept":       words("coupled", "rejection"),
		"retrieval":    words("mass", "mean"),
		"kv-type":      words(engine.KVTypes()...),
		"rope-scaling": words("none", "linear", "yarn"),
		"color":        words("auto", "always", "never"),
		"output":       words(bench.Formats()...),
	} {
		for _, cmd := range root.Commands() {
			if cmd.Flags().Lookup(flag) != nil {
				if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
					panic(err) // two entries of one flag
				}
			}
		}
	}
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil {
			cmd.ValidArgsFunction = cobra.NoFileCompletions
		}
	}
}

// listOf completes the last of several words with commas between.
func listOf(all []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		var list []string
		for _, word := range all {
			if !slices.Contains(strings.Split(before, ","), word) {
				list = append(list, before+word)
			}
		}
		return startingWith(list, typed), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
}

// modelNames lists what can be given to --model beside paths: what is in the
// cache, with the catalogue's short names for it.
func modelNames(sys *System) []string {
	models, err := sys.hub().List()
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range hub.Catalogue() {
		if slices.ContainsFunc(models, func(m hub.Model) bool { return m.Name.Repo == p.Target.Repo && m.Name.Quant == p.Target.Quant }) {
			names = append(names, p.Name)
		}
	}
	for _, m := range models {
		names = append(names, m.Name.String())
	}
	return names
}

// pullNames lists what can be pulled without knowing more: the catalogue, and
// what is there, to check it or bring it up to date.
func pullNames(sys *System) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, p := range hub.Catalogue() {
			names = append(names, cobra.CompletionWithDesc(p.Name, p.About))
		}
		if models, err := sys.hub().List(); err == nil {
			for _, m := range models {
				names = append(names, m.Name.String())
			}
		}
		return startingWith(names, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

func startingWith(list []string, typed string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !strings.HasPrefix(strings.ToLower(s), strings.ToLower(typed)) })
}
