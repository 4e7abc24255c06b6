package engine

import (
	"fmt"
	"slices"
	"strings"

	"triforce/internal/kernel"
	"triforce/kvcache"
	"triforce/speculate"
)

// Spec says how a session speculates. It never changes what a session writes
// with the coupled rule, and never its distribution with the other.
type Spec struct {
	// Mode is one of SpecModes.
	Mode string
	// Accept is "coupled" or "rejection".
	Accept string
	// Outer and Inner are the tokens asked, in each round, of the retrieved
	// level and of the draft; 0 adapts them to measured cost and acceptance.
	Outer, Inner int
	// Budget, Chunk, Sinks and Window shape the retrieved view, in tokens;
	// Window and Sinks the draft's cache too. A Budget of 0 grows with the text:
	// see BudgetAt.
	Budget, Chunk, Sinks, Window int
	// Retrieval ranks chunks by "mass" or "mean".
	Retrieval string
	// Tree makes the draft offer alternatives for the first tokens.
	Tree bool
}

// The modes of speculation.
const (
	SpecAuto      = "auto"      // what measures best, plain included
	SpecPlain     = "plain"     // one token a pass
	SpecNGram     = "ngram"     // repetitions of the text → target
	SpecDraft     = "draft"     // draft → target
	SpecStream    = "stream"    // target over sinks and window → target
	SpecRetrieval = "retrieval" // target over retrieved chunks → target
	SpecTriForce  = "triforce"  // draft → target over retrieved chunks → target
)

// SpecModes lists the modes.
var specModes = []string{SpecAuto, SpecPlain, SpecNGram, SpecDraft, SpecStream, SpecRetrieval, SpecTriForce}

// SpecModes lists the modes of speculation.
func SpecModes() []string { return slices.Clone(specModes) }

// SpecDefaults are the options of adaptive speculation.
func SpecDefaults() Spec {
	return Spec{
		Mode: SpecAuto, Accept: speculate.Coupled.String(),
		Chunk: kernel.Chunk, Sinks: 16, Window: 64, Retrieval: "mass",
	}
}

// Validate reports the first option that is out of range, by its flag. The
// error wraps ErrUsage.
func (o *Spec) Validate() error {
	usage := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrUsage, fmt.Sprintf(format, args...))
	}
	if !slices.Contains(specModes, o.Mode) {
		return usage("--spec %q: expected one of %s", o.Mode, strings.Join(specModes, ", "))
	}
	if o.Accept != speculate.Coupled.String() && o.Accept != speculate.Rejection.String() {
		return usage("--accept %q: expected coupled or rejection", o.Accept)
	}
	if o.Retrieval != "mass" && o.Retrieval != "mean" {
		return usage("--retrieval %q: expected mass or mean", o.Retrieval)
	}
	for _, n := range []struct {
		flag            string
		value, min, max int
	}{
		{"--outer-depth", o.Outer, 0, speculate.MaxDepth},
		{"--inner-depth", o.Inner, 0, speculate.MaxDepth},
		{"--budget", o.Budget, 0, maxContext},
		{"--sinks", o.Sinks, 0, kernel.Tile},
		{"--window", o.Window, 1, maxContext},
	} {
		if n.value < n.min || n.value > n.max {
			return usage("%s %d: expected %d to %d", n.flag, n.value, n.min, n.max)
		}
	}
	if o.Chunk < kernel.Chunk || o.Chunk%kernel.Chunk != 0 || o.Chunk > maxContext {
		return usage("--chunk %d: expected a multiple of %d", o.Chunk, kernel.Chunk)
	}
	shape := kvcache.ViewOptions{Chunk: o.Chunk, Sinks: o.Sinks, Window: o.Window}
	if o.Budget > 0 && o.Budget < shape.Minimum() {
		return usage("--budget %d: sinks, window and one chunk need at least %d", o.Budget, shape.Minimum())
	}
	return nil
}

// BudgetAt is what the retrieved view of n tokens shows of them.
func (o *Spec) BudgetAt(n int) int {
	v := o.view()
	return v.BudgetAt(n)
}

func (o *Spec) rule() speculate.Rule {
	if o.Accept == speculate.Rejection.String() {
		return speculate.Rejection
	}
	return speculate.Coupled
}

// view is the shape of the retrieved view; for SpecStream it holds nothing but
// sinks and the newest tokens.
func (o *Spec) view() kvcache.ViewOptions {
	v := kvcache.ViewOptions{Budget: o.Budget, Chunk: o.Chunk, Sinks: o.Sinks, Window: o.Window}
	if o.Retrieval == "mean" {
		v.Rule = kvcache.ByMean
	}
	if o.Mode == SpecStream {
		v.Chunk, v.Window = kernel.Chunk, 0
	}
	return v
}
