package cli

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"triforce/engine"
)

// bindSpec binds the flags of speculation.
func bindSpec(f *pflag.FlagSet, o *engine.Spec) {
	f.StringVar(&o.Mode, "spec", o.Mode, "how to draft: "+strings.Join(engine.SpecModes(), ", "))
	f.StringVar(&o.Accept, "accept", o.Accept, "coupled (the same text whatever drafts) or rejection (the same distribution)")
	f.IntVar(&o.Outer, "outer-depth", o.Outer, "`tokens` a round asked of the level below the model, 0 = adaptive")
	f.IntVar(&o.Inner, "inner-depth", o.Inner, "`tokens` a round asked of the level below that, 0 = adaptive")
	f.IntVar(&o.Budget, "budget", o.Budget, "`tokens` of the text that the middle level sees, 0 = 512 or 1/32 of a long one")
	f.IntVar(&o.Chunk, "chunk", o.Chunk, "`tokens` retrieved at a time")
	f.IntVar(&o.Sinks, "sinks", o.Sinks, "first `tokens` of the text always seen")
	f.IntVar(&o.Window, "window", o.Window, "newest `tokens` of the text always seen")
	f.StringVar(&o.Retrieval, "retrieval", o.Retrieval, "how to choose chunks: mass (by the attention they get) or mean (by their mean key)")
	f.BoolVar(&o.Tree, "tree", o.Tree, "let the draft offer alternatives for the first tokens")
}

// specFlags lists the flags that each mode heeds.
var specFlags = map[string][]string{
	engine.SpecPlain:     {},
	engine.SpecNGram:     {"accept", "outer-depth"},
	engine.SpecDraft:     {"accept", "outer-depth", "draft", "sinks", "window", "tree"},
	engine.SpecStream:    {"accept", "outer-depth", "budget", "sinks"},
	engine.SpecRetrieval: {"accept", "outer-depth", "budget", "chunk", "sinks", "window", "retrieval"},
	engine.SpecTriForce: {"accept", "outer-depth", "inner-depth", "draft", "budget", "chunk", "sinks", "window", "retrieval",
		"tree"},
	engine.SpecAuto: {"accept", "outer-depth", "inner-depth", "draft", "budget", "chunk", "sinks", "window", "retrieval", "tree"},
}

// idleSpecFlags names the flags given that do nothing in the mode.
func idleSpecFlags(f *pflag.FlagSet, mode string) string {
	idle := slices.DeleteFunc(slices.Clone(specFlags[engine.SpecAuto]), func(name string) bool {
		return slices.Contains(specFlags[mode], name) || name == "draft" && f.Lookup(name).Value.String() == "none"
	})
	return changed(f, idle...)
}
