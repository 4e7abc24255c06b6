package bench

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"

	"triforce/engine"
	"triforce/speculate"
)

// Prefill is the mode of rows about reading.
const Prefill = "prefill"

// Setting is what a row was measured with: two rows with the same Setting
// measure the same. What a mode does not heed is zero. Names are those of
// llama-bench where it has them.
type Setting struct {
	CPU     string  `json:"cpu_info"`
	Tier    string  `json:"tier,omitempty"`
	Threads int     `json:"n_threads"`
	Batch   int     `json:"n_batch,omitempty"`
	TypeK   string  `json:"type_k"`
	TypeV   string  `json:"type_v"`
	Model   string  `json:"model_filename"`
	Draft   string  `json:"draft,omitempty"`
	Sent    string  `json:"sent,omitempty"` // what the model was given to read
	Test    string  `json:"test"`
	Prompt  int     `json:"n_prompt"` // tokens read in a sample
	Gen     int     `json:"n_gen"`    // tokens generated in a sample
	Depth   int     `json:"n_depth"`  // tokens in the cache before
	Mode    string  `json:"mode"`     // Prefill, one of engine.SpecModes, or the name of another engine
	Temp    float64 `json:"temp"`
	Seed    uint64  `json:"seed"`
	Accept  string  `json:"accept,omitempty"`
	Outer   int     `json:"outer_depth,omitempty"`
	Inner   int     `json:"inner_depth,omitempty"`
	Budget  int     `json:"budget,omitempty"`
	Chunk   int     `json:"chunk,omitempty"`
	Sinks   int     `json:"sinks,omitempty"`
	Window  int     `json:"window,omitempty"`
	Ranking string  `json:"retrieval,omitempty"`
	Tree    bool    `json:"tree,omitempty"`
}

// Row is what was measured with one Setting: the one description from which all
// forms of output are made.
type Row struct {
	Setting
	Size    int64  `json:"model_size"` // bytes of the weights
	Command string `json:"command,omitempty"`

	// What finish makes of the samples.
	AvgNS    int64   `json:"avg_ns"`
	StddevNS int64   `json:"stddev_ns"`
	AvgTS    float64 `json:"avg_ts"`
	StddevTS float64 `json:"stddev_ts"`
	MedianTS float64 `json:"median_ts"`
	MinTS    float64 `json:"min_ts"`
	MaxTS    float64 `json:"max_ts"`
	Ratio    float64 `json:"ratio"` // to plain decoding, the median of the pairs; 0 = none
	RatioMin float64 `json:"ratio_min"`
	RatioMax float64 `json:"ratio_max"`
	// OfLimit is the speed as a part of what plain decoding could reach at most,
	// if it read the weights and the cache once a token at the bandwidth of this
	// machine; 0 is not known. Speculation may go beyond 1.
	OfLimit float64 `json:"of_bandwidth_limit"`
	// Accepted is the share of accepted tokens among those that the target
	// judged, and MeanLength the tokens that one of its rounds yields.
	Accepted   float64 `json:"accepted"`
	MeanLength float64 `json:"mean_length"`

	Bandwidth   float64 `json:"bandwidth"`          // of all threads, in bytes a second
	LimitTS     float64 `json:"bandwidth_limit_ts"` // tokens a second
	PredictedTS float64 `json:"predicted_ts"`       // by Plan; 0 = none
	KVBytes     int64   `json:"kv_bytes"`
	PeakBytes   int64   `json:"peak_rss_bytes"` // of the process so far
	// DiskRead is what was read of keys and values in a file for each token that
	// was generated, in bytes, and DiskWait the share of the time that passes
	// waited for it.
	DiskRead float64 `json:"disk_bytes_per_token,omitempty"`
	DiskWait float64 `json:"disk_wait,omitempty"`

	Levels  Levels  `json:"levels"` // of all runs, the topmost first
	Runs    int     `json:"runs"`
	NS      Samples `json:"samples_ns"` // of a run; each is the mean of those that fill Options.SampleTime
	TS      Speeds  `json:"samples_ts"`
	PlainNS Samples `json:"plain_samples_ns"` // of the run of plain decoding that each sample is paired with
}

// Lists that become one cell in a table of values separated by commas.
type (
	Levels  []Level
	Samples []int64
	Speeds  []float64
)

func (x Levels) MarshalCSV() ([]byte, error)  { return json.Marshal(x) }
func (x Samples) MarshalCSV() ([]byte, error) { return json.Marshal(x) }
func (x Speeds) MarshalCSV() ([]byte, error)  { return json.Marshal(x) }

