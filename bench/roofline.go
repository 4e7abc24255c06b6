package bench

import (
	"context"
	"fmt"
	"io"
	"slices"

	"triforce/engine"
)

// RooflineOptions say which passes to compare with the machine's limits.
type RooflineOptions struct {
	Text   []int32 // what is in the cache and what comes after it, Need tokens; nil = noise
	Depths []int   // tokens in the cache, ascending
	Rows   []int   // tokens of a pass
	Reps   int     // passes of each kind
	// Progress, if not nil, is told what is being done and how far it is.
	Progress func(stage string, done, total int)
}

// RooflineRows are the numbers of rows of a first look.
func RooflineRows() []int { return []int{1, 2, 4, 8, 16, 32} }

// Validate reports the first option that is out of range, by its flag. The
// error wraps engine.ErrUsage.
func (o *RooflineOptions) Validate() error {
	if err := checkDepths(o.Depths); err != nil {
		return err
	}
	if len(o.Rows) == 0 || slices.Min(o.Rows) < 1 {
		return fmt.Errorf("%w: --rows: expected numbers of at least 1", engine.ErrUsage)
	}
	if o.Reps < 1 || o.Reps > maxReps {
		return fmt.Errorf("%w: --reps %d: expected 1 to %d", engine.ErrUsage, o.Reps, maxReps)
	}
	return nil
}

// Need is the number of tokens that a context must hold.
func (o *RooflineOptions) Need() int { return slices.Max(o.Depths) + slices.Max(o.Rows) }

// Pass compares one kind of pass with the machine's limits.
type Pass struct {
	Depth int `json:"n_depth"`
	Rows  int `json:"rows"`
	// Bytes to read and multiply-accumulates to do.
	WeightBytes   int64 `json:"weight_bytes"`
	KVBytes       int64 `json:"kv_bytes"`
	ProductMACs   int64 `json:"product_macs"`
	AttentionMACs int64 `json:"attention_macs"`
	// The least times for that, in milliseconds, the longer of them, and which
	// that is: "reading" or "multiplying". Reading is the median of readings of as
	// many bytes, one beside each pass. Multiplying is as much slower than at best
	// as a bare loop beside each pass was, in the median.
	ReadMS     float64 `json:"read_ms"`
	MultiplyMS float64 `json:"multiply_ms"`
	LimitMS    float64 `json:"limit_ms"`
	Bound      string  `json:"bound"`
	// What was measured: the median and all samples.
	MS            float64 `json:"ms"`
	SamplesMS     Speeds  `json:"samples_ms"`
	ReadSamplesMS Speeds  `json:"read_samples_ms"`
	Reached       float64 `json:"reached"` // LimitMS / MS
}

// Roofline measures passes, calling emit with each.
func Roofline(ctx context.Context, e *engine.Engine, machine engine.Roofline, o RooflineOptions, emit func(Pass)) error {
	if err := o.Validate(); err != nil {
		return err
	}
	s := e.NewSession()
	defer s.Close()
	for _, depth := range o.Depths {
		var progress func(stage string, done, total int)
		if o.Progress != nil {
			progress = func(stage string, done, total int) {
				o.Progress(fmt.Sprintf("d%d: %s", depth, stage), done, total)
			}
		}
		times, err := s.TimePasses(ctx, o.Text, depth, o.Rows, o.Reps, progress)
		if err != nil {
			return err
		}
		for i, rows := range o.Rows {
			emit(newPass(e, &machine, depth, rows, times[i]))
		}
	}
	return nil
}

func newPass(e *engine.Engine, machine *engine.Roofline, depth, rows int, times engine.Timing) Pass {
	w := e.Work(depth, rows)
	p := Pass{Depth: depth, Rows: rows, WeightBytes: w.Weights, KVBytes: w.KV, ProductMACs: w.Products, AttentionMACs: w.Attention,
		Bound: "multiplying"}
	loop, _, _ := spread(times.Loop)
	p.MultiplyMS = 1e3 * machine.Multiply(w) * machine.Loop / loop
	p.MS, p.SamplesMS = milliseconds(times.Pass)
	p.ReadMS, p.ReadSamplesMS = milliseconds(times.Read)
	if p.ReadMS >= p.MultiplyMS {
		p.Bound = "reading"
	}
	p.LimitMS = max(p.ReadMS, p.MultiplyMS)
	p.Reached = p.LimitMS / p.MS
	return p
}

// milliseconds returns the median of some times and all of them.
func milliseconds(seconds []float64) (median float64, all Speeds) {
	for _, s := range seconds {
		all = append(all, 1e3*s)
	}
	median, _, _ = spread(all)
	return median, all
}

// rooflineReport is what JSON says about the limits and the passes.
type rooflineReport struct {
	CPU          string  `json:"cpu_info"`
	Tier         string  `json:"tier"`
	Threads      int     `json:"n_threads"`
	Model        string  `json:"model_filename"`
	KVType       string  `json:"type_k"`
	Command      string  `json:"command"`
	ReadOne      float64 `json:"read_one_thread"` // bytes a second
	Read         float64 `json:"read"`
	ProductPeak  float64 `json:"product_peak"` // multiply-accumulates a second
	AttentionMAC float64 `json:"attention_peak"`
	Passes       []Pass  `json:"passes"`
}

// RooflineFormats are the forms that limits and passes can be written in.
func RooflineFormats() []string { return []string{"md", "csv", "json", "jsonl"} }

// WriteRoofline prints the limits and the passes in one of the RooflineFormats.
func WriteRoofline(w io.Writer, format string, at *Where, m engine.Roofline, passes []Pass) error {
	switch format {
	case "csv":
		return writeCSV(w, passes)
	case "json", "jsonl":
		return writeObjects(w, format, []rooflineReport{{CPU: at.CPU, Tier: at.Tier, Threads: at.Threads, Model: at.Model, KVType: at.TypeK, Command: at.Command,
			ReadOne: m.ReadOne, Read: m.Read, ProductPeak: m.Products, AttentionMAC: m.Attention, Passes: append([]Pass{}, passes...)}})
	}
	t := &table{head: []string{"depth", "rows", "weights", "keys and values", "multiply-accumulates", "to read", "to multiply", "reached", "of limit", "bound by"}}
	for _, p := range passes {
		t.rows = append(t.rows, []string{fmt.Sprint(p.Depth), fmt.Sprint(p.Rows),
			engine.Bytes(p.WeightBytes).String(), engine.Bytes(p.KVBytes).String(), figures(float64(p.ProductMACs+p.AttentionMACs)/1e6) + " M",
			figures(p.ReadMS) + " ms", figures(p.MultiplyMS) + " ms", figures(p.MS) + " ms", fmt.Sprintf("%.0f%%", 100*p.Reached), p.Bound})
	}
	lines := append(headLines([]Row{{Setting: at.Setting, Size: at.Size, Command: at.Command}}),
		fmt.Sprintf("reading: %.1f GB/s by one thread, %.1f by all", m.ReadOne/1e9, m.Read/1e9),
		fmt.Sprintf("multiply-accumulates of all threads at most: %.0f G/s in products, %.0f in attention", m.Products/1e9, m.Attention/1e9),
		"to read: the median of readings of as many bytes, one beside each pass, from caches if they hold as many; to multiply: at the rate beside each pass, in the median; limit: the longer of the two")
	return writeMarkdown(w, lines, t, nil)
}
