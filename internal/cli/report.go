package cli

import (
	"fmt"
	"math"
	"text/tabwriter"
	"time"

	"triforce/engine"
	"triforce/sample"
)

// report is what --json prints about a generation.
type report struct {
	Model        string          `json:"model"`
	Draft        *string         `json:"draft"`
	Tier         string          `json:"tier"`
	Threads      int             `json:"threads"`
	Seed         uint64          `json:"seed"`
	Spec         string          `json:"spec"`
	Accept       string          `json:"accept"`
	PromptTokens int             `json:"prompt_tokens"`
	Tokens       []int32         `json:"tokens"`
	Text         string          `json:"text"`
	StopReason   string          `json:"stop_reason"`
	Timings      timings         `json:"timings"`
	Levels       []levelReport   `json:"levels"`
	Memory       memoryReport    `json:"memory"`
	Disk         *diskReport     `json:"disk,omitempty"`
	LogProbs     []tokenLogProbs `json:"logprobs,omitempty"`

	plain float64 // measured seconds of a token by plain decoding, or 0
}

type timings struct {
	LoadMS             float64 `json:"load_ms"`
	PromptN            int     `json:"prompt_n"` // read now: not in the cache before
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
	DraftN             int     `json:"draft_n"` // proposed to the topmost level
	DraftNAccepted     int     `json:"draft_n_accepted"`
	CachedN            int     `json:"cached_n"`
}

type levelReport struct {
	Name                 string  `json:"name"`
	Passes               int     `json:"passes"`
	Rows                 int     `json:"rows"`
	Proposed             int     `json:"proposed"`
	Accepted             int     `json:"accepted"`
	AcceptedPerPosition  []int   `json:"accepted_per_position"`
	MeanAcceptanceLength float64 `json:"mean_acceptance_length"`
	Seconds              float64 `json:"seconds"`
}

type memoryReport struct {
	WeightsBytes int64 `json:"weights_bytes"`
	KVBytes      int64 `json:"kv_bytes"`
	PeakRSSBytes int64 `json:"peak_rss_bytes"`
}

// diskReport is about a cache that is partly on disk. Times and traffic are
// those of generating.
type diskReport struct {
	Folder         string  `json:"folder"`
	Bytes          int64   `json:"bytes"`
	ReadBytes      int64   `json:"read_bytes"`
	WrittenBytes   int64   `json:"written_bytes"`
	BytesPerSecond float64 `json:"read_bytes_per_second"` // while anything was read
	WaitingMS      float64 `json:"waiting_ms"`
	WaitingShare   float64 `json:"waiting_share"` // of the time to generate
}

// tokenLogProbs is a generated token and its most probable alternatives.
type tokenLogProbs struct {
	logProb
	Top []logProb `json:"top"`
}

type logProb struct {
	ID      int32   `json:"id"`
	Text    string  `json:"text"`
	LogProb float64 `json:"logprob"`
}

func newTokenLogProbs(t engine.Token, piece func(int32) string) tokenLogProbs {
	of := func(p sample.LogProb) logProb { return logProb{p.ID, piece(p.ID), p.Value} }
	r := tokenLogProbs{logProb: of(sample.LogProb{ID: t.ID, Value: t.LogProb}), Top: []logProb{}}
	for _, p := range t.Top {
		r.Top = append(r.Top, of(p))
	}
	return r
}

