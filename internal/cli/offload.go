package cli

import (
	"fmt"
	"math"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"triforce/engine"
)

// bindOffload binds the flags that keep a part of the cache on disk.
func (o *modelOptions) bindOffload(f *pflag.FlagSet) {
	f.Var((*ramValue)(&o.KVRAM), "kv-ram", "`memory` for keys and values, such as 6GiB; older ones go to disk (auto = what there is; default: all in memory)")
	f.StringVar(&o.KVDir, "kv-dir", "", "`folder` for what --kv-ram leaves out (default: the one for temporary files)")
	f.BoolVar(&o.KVUnchecked, "kv-no-checksums", false, "do not verify what is read from disk")
}

// checkOffload finds flags that would do nothing.
func (o *modelOptions) checkOffload(f *pflag.FlagSet) error {
	if o.KVRAM == 0 {
		if given := changed(f, "kv-dir", "kv-no-checksums"); given != "" {
			return usagef("no effect without --kv-ram: %s", given)
		}
	}
	return nil
}

// diskBudget is what a view shows of a cache on disk, where each pass costs so
// much that closer guesses are worth more: with 512 tokens, 8 tokens a pass were
// accepted, with 1024 tokens 12.
const diskBudget = 1024

// budgetForDisk sets the budget that suits the disk, if none was given.
func (o *modelOptions) budgetForDisk(f *pflag.FlagSet, spec *engine.Spec) {
	if o.KVRAM != 0 && !f.Changed("budget") {
		spec.Budget = diskBudget
	}
}

// ramValue is a size in bytes, or auto.
type ramValue int64

func (v *ramValue) Type() string { return "memory" }

func (v *ramValue) String() string {
	switch *v {
	case 0:
		return ""
	case engine.AutoRAM:
		return "auto"
	}
	return fmt.Sprintf("%dB", int64(*v))
}

func (v *ramValue) Set(text string) error {
	if strings.EqualFold(text, "auto") {
		*v = engine.AutoRAM
		return nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return fmt.Errorf("expected a size such as 512MB or 6GiB, or auto")
	}
	*v = ramValue(n)
	return nil
}

// noteDisk says where a part of the cache will be, and what is unfit about it.
func noteDisk(sys *System, e *engine.Engine) {
	switch e.KVDirKind() {
	case "memory":
		sys.warn("--kv-dir %s is on a file system in memory: what is written there still takes memory", e.KVDir())
	case "network":
		sys.warn("--kv-dir %s is on a network: reading may be slow", e.KVDir())
	}
}
