package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"triforce/engine"
	"triforce/weights"
)

type inspectOptions struct {
	Sys   *System
	Model modelOptions
	JSON  bool
}

type inspectReport struct {
	Model      string `json:"model"`
	Parameters int64  `json:"parameters"`
	Vocabulary int    `json:"vocabulary"`
	// Head is the number of tokens that have logits, if not all of them do.
	Head int `json:"head,omitempty"`
	// State is the width of a target's states that a draft takes in, if it does.
	State    int            `json:"state,omitempty"`
	Metadata map[string]any `json:"metadata"`
	Tensors  []tensorReport `json:"tensors"`
	// Memory is what the model would take, by stored form of keys and values;
	// Unsupported says why there is none.
	Memory      []forecastReport `json:"memory,omitempty"`
	Unsupported string           `json:"unsupported,omitempty"`
	// Disk is what a cache partly on disk would be like.
	Disk *diskForecast `json:"disk,omitempty"`
}

// diskForecast is about a cache of which --kv-ram is in memory.
type diskForecast struct {
	KVType     string `json:"kv_type"`
	Folder     string `json:"folder"`
	RAMBytes   int64  `json:"ram_bytes"`  // of the cache, 0 if all fits
	DiskBytes  int64  `json:"disk_bytes"` // of the cache when the context is full
	TokenBytes int64  `json:"token_bytes"`
	// What the disk does, measured, and the most passes over a full context in a
	// second that this allows.
	ReadBytesPerSecond  float64 `json:"read_bytes_per_second"`
	WriteBytesPerSecond float64 `json:"write_bytes_per_second"`
	PassesPerSecond     float64 `json:"passes_per_second"`
}

type tensorReport struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Rows  int    `json:"rows"`
	Cols  int    `json:"cols"`
	Bytes int64  `json:"bytes"`
}

type forecastReport struct {
	KVType         string `json:"kv_type"`
	Context        int    `json:"context"`
	WeightsBytes   int64  `json:"weights_bytes"`
	KVBytes        int64  `json:"kv_bytes"`
	ScratchBytes   int64  `json:"scratch_bytes"`
	TotalBytes     int64  `json:"total_bytes"`
	AvailableBytes int64  `json:"available_bytes"`
	Fits           bool   `json:"fits"`
}

