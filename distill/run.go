package distill

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/cespare/xxhash/v2"

	"triforce/engine"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// run is one run of Run.
type run struct {
	Options
	engine *engine.Engine
	shape  Shape
	team   *par.Team
	set    *kernel.Set
	store  *store
	state  state
	began  time.Duration // Clock when this run, less what was spent before, began
	own    [][]int32     // texts that the target wrote
	words  []string      // for what it writes about

	text, self pool
}

// state is what a working folder remembers of its run, beside labels, texts and
// the checkpoint: a run can only go on with the settings that it began with.
type state struct {
	Settings settings `json:"settings"`
	// Labelled excerpts of the given texts and of the target's own, once that is
	// settled.
	Settled   bool `json:"settled"`
	TextUpTo  int  `json:"text_labelled"`
	SelfUpTo  int  `json:"self_labelled"`
	SelfTexts int  `json:"self_texts"`
	// Began is the score of the draft that the training went on from.
	Began float64 `json:"began,omitempty"`
	// Seconds are those spent so far.
	Seconds float64 `json:"seconds"`
}

type settings struct {
	Target string  `json:"target"`         // its fingerprint
	Texts  string  `json:"texts"`          // a hash of their tokens
	From   string  `json:"from,omitempty"` // a draft's fingerprint
	Shape  Shape   `json:"shape"`
	Batch  int     `json:"batch"`
	Rate   float64 `json:"rate"`
	Random bool    `json:"random"`
	Seed   uint64  `json:"seed"`
	Steps  int     `json:"steps"`
	Labels int     `json:"labels"`
	Self   int     `json:"self"`
}

// open takes or makes the working folder.
func (r *run) open(texts [][]int32) error {
	if r.shape.Vocab < topK {
		return fmt.Errorf("%w: the target's vocabulary has %d tokens, expected at least %d", engine.ErrUsage, r.shape.Vocab, topK)
	}
	h := xxhash.New()
	for _, t := range texts {
		_ = binary.Write(h, binary.LittleEndian, int64(len(t)))
		_ = binary.Write(h, binary.LittleEndian, t)
	}
	mine := settings{
		Target: r.engine.File().Fingerprint(), Texts: fmt.Sprintf("%016x", h.Sum64()), Shape: r.shape, Batch: r.Batch, Rate: r.Rate,
		Random: r.Random, Seed: r.Seed, Steps: r.Steps, Labels: r.Labels, Self: r.Self,
	}
	if r.From != nil {
		mine.From = r.From.Fingerprint()
	}
	var err error
	if r.store, err = openStore(filepath.Join(r.Work, "answers-"+mine.Target)); err != nil {
		return err
	}
	data, err := os.ReadFile(r.statePath())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.state.Settings = mine
	case err != nil:
		return fmt.Errorf("distill: %w", err)
	default:
		if err := json.Unmarshal(data, &r.state); err != nil {
			return fmt.Errorf("%s: %w: %w; remove the file to begin again with the labels that are there", r.statePath(), ErrWork, err)
		}
		if theirs := r.state.Settings; theirs != mine {
			return fmt.Errorf("%s: %w: an unfinished run has %s; give the same options to go on with it, or remove the file and the checkpoint beside it to begin again with the labels that are there",
				r.statePath(), ErrWork, differences(theirs, mine))
		}
	}
	r.began = r.Clock() - time.Duration(r.state.Seconds*float64(time.Second))
	r.team, r.set = par.NewTeam(r.engine.Options().Threads), r.engine.Kernels()
	return r.checkSpace()
}

func (r *run) close() {
	if r.team != nil {
		r.team.Close()
	}
}

// differences says what two settings do not share.
func differences(theirs, mine settings) string {
	if theirs.Target != mine.Target {
		return fmt.Sprintf("another target (fingerprint %s, %d tokens) than this one (%s, %d tokens)",
			theirs.Target, theirs.Shape.Vocab, mine.Target, mine.Shape.Vocab)
	}
	if theirs.Texts != mine.Texts {
		return "other texts"
	}
	a, _ := json.Marshal(theirs)
	b, _ := json.Marshal(mine)
	return fmt.Sprintf("other settings, %s, than this one, %s", a, b)
}

func (r *run) statePath() string      { return filepath.Join(r.Work, "run.json") }
func (r *run) checkpointPath() string { return filepath.Join(r.Work, "checkpoint.gguf") }