func newReport(o *generateOptions, e *engine.Engine, s *engine.Session, r *engine.Result, out *output) *report {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	read := r.Read
	if r.Predicted > 0 {
		read++ // the last token of the prompt, by the first round
	}
	rep := &report{
		Model: e.File().Name(), Tier: e.Tier(), Threads: e.Options().Threads, Seed: o.Gen.Sample.Seed,
		Spec: o.Gen.Spec.Mode, Accept: o.Gen.Spec.Accept,
		PromptTokens: r.Prompt, Tokens: out.ids, Text: out.text.String(), StopReason: string(r.Stop),
		Timings: timings{
			LoadMS: ms(e.LoadTime()), CachedN: r.Cached,
			PromptN: read, PromptMS: ms(r.PromptTime), PromptPerSecond: perSecond(r.Read, r.PromptTime),
			PredictedN: r.Predicted, PredictedMS: ms(r.PredictTime), PredictedPerSecond: perSecond(r.Predicted, r.PredictTime),
		},
		Levels:   []levelReport{},
		Memory:   memoryReport{WeightsBytes: e.WeightBytes(), KVBytes: s.CacheBytes(), PeakRSSBytes: engine.PeakBytes()},
		LogProbs: out.logprobs,
		plain:    s.PlainSeconds(),
	}
	if d := e.Draft(); d != nil {
		name := d.File().Name()
		rep.Draft = &name
		rep.Memory.WeightsBytes += d.WeightBytes()
	}
	if d := r.Disk; d.Bytes > 0 {
		rep.Disk = &diskReport{Folder: e.KVDir(), Bytes: d.Bytes, ReadBytes: d.Read, WrittenBytes: d.Written,
			BytesPerSecond: math.Round(d.Bandwidth()), WaitingMS: ms(d.Waiting)}
		if r.PredictTime > 0 {
			rep.Disk.WaitingShare = math.Round(1e4*d.Waiting.Seconds()/r.PredictTime.Seconds()) / 1e4
		}
	}
	for i, l := range s.Levels() {
		if i == 0 {
			rep.Timings.DraftN, rep.Timings.DraftNAccepted = l.Proposed, l.Accepted
		}
		rep.Levels = append(rep.Levels, levelReport{
			Name: l.Name, Passes: l.Passes, Rows: l.Rows, Proposed: l.Proposed, Accepted: l.Accepted,
			AcceptedPerPosition:  append([]int{}, l.AcceptedAt...),
			MeanAcceptanceLength: l.MeanAcceptance(), Seconds: l.Seconds,
		})
	}
	return rep
}

// perSecond is a rate, 0 where nothing was timed.
func perSecond(n int, d time.Duration) float64 {
	if n <= 0 || d <= 0 {
		return 0
	}
	return math.Round(float64(n)/d.Seconds()*100) / 100
}

// summarize prints the figures for a person.
func (r *report) summarize(sys *System) {
	w := tabwriter.NewWriter(sys.Err, 0, 0, 2, ' ', 0)
	t := &r.Timings
	rate := func(name string, n int, ms, rate float64, more string) {
		fmt.Fprintf(w, "%s\t%s tokens\t%.2f s\t%.1f tokens/s%s\n", name, grouped(n), ms/1e3, rate, more)
	}
	fmt.Fprintln(w)
	cached := ""
	if t.CachedN > 0 {
		cached = fmt.Sprintf("\t%s more from the cache", grouped(t.CachedN))
	}
	rate("prompt", t.PromptN, t.PromptMS, t.PromptPerSecond, cached)
	rate("generated", t.PredictedN, t.PredictedMS, t.PredictedPerSecond, "\tended by "+r.StopReason)
	m := &r.Memory
	fmt.Fprintf(w, "memory\t%v weights\t%v cache\t%v at most in all\n", engine.Bytes(m.WeightsBytes), engine.Bytes(m.KVBytes), engine.Bytes(m.PeakRSSBytes))
	if d := r.Disk; d != nil {
		fmt.Fprintf(w, "disk\t%v cache\t%v read, %v/s\t%.0f%% of the time waited for it\n", engine.Bytes(d.Bytes),
			engine.Bytes(d.ReadBytes), engine.Bytes(d.BytesPerSecond), 100*d.WaitingShare)
	}
	_ = w.Flush()
	if t.DraftN > 0 {
		r.summarizeLevels(sys)
	}
}

// summarizeLevels prints what each level did, and how much faster that was.
func (r *report) summarizeLevels(sys *System) {
	fmt.Fprintln(sys.Err)
	w := tabwriter.NewWriter(sys.Err, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "level\tpasses\tproposed\taccepted\ttokens a round\tseconds\t")
	for _, l := range r.Levels {
		if l.Passes == 0 {
			continue
		}
		proposed, accepted, length := "-", "-", "-"
		if l.Proposed > 0 {
			proposed, accepted = grouped(l.Proposed), fmt.Sprintf("%s (%.0f%%)", grouped(l.Accepted), 100*float64(l.Accepted)/float64(l.Proposed))
			length = fmt.Sprintf("%.2f", l.MeanAcceptanceLength)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.2f\t\n", l.Name, grouped(l.Passes), proposed, accepted, length, l.Seconds)
	}
	_ = w.Flush()
	if r.plain > 0 && r.Timings.PredictedMS > 0 {
		plain := r.plain * float64(r.Timings.PredictedN)
		fmt.Fprintf(sys.Err, "about %.1f times as fast as plain decoding, which takes %.2f ms a token here\n",
			plain/(r.Timings.PredictedMS/1e3), r.plain*1e3)
	}
}