func newInspect(sys *System, run func(context.Context, *inspectOptions) error) *cobra.Command {
	o := &inspectOptions{Sys: sys, Model: modelDefaults(sys)}
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Show what is in a model and how much memory it needs",
		Example: `  triforce inspect
  triforce inspect -m model.gguf -c 100000
  triforce inspect -m model.gguf -c 100000 --kv-ram 4GiB --kv-dir /var/tmp
  triforce inspect -m model.gguf --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Model.checkOffload(cmd.Flags()); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.Model.bindPath(f)
	o.Model.bindContext(f)
	o.Model.bindOffload(f)
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runInspect(_ context.Context, o *inspectOptions) error {
	f, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := newInspectReport(f, o.Model.Options)
	if err != nil {
		return err
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	out := bufio.NewWriter(o.Sys.Out)
	r.print(out)
	return out.Flush()
}

func newInspectReport(f *engine.File, o engine.Options) (*inspectReport, error) {
	src := f.Source()
	r := &inspectReport{Model: f.Name(), Vocabulary: f.Tokenizer().Vocab().Size(), Metadata: map[string]any{}, Tensors: []tensorReport{}}
	for key := range src.Meta() {
		r.Metadata[key] = brief(src.Meta().Value(key))
	}
	for _, name := range src.Names() {
		t, _ := src.Tensor(name)
		r.Parameters += int64(t.Rows) * int64(t.Cols)
		r.Tensors = append(r.Tensors, tensorReport{name, t.DType.String(), t.Rows, t.Cols, t.Bytes()})
	}
	if n := f.HeadTokens(); n < r.Vocabulary {
		r.Head = n
	}
	r.State = f.StateWidth()
	onDisk := o
	o.KVRAM = 0
	for _, kv := range engine.KVTypes() {
		o.KVType = kv
		c, err := f.Forecast(o)
		if errors.Is(err, weights.ErrUnsupported) {
			r.Unsupported = err.Error()
			break
		}
		if err != nil {
			return nil, err
		}
		r.Memory = append(r.Memory, forecastReport{kv, c.Context, c.Weights, c.KV, c.Scratch, c.Total(), c.Available, c.Fits()})
	}
	var err error
	if onDisk.KVRAM != 0 && r.Unsupported == "" {
		r.Disk, err = newDiskForecast(f, onDisk)
	}
	return r, err
}

// newDiskForecast measures the disk that a part of the cache would be on.
func newDiskForecast(f *engine.File, o engine.Options) (*diskForecast, error) {
	c, err := f.Forecast(o)
	if err != nil {
		return nil, err
	}
	d := &diskForecast{KVType: o.KVType, Folder: engine.KVFolder(o.KVDir), RAMBytes: c.RAM, DiskBytes: c.Disk}
	if c.RAM == 0 {
		return d, nil
	}
	speed, err := engine.MeasureDisk(o.KVDir)
	if err != nil {
		return nil, err
	}
	d.TokenBytes = c.Disk / int64(c.Context)
	d.ReadBytesPerSecond, d.WriteBytesPerSecond = math.Round(speed.Read), math.Round(speed.Write)
	d.PassesPerSecond = speed.Read / float64(max(1, c.Disk-c.RAM))
	return d, nil
}

// brief is a metadata value that JSON can hold, long lists being given by their
// length alone.
func brief(value any) any {
	const long = 16
	list := func(n int, kind string) any {
		if n > long {
			return fmt.Sprintf("%s %s", grouped(n), kind)
		}
		return value
	}
	switch v := value.(type) {
	case []string:
		return list(len(v), "strings")
	case []bool:
		return list(len(v), "truth values")
	case []int64:
		return list(len(v), "integers")
	case []uint64:
		return list(len(v), "integers")
	case []float64:
		if slices.ContainsFunc(v, notFinite) {
			return fmt.Sprint(v[:min(len(v), long)])
		}
		return list(len(v), "numbers")
	case float64:
		if notFinite(v) {
			return fmt.Sprint(v)
		}
	}
	return value
}

func notFinite(x float64) bool { return math.IsNaN(x) || math.IsInf(x, 0) }

// print writes the report as tables.
func (r *inspectReport) print(out io.Writer) {
	head := ""
	if r.Head > 0 {
		head = fmt.Sprintf(", %s of which have logits", grouped(r.Head))
	}
	if r.State > 0 {
		head += fmt.Sprintf(", a target's states of %s", grouped(r.State))
	}
	fmt.Fprintf(out, "%s: %s parameters, %s tensors, %s tokens%s\n\n", r.Model, grouped(r.Parameters), grouped(len(r.Tensors)), grouped(r.Vocabulary), head)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, key := range slices.Sorted(maps.Keys(r.Metadata)) {
		fmt.Fprintf(w, "%s\t%s\n", strconv.Quote(key)[1:len(strconv.Quote(key))-1], short(r.Metadata[key]))
	}
	fmt.Fprintln(w)
	_ = w.Flush()
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "rows\tcols\tformat\tsize\t  tensor\n")
	for _, t := range r.Tensors {
		fmt.Fprintf(w, "%d\t%d\t%s\t%v\t  %s\n", t.Rows, t.Cols, t.DType, engine.Bytes(t.Bytes), short(t.Name))
	}
	_ = w.Flush()
	fmt.Fprintln(out)
	if r.Unsupported != "" {
		fmt.Fprintf(out, "no forecast of memory: %s\n", r.Unsupported)
		return
	}
	fmt.Fprintf(out, "memory for a context of %s tokens", grouped(r.Memory[0].Context))
	if a := r.Memory[0].AvailableBytes; a > 0 {
		fmt.Fprintf(out, "; %v are available", engine.Bytes(a))
	}
	fmt.Fprint(out, "\n\n")
	fmt.Fprint(w, "--kv-type\tweights\tcache\tscratch\ttotal\tfits\t\n")
	for _, m := range r.Memory {
		fits := "no"
		if m.Fits {
			fits = "yes"
		}
		fmt.Fprintf(w, "%s\t%v\t%v\t%v\t%v\t%s\t\n", m.KVType, engine.Bytes(m.WeightsBytes), engine.Bytes(m.KVBytes),
			engine.Bytes(m.ScratchBytes), engine.Bytes(m.TotalBytes), fits)
	}
	_ = w.Flush()
	if r.Disk != nil {
		r.Disk.print(out)
	}
}

// print says what a cache partly on disk would be like.
func (d *diskForecast) print(out io.Writer) {
	if d.RAMBytes == 0 {
		fmt.Fprintf(out, "\nthe %s cache fits into the memory of --kv-ram: nothing goes to disk\n", d.KVType)
		return
	}
	fmt.Fprintf(out, "\n%s cache of a full context: %v in memory, %v (%v a token) in %s\n", d.KVType,
		engine.Bytes(d.RAMBytes), engine.Bytes(d.DiskBytes), engine.Bytes(d.TokenBytes), d.Folder)
	fmt.Fprintf(out, "which was measured to read %v/s and write %v/s: at most %.3g passes/s over a full context\n",
		engine.Bytes(d.ReadBytesPerSecond), engine.Bytes(d.WriteBytesPerSecond), d.PassesPerSecond)
	fmt.Fprintln(out, "plain decoding writes one token a pass, drafting as many as are accepted")
}

// short writes a value on one line, without what a terminal might take for a
// command.
func short(value any) string {
	const width = 80
	s := strconv.Quote(fmt.Sprint(value))
	s = s[1 : len(s)-1]
	if runes := []rune(s); len(runes) > width {
		s = string(runes[:width]) + "…"
	}
	return s
}
