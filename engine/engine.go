// Package engine puts triforce together: it opens a model from a file, a folder
// or the program itself, and generates text with it. It is the only place that
// knows which concrete types meet.
//
//	OpenFile ─ File (tokenizer, metadata, forecast) ─ Load ─ Engine ─ NewSession ─ Session ─ Generate
//	                                                           │ └─ NewBatcher ─ NewSession ─┘
//	                                                           └─ Score
//
// A File, an Engine and a Batcher are safe for concurrent use; close them after
// everything that was made from them. A Session belongs to one goroutine and owns
// its cache; its scratch and workers are its own, or those of its Batcher. Nothing that callers pass in is kept beyond the call, and what
// they get is theirs unless it says otherwise.
package engine

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/mem"
	"triforce/internal/par"
	"triforce/internal/scratch"
	"triforce/kvcache"
	"triforce/model/llama"
	"triforce/weights"
)

// Options says how to load a model.
type Options struct {
	// Tier names the kernels to use, one of Tiers; "" is the best of them.
	Tier string
	// Threads is the number of workers of a session.
	Threads int
	// Context is the number of tokens that a session may hold; 0 is what the
	// model was made for, or what fits into memory if that is less.
	Context int
	// Batch is the number of prompt tokens that a pass takes; 0 goes by the model's
	// size.
	Batch int
	// KVType is the stored form of keys and values: "q8_0", "f16" or "f32".
	KVType string
	// KVRAM is the memory that the keys and values of a session may take, in
	// bytes; what is older goes to a private file in the folder KVDir, or the one
	// for temporary files if that is empty. 0 keeps all in memory; AutoRAM is
	// what this machine can give.
	KVRAM int64
	KVDir string
	// KVUnchecked leaves out the checksums of what is read from that file.
	KVUnchecked bool
	// Progress, if not nil, is told how many of the weights' bytes are loaded.
	Progress func(done, total int64)

	create func() (kvcache.File, error) // makes the file; nil for one in KVDir
}

// Defaults are the options for this machine.
func Defaults() Options {
	return Options{Threads: runtime.GOMAXPROCS(0), KVType: kernel.KVQ8.String()}
}

// defaultBatch is the batch for weights of so many bytes: more tokens share the
// reading of large ones, which no cache holds, and cost small ones more memory than
// they save time.
func defaultBatch(weights int64) int {
	if weights < 256<<20 {
		return 64
	}
	return 128
}

// Limits on what options may ask for.
const (
	maxThreads = 1 << 10
	maxContext = 1 << 28
	maxBatch   = 1 << 14
)

// Validate reports the first option that is out of range, by its flag. The
// error wraps ErrUsage.
func (o Options) Validate() error {
	if _, err := o.tier(); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if _, err := kernel.ParseKVType(o.KVType); err != nil {
		return fmt.Errorf("%w: --kv-type: %w", ErrUsage, err)
	}
	if o.KVRAM < AutoRAM {
		return fmt.Errorf("%w: --kv-ram %d: expected a size", ErrUsage, o.KVRAM)
	}
	for _, n := range []struct {
		flag            string
		value, min, max int
	}{
		{"--threads", o.Threads, 1, maxThreads},
		{"--ctx-size", o.Context, 0, maxContext},
		{"--batch-size", o.Batch, 0, maxBatch},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%w: %s %d: expected %d to %d", ErrUsage, n.flag, n.value, n.min, n.max)
		}
	}
	return nil
}

// String is the line printed at the head of a run.
func (o Options) String() string {
	ram := ""
	switch {
	case o.KVRAM == AutoRAM:
		ram = ", on disk what memory does not hold"
	case o.KVRAM > 0:
		ram = fmt.Sprintf(", %v of it in memory", Bytes(o.KVRAM))
	}
	return fmt.Sprintf("tier %s, %d threads, batch %d, %s cache%s", o.TierName(), o.Threads, o.Batch, o.KVType, ram)
}

// TierName is the tier that o names, or else the best of this processor.
func (o Options) TierName() string {
	if o.Tier == "" {
		return cpu.Best().String()
	}
	return o.Tier
}

