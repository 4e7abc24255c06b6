// Package distill makes a draft for any target: a Llama model of a few layers
// that learns, on a CPU, what the target says about texts.
//
//	texts ─ excerpts ─┬─ the target's most probable tokens (labels, kept on disk)
//	own texts ────────┘        └─ student: a Gorgonia graph, AdamW ─ draft.gguf
//
// The student is trained for its streaming cache: an excerpt's first tokens are
// sinks, rows see these and a window, at the positions that the cache gives
// them. Its output head has the tokens only that matter on the texts.
//
// Run owns its memory and the folder that it works in, and is for one run at a
// time in a process: Gorgonia's products are chosen for the whole process.
// Training with a fixed number of steps gives the same bits again, with any
// number of threads, and when it was interrupted.
package distill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"triforce/engine"
	"triforce/internal/kernel"
)

// ErrText marks texts that are too short to learn from.
var ErrText = errors.New("not enough text")

// ErrWork marks a working folder that belongs to another run, or is damaged.
var ErrWork = errors.New("working folder does not fit")

// ErrSpace marks a disk without room for what a run keeps on it.
var ErrSpace = errors.New("not enough disk space")

// ErrWorse marks a training after which a draft guesses worse than before it.
var ErrWorse = errors.New("the draft got worse")

// Options says what to make and how.
type Options struct {
	// Layers, Dim and Head are the student's layers, its width (0: the target's, up
	// to mostDim) and the tokens of its output head.
	Layers, Dim, Head int
	// Minutes is how long the whole run may take. Steps and Labels, if not zero,
	// fix the number of steps and of labelled excerpts instead.
	Minutes float64
	Steps   int
	Labels  int
	// Self is how many tokens of text the target writes for the purpose.
	Self int
	// Sinks and Window are those of the streaming cache, Length the tokens of an
	// excerpt and Batch the excerpts of a step.
	Sinks, Window, Length, Batch int
	// Rate is the highest learning rate (0: by the width, and a quarter of that for
	// a draft to go on from).
	Rate float64
	// From, if not nil, is a draft to go on from, whose shape is taken. If it gets
	// worse, nothing is written to Out.
	From *engine.File
	// Blind leaves out what the target's states say (llama.Config.State).
	Blind bool
	// Random starts from random embeddings instead of a projection of the
	// target's.
	Random bool
	Seed   uint64
	// Out is the file of the draft, and Work the folder for labels and
	// checkpoints.
	Out, Work string
	// Now is the time that the chat template is told; Clock measures durations.
	Now   func() time.Time
	Clock func() time.Duration
	// Free returns the free bytes of a folder's disk.
	Free func(folder string) (int64, error)
	// Report, if not nil, is told how a run goes on.
	Report func(Status)
}

// Defaults are the options of a small draft.
func Defaults() Options {
	start := time.Now()
	return Options{
		Layers: 1, Head: 6144, Minutes: 30, Sinks: 16, Window: 256, Length: 512, Batch: 8,
		Now: time.Now, Clock: func() time.Duration { return time.Since(start) },
		Free: func(string) (int64, error) { return 1 << 62, nil },
	}
}

// Validate reports the first option that is out of range, by its flag. The error
// wraps engine.ErrUsage.
func (o *Options) Validate() error {
	for _, n := range []struct {
		flag            string
		value, min, max int
	}{
		{"--layers", o.Layers, 1, 64},
		{"--dim", o.Dim, 0, 4096},
		{"--vocab-head", o.Head, 64, 1 << 22},
		{"--steps", o.Steps, 0, 1 << 30},
		{"--labels", o.Labels, 0, 1 << 24},
		{"--self", o.Self, 0, 1 << 30},
		{"--batch", o.Batch, 1, 1 << 10},
		{"--sinks", o.Sinks, 0, kernel.Tile},
		{"--window", o.Window, 16, 1 << 16},
		{"--length", o.Length, 64, 1 << 16},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%w: %s %d: expected %d to %d", engine.ErrUsage, n.flag, n.value, n.min, n.max)
		}
	}
	switch {
	case o.Dim%headDim != 0:
		return fmt.Errorf("%w: --dim %d: expected a multiple of %d", engine.ErrUsage, o.Dim, headDim)
	case o.Length <= o.Sinks:
		return fmt.Errorf("%w: --length %d: expected more than the %d sinks", engine.ErrUsage, o.Length, o.Sinks)
	case o.Steps == 0 && !(o.Minutes > 0):
		return fmt.Errorf("%w: --minutes %v: expected more than 0", engine.ErrUsage, o.Minutes)
	case !(o.Rate >= 0 && o.Rate < 1):
		return fmt.Errorf("%w: --rate %v: expected a number from 0 to 1", engine.ErrUsage, o.Rate)
	}
	return nil
}