// save writes the state.
func (r *run) save() error {
	r.state.Seconds = (r.Clock() - r.began).Seconds()
	data, err := json.MarshalIndent(&r.state, "", "  ")
	if err == nil {
		err = writeData(r.statePath(), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	return nil
}

// forget lets a next run train anew, with the labels that are there.
func (r *run) forget() error {
	for _, path := range []string{r.checkpointPath(), r.statePath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("distill: %w", err)
		}
	}
	return nil
}

// late reports whether that share of the run's time is over.
func (r *run) late(share float64) bool {
	return r.Minutes > 0 && (r.Clock()-r.began).Minutes() > share*r.Minutes
}

// A target answers no faster than this, in tokens a second, and compression
// leaves this share of the answers.
const (
	mostAnswers = 4000
	compressed  = 0.8
)

// checkSpace forecasts what the working folder will hold at most.
func (r *run) checkSpace() error {
	if r.state.Settled {
		return nil
	}
	free, err := r.Free(r.Work)
	if err != nil {
		return nil // not known
	}
	places := r.Minutes * 60 * labelShare * mostAnswers
	if r.Labels > 0 {
		places = float64(2 * r.Labels * r.Length)
	}
	weights := 0
	for _, p := range r.shape.params() {
		weights += len(p.data)
	}
	// Matrices and their averages, twice while one checkpoint follows another.
	need := int64(places*float64(answerBytes(r.engine.StateWidth()))*compressed) + 2*3*4*int64(weights)
	if need > free {
		return fmt.Errorf("%w: labels and checkpoints may take %v in %s, of which %v are free; lower --minutes or choose another folder with --work",
			ErrSpace, engine.Bytes(need), r.Work, engine.Bytes(free))
	}
	return nil
}

// gather makes pools of excerpts.
func (r *run) gather(texts [][]int32) error {
	var err error
	tokens := 0
	for _, t := range texts {
		tokens += len(t)
	}
	if len(texts) > 0 {
		if r.text, err = newPool(cut(texts, r.Length), r.Seed); err != nil {
			return fmt.Errorf("%w: the texts' %d tokens make %w of %d tokens; give more text, or let the target write it (--self)", ErrText, tokens, err, r.Length)
		}
	}
	if len(r.own) > 0 {
		// What the target wrote is in excerpts already.
		all := make([]excerpt, 0, len(r.own))
		for _, t := range r.own {
			all = append(all, excerpt(t[:min(len(t), r.Length)]))
		}
		if r.self, err = newPool(all, r.Seed); err != nil {
			return fmt.Errorf("%w: the target wrote %w; raise --self or --minutes", ErrText, err)
		}
	}
	if len(texts) == 0 && len(r.own) == 0 {
		return fmt.Errorf("%w: there is none; give some (--text), or let the target write it (--self)", ErrText)
	}
	return nil
}

// label asks the target about what is kept back, then about excerpts in turn,
// its own texts first, while there is time.
func (r *run) label(ctx context.Context) error {
	if r.state.Settled {
		r.text.labelled, r.self.labelled = r.state.TextUpTo, r.state.SelfUpTo
		return nil
	}
	reader := r.engine.NewReader()
	defer reader.Close()
	reader.KeepStates()
	ask := func(x excerpt) error {
		if r.store.has(x) {
			return nil
		}
		a, done := newAnswers(len(x), r.engine.StateWidth()), 0
		err := reader.Read(ctx, x, func(logits [][]float32) error {
			r.team.Run(func(w *par.Worker) {
				for i := range w.Each(len(logits)) {
					a.fill(r.set, done+i, logits[i][:r.shape.Vocab], reader.State(i))
				}
			})
			done += len(logits)
			return nil
		})
		if err != nil {
			return err
		}
		return r.store.put(x, a)
	}
	total := len(r.text.train) + len(r.self.train)
	if r.Labels > 0 {
		total = min(total, r.Labels)
	}
	held := append(append([]excerpt(nil), r.text.held...), r.self.held...)
	for i, x := range held {
		r.Report(Status{Phase: Labeling, Done: i, Total: len(held) + total})
		if err := ask(x); err != nil {
			return err
		}
	}
	for done := range total {
		p := &r.self
		if p.labelled == len(p.train) {
			p = &r.text
		}
		if r.Labels == 0 && r.late(labelShare) && !r.store.has(p.train[p.labelled]) {
			break
		}
		r.Report(Status{Phase: Labeling, Done: len(held) + done, Total: len(held) + total})
		if err := ask(p.train[p.labelled]); err != nil {
			return err
		}
		p.labelled++
	}
	if r.text.labelled+r.self.labelled < leastTrain {
		return fmt.Errorf("%w: there was time to ask the target about %d excerpts, expected at least %d; raise --minutes", ErrText, r.text.labelled+r.self.labelled, leastTrain)
	}
	r.state.Settled, r.state.TextUpTo, r.state.SelfUpTo = true, r.text.labelled, r.self.labelled
	return r.save()
}

// answers are those of the target to a text that has labels.
func (r *run) answers(x excerpt) (*answers, error) {
	return r.store.get(x, r.shape.Vocab, r.engine.StateWidth())
}

// random is the source of chance for a step, and only for it.
func (r *run) random(step int) *rand.Rand { return rand.New(rand.NewPCG(r.Seed, uint64(step)+1<<32)) }