// tier returns the tier that o names, which this processor has.
func (o Options) tier() (cpu.Tier, error) {
	if o.Tier == "" {
		return cpu.Best(), nil
	}
	t, err := cpu.Parse(o.Tier)
	if err == nil && !slices.Contains(cpu.Tiers(), t) {
		err = fmt.Errorf("this processor has no tier %s; it has %s", t, strings.Join(Tiers(), ", "))
	}
	return t, err
}

// Tiers names the kernels that this processor can run, the best last.
func Tiers() []string {
	var names []string
	for _, t := range cpu.Tiers() {
		names = append(names, t.String())
	}
	return names
}

// KVTypes names the stored forms of keys and values.
func KVTypes() []string {
	return []string{kernel.KVQ8.String(), kernel.KVF16.String(), kernel.KVF32.String()}
}

// Engine is a loaded model.
type Engine struct {
	file    *File
	owned   bool // Close closes the file too
	opt     Options
	set     *kernel.Set
	kv      kernel.KVType
	model   *llama.Model
	draft   *Engine // or nil
	loading time.Duration
}

// UseDraft makes sessions to come speculate with a small model of the same
// vocabulary, which must stay open as long as they are in use. The error wraps
// what CanDraft does.
func (e *Engine) UseDraft(draft *Engine) error {
	if err := e.file.CanDraft(draft.file); err != nil {
		return err
	}
	e.draft = draft
	return nil
}

// Kernels are those that the engine computes with.
func (e *Engine) Kernels() *kernel.Set { return e.set }

// StateWidth is the number of elements of the model's states (Token.State).
func (e *Engine) StateWidth() int { return e.model.Dim }

// Draft returns the draft in use, or nil.
func (e *Engine) Draft() *Engine { return e.draft }

// Open loads the model at path: a GGUF file, a safetensors file or folder, or
// the embedded model if path is empty.
func Open(ctx context.Context, path string, o Options) (*Engine, error) {
	f, err := OpenFile(path, Rope{})
	if err != nil {
		return nil, err
	}
	e, err := f.Load(ctx, o)
	if err != nil {
		f.Close()
		return nil, err
	}
	e.owned = true
	return e, nil
}

// Load reads the weights. The File must stay open while the Engine is in use.
// If the model would not fit, the error wraps ErrMemory and nothing was read.
func (f *File) Load(ctx context.Context, o Options) (*Engine, error) {
	start := time.Now()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	if n := f.tokenizer.Vocab().Size(); n > config.Vocab {
		return nil, fmt.Errorf("%s: the tokenizer has %d tokens, expected at most the %d rows of the embedding: %w",
			f.Name(), n, config.Vocab, weights.ErrCorrupt)
	}
	forecast, err := f.Forecast(o)
	if err != nil {
		return nil, err
	}
	if o.Context, err = forecast.fit(o.Context); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	o.Batch = forecast.Batch
	if o.KVRAM = forecast.RAM; o.KVRAM > 0 {
		if err := scratch.Check(KVFolder(o.KVDir)); err != nil {
			return nil, fmt.Errorf("--kv-dir: %w", err)
		}
	}
	tier, _ := o.tier()
	kv, _ := kernel.ParseKVType(o.KVType)
	// What reading the header left behind would otherwise stay: the weights are
	// most of the heap, which is next collected when it has doubled.
	mem.Trim()
	e := &Engine{file: f, opt: o, set: kernel.For(tier), kv: kv}
	team := par.NewTeam(o.Threads)
	defer team.Close()
	e.model, err = llama.Load(ctx, f.source, llama.Options{Set: e.set, Team: team, Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	mem.Trim() // what packing has left
	e.loading = time.Since(start)
	return e, nil
}

// Close gives the model back. Its sessions must be closed before.
func (e *Engine) Close() error {
	if e.owned {
		return e.file.Close()
	}
	return nil
}

// File returns what the model was loaded from.
func (e *Engine) File() *File { return e.file }

// Tier names the kernels in use.
func (e *Engine) Tier() string { return e.set.Tier.String() }

// Options are those in force: Context and Batch as they were chosen.
func (e *Engine) Options() Options { return e.opt }

// LoadTime is how long Load took.
func (e *Engine) LoadTime() time.Duration { return e.loading }

// WeightBytes is the memory of the weights.
func (e *Engine) WeightBytes() int64 { return e.model.WeightBytes() }