// Phase is what a run is doing.
type Phase string

// The phases, in order.
const (
	Writing  Phase = "writing texts"
	Labeling Phase = "asking the target"
	Training Phase = "training"
)

// Status is how far a run is.
type Status struct {
	Phase       Phase
	Done, Total int
	// Loss and Score are the newest of a training.
	Loss  float64
	Score Score
}

// Score is how well a student guesses on text that was kept back.
type Score struct {
	// Overlap is the mean of Σ min(p, q) over the places of the text: the
	// probability that sampled tokens are accepted. Of the target's p it counts
	// the most probable tokens, so it is a lower bound.
	Overlap float64 `json:"overlap"`
	// Agreement is how often both have the same most probable token: the
	// acceptance at temperature 0.
	Agreement float64 `json:"agreement"`
	// LaterOverlap and LaterAgreement are those of a second drafted token, as
	// Overlap and Agreement are of a first: the target's state is not known after
	// it, and the student's own takes its place, or none.
	LaterOverlap   float64 `json:"later_overlap"`
	LaterAgreement float64 `json:"later_agreement"`
	// Places is how many places were looked at.
	Places int `json:"places"`
}

// Result is what a run did.
type Result struct {
	Out    string `json:"out"`
	Steps  int    `json:"steps"`
	Tokens int64  `json:"tokens"` // that training went over
	// Labels is how many places of the texts the target was asked about.
	Labels int     `json:"labels"`
	Loss   float64 `json:"loss"`
	// Text and Self are the scores on what was kept back of the given texts and
	// of the target's own.
	Text Score `json:"text"`
	Self Score `json:"self"`
	// Head is the number of tokens in the output head, and Covered the share of
	// the target's probability that they hold on the labelled text.
	Head    int     `json:"head"`
	Covered float64 `json:"covered"`
	// TokensPerSecond is the speed of training alone.
	TokensPerSecond float64 `json:"tokens_per_second"`
	Seconds         float64 `json:"seconds"`
}

// Shares of the time that the phases before training may take.
const (
	writeShare = 0.30 // to write texts, and label what the target wrote of them
	labelShare = 0.35 // to label the others, too
)

// usualRate is the learning rate of students of width mostDim; narrow ones bear
// more, trained ones a part of it, fromRate.
const (
	usualRate = 2e-3
	fromRate  = 0.25
)

// Run makes a draft for the target e from texts, each a sequence of tokens. What
// an interrupted run with the same options did it does not do again.
func Run(ctx context.Context, e *engine.Engine, texts [][]int32, o Options) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if o.Report == nil {
		o.Report = func(Status) {}
	}
	if o.Dim == 0 {
		o.Dim = max(min(e.StateWidth(), mostDim)/headDim, 1) * headDim
	}
	r := &run{Options: o, engine: e}
	var err error
	if r.shape, err = newShape(&o, e.File().Source(), e.File().Tokenizer().Vocab().Size(), e.StateWidth()); err != nil {
		return Result{}, err
	}
	if r.Rate == 0 {
		r.Rate = usualRate * math.Sqrt(mostDim/float64(r.shape.Dim))
		if r.From != nil {
			r.Rate *= fromRate
		}
	}
	defer r.close()
	start := o.Clock()
	if err := r.open(texts); err != nil {
		return Result{}, err
	}
	if err := r.write(ctx); err != nil {
		return Result{}, err
	}
	if err := r.gather(texts); err != nil {
		return Result{}, err
	}
	if err := r.label(ctx); err != nil {
		return Result{}, err
	}
	result, err := r.train(ctx)
	result.Seconds = (o.Clock() - start).Seconds()
	return result, err
}