// Level is what a level of the hierarchy did in all samples. Only levels with
// passes count.
type Level struct {
	Name       string  `json:"name"`
	Passes     int     `json:"passes"`
	Seconds    float64 `json:"seconds"` // in its passes
	Rounds     int     `json:"rounds"`  // in which tokens were proposed to it
	Proposed   int     `json:"proposed"`
	Accepted   int     `json:"accepted"`
	Rejected   int     `json:"rejected"`    // proposed tokens judged and found wrong
	MeanLength float64 `json:"mean_length"` // tokens that a round yields
	// By position in the proposal: how often it got that far, and how often it
	// was accepted that far.
	ProposedAt []int `json:"proposed_per_position,omitempty"`
	AcceptedAt []int `json:"accepted_per_position,omitempty"`
}

// OfJudged is the share of accepted tokens among those accepted and rejected:
// what follows a rejected token was never judged.
func (l *Level) OfJudged() float64 { return share(l.Accepted, l.Accepted+l.Rejected) }

// MSPerPass is the mean time of a pass.
func (l *Level) MSPerPass() float64 { return 1e3 * l.Seconds / float64(max(l.Passes, 1)) }

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

// Tokens is how many a sample read or generated.
func (r *Row) Tokens() int { return r.Prompt + r.Gen }

// Foreign reports whether the row is another program's.
func (r *Row) Foreign() bool {
	return r.Mode != "" && r.Mode != Prefill && !slices.Contains(engine.SpecModes(), r.Mode)
}

// name is the row's name, as llama-bench writes it.
func (s *Setting) name() string {
	name := "tg" + strconv.Itoa(s.Gen)
	if s.Prompt > 0 {
		name = "pp" + strconv.Itoa(s.Prompt)
	}
	if s.Depth > 0 {
		name += " @ d" + strconv.Itoa(s.Depth)
	}
	return name
}

// count adds what the levels did in a run.
func (r *Row) count(levels []speculate.Stats) {
	for _, l := range levels {
		if l.Passes == 0 {
			continue
		}
		i := slices.IndexFunc(r.Levels, func(have Level) bool { return have.Name == l.Name })
		if i < 0 {
			i = len(r.Levels)
			r.Levels = append(r.Levels, Level{Name: l.Name})
		}
		sum := &r.Levels[i]
		sum.Passes += l.Passes
		sum.Seconds += l.Seconds
		sum.Rounds += l.Rounds
		sum.Proposed += l.Proposed
		sum.Accepted += l.Accepted
		sum.Rejected += l.Rejected
		sum.MeanLength = 1 + share(sum.Accepted, sum.Rounds)
		sum.ProposedAt, sum.AcceptedAt = added(sum.ProposedAt, l.ProposedAt), added(sum.AcceptedAt, l.AcceptedAt)
	}
}

// disk takes a run into the averages over runs.
func (r *Row) disk(run *outcome) {
	weight := 1 / float64(r.Runs+1)
	r.DiskRead += weight * (float64(run.disk.Read)/float64(max(r.Gen, 1)) - r.DiskRead)
	r.DiskWait += weight * (float64(run.disk.Waiting.Nanoseconds())/float64(max(run.ns, 1)) - r.DiskWait)
}

func added(sum, x []int) []int {
	for len(sum) < len(x) {
		sum = append(sum, 0)
	}
	for i, n := range x {
		sum[i] += n
	}
	return sum
}

// finish works out everything that follows from the samples.
func (r *Row) finish() {
	r.TS = Speeds{}
	var ratios []float64
	for i, ns := range r.NS {
		r.TS = append(r.TS, 1e9*float64(r.Tokens())/float64(max(ns, 1)))
		if i < len(r.PlainNS) {
			ratios = append(ratios, float64(r.PlainNS[i])/float64(max(ns, 1)))
		}
	}
	if r.Mode == engine.SpecPlain {
		ratios = []float64{1}
	}
	mean, deviation := moments(r.NS)
	r.AvgNS, r.StddevNS = int64(mean), int64(deviation)
	if len(r.TS) > 0 {
		r.AvgTS, r.StddevTS = moments(r.TS)
		r.MedianTS, r.MinTS, r.MaxTS = spread(r.TS)
	}
	r.Ratio, r.RatioMin, r.RatioMax = spread(ratios)
	if r.LimitTS > 0 {
		r.OfLimit = r.MedianTS / r.LimitTS
	}
	if len(r.Levels) > 0 && r.Levels[0].Proposed > 0 {
		r.Accepted, r.MeanLength = r.Levels[0].OfJudged(), r.Levels[0].MeanLength
	}
}

// moments is the mean and the standard deviation of a sample.
func moments[T int64 | float64](x []T) (mean, deviation float64) {
	for _, v := range x {
		mean += float64(v) / float64(len(x))
	}
	for _, v := range x {
		deviation += (float64(v) - mean) * (float64(v) - mean)
	}
	if len(x) > 1 {
		deviation = math.Sqrt(deviation / float64(len(x)-1))
	}
	return mean, deviation
}

// spread is the median and the ends of a sample, 0 where there is none.
func spread(x []float64) (median, least, most float64) {
	if len(x) == 0 {
		return 0, 0, 0
	}
	x = slices.Sorted(slices.Values(x))
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2, x[0], x[n-1]
}
