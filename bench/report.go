package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"

	"triforce/engine"
)

// Formats are the forms that results can be written in.
func Formats() []string { return []string{"md", "csv", "json", "jsonl"} }

// Head says what was measured, and where.
type Head struct {
	CPU       string
	Tier      string
	Threads   int
	Batch     int
	KVType    string
	Model     string
	Draft     string // "" for none
	Weights   int64  // bytes
	Seed      uint64
	Accept    string
	Text      string  // what was read
	Bandwidth float64 // bytes a second
	Command   string  // that does it again
}

// NewHead fills in what the engine knows.
func NewHead(e *engine.Engine) Head {
	o := e.Options()
	h := Head{CPU: cpuName(), Tier: e.Tier(), Threads: o.Threads, Batch: o.Batch, KVType: o.KVType,
		Model: e.File().Name(), Weights: e.WeightBytes()}
	if d := e.Draft(); d != nil {
		h.Draft = d.File().Name()
	}
	return h
}

// lines is the head for a person.
func (h *Head) lines() []string {
	draft := ""
	if h.Draft != "" {
		draft = ", draft " + h.Draft
	}
	lines := []string{
		fmt.Sprintf("machine: %s, tier %s, %d threads", h.CPU, h.Tier, h.Threads),
		fmt.Sprintf("model: %s, %v of weights%s, %s cache", h.Model, engine.Bytes(h.Weights), draft, h.KVType),
	}
	if h.Bandwidth > 0 {
		lines[0] += fmt.Sprintf(", reads %.1f GB/s", h.Bandwidth/1e9)
	}
	if h.Text != "" {
		lines = append(lines, fmt.Sprintf("text: %s; accept %s, seed %d", h.Text, h.Accept, h.Seed))
	}
	return append(lines, "command: "+h.Command)
}

// Write prints the rows in one of the Formats. Objects and CSV columns are named
// as llama-bench names them where it has them.
func Write(w io.Writer, format string, h *Head, rows []Row) error {
	records := []*record{}
	for i := range rows {
		records = append(records, newRecord(h, &rows[i]))
	}
	switch format {
	case "md":
		if err := writeMarkdown(w, h.lines(), rowsTable(rows)); err != nil {
			return err
		}
		return writeCrossovers(w, rows)
	case "csv":
		return recordsTable(records).writeCSV(w)
	}
	return writeObjects(w, format, records)
}

// record is a row as an object that stands alone.
type record struct {
	CPU      string    `json:"cpu_info"`
	Tier     string    `json:"tier"`
	Threads  int       `json:"n_threads"`
	Batch    int       `json:"n_batch"`
	TypeK    string    `json:"type_k"`
	TypeV    string    `json:"type_v"`
	Model    string    `json:"model_filename"`
	Size     int64     `json:"model_size"`
	Draft    string    `json:"draft"`
	Seed     uint64    `json:"seed"`
	Accept   string    `json:"accept"`
	Text     string    `json:"text"`
	Command  string    `json:"command"`
	Test     string    `json:"test"`
	Mode     string    `json:"mode"`
	Temp     float64   `json:"temp"`
	Prompt   int       `json:"n_prompt"`
	Gen      int       `json:"n_gen"`
	Depth    int       `json:"n_depth"`
	AvgNS    int64     `json:"avg_ns"`
	StddevNS int64     `json:"stddev_ns"`
	AvgTS    float64   `json:"avg_ts"`
	StddevTS float64   `json:"stddev_ts"`
	MedianTS float64   `json:"median_ts"`
	MinTS    float64   `json:"min_ts"`
	MaxTS    float64   `json:"max_ts"`
	Ratio    float64   `json:"ratio"` // the median of the pairs; 0 = none
	RatioMin float64   `json:"ratio_min"`
	RatioMax float64   `json:"ratio_max"`
	OfLimit  float64   `json:"of_bandwidth_limit"`
	KVBytes  int64     `json:"kv_bytes"`
	Levels   []Level   `json:"levels"`
	NS       []int64   `json:"samples_ns"`
	TS       []float64 `json:"samples_ts"`
	PlainNS  []int64   `json:"plain_samples_ns"`
}

func newRecord(h *Head, row *Row) *record {
	speed, ratio := row.Speed(), row.Ratio()
	r := &record{
		CPU: h.CPU, Tier: h.Tier, Threads: h.Threads, Batch: h.Batch, TypeK: h.KVType, TypeV: h.KVType,
		Model: h.Model, Size: h.Weights, Draft: h.Draft, Seed: h.Seed, Accept: h.Accept, Text: h.Text, Command: h.Command,
		Test: row.Test(), Mode: row.Mode, Temp: row.Temp, Depth: row.Depth,
		MedianTS: speed.Median, MinTS: speed.Min, MaxTS: speed.Max,
		Ratio: ratio.Median, RatioMin: ratio.Min, RatioMax: ratio.Max,
		OfLimit: row.OfLimit(), KVBytes: row.KVBytes,
		Levels: append([]Level{}, row.Levels...), NS: nanoseconds(row.Seconds), TS: []float64{}, PlainNS: nanoseconds(row.Plain),
	}
	if row.Mode == Prefill {
		r.Prompt = row.Tokens
	} else {
		r.Gen = row.Tokens
	}
	for _, s := range row.Seconds {
		r.TS = append(r.TS, float64(row.Tokens)/s)
	}
	mean, deviation := moments(row.Seconds)
	r.AvgNS, r.StddevNS = int64(1e9*mean), int64(1e9*deviation)
	r.AvgTS, r.StddevTS = moments(r.TS)
	return r
}

func nanoseconds(seconds []float64) []int64 {
	ns := []int64{}
	for _, s := range seconds {
		ns = append(ns, int64(1e9*s))
	}
	return ns
}

// moments is the mean and the standard deviation of a sample.
func moments(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean)
	}
	if len(x) > 1 {
		deviation = math.Sqrt(deviation / float64(len(x)-1))
	}
	return mean, deviation
}

// table is text in columns.
type table struct {
	head []string
	rows [][]string
}

func rowsTable(rows []Row) *table {
	t := &table{head: []string{"test", "mode", "temp", "tokens/s (min–max)", "× plain (min–max)", "accepted (of judged)", "tokens a round", "ms a pass", "of bandwidth", "cache"}}
	for i := range rows {
		r := &rows[i]
		speed, ratio := r.Speed(), r.Ratio()
		cells := []string{r.Test(), r.Mode, fmt.Sprint(r.Temp), figures(speed.Median), "", "", "", "", "", engine.Bytes(r.KVBytes).String()}
		if len(r.Seconds) > 1 {
			cells[3] += fmt.Sprintf(" (%s–%s)", figures(speed.Min), figures(speed.Max))
		}
		switch {
		case r.Mode == Prefill:
			cells[2] = ""
		case r.Mode == engine.SpecPlain:
			cells[4] = "1"
		default:
			cells[4] = fmt.Sprintf("%.2f (%.2f–%.2f)", ratio.Median, ratio.Min, ratio.Max)
		}
		var accepted, length, pass []string
		for j := range r.Levels {
			l := &r.Levels[j]
			if l.Proposed > 0 {
				accepted = append(accepted, fmt.Sprintf("%s %.0f%% (%.0f%%)", l.Name, 100*l.OfProposed(), 100*l.OfJudged()))
				length = append(length, fmt.Sprintf("%s %.2f", l.Name, l.MeanLength))
			}
			pass = append(pass, fmt.Sprintf("%s %s", l.Name, figures(l.MSPerPass)))
		}
		cells[5], cells[6], cells[7] = strings.Join(accepted, ", "), strings.Join(length, ", "), strings.Join(pass, ", ")
		if r.LimitSeconds > 0 {
			cells[8] = fmt.Sprintf("%.0f%%", 100*r.OfLimit())
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// crossover is the least depth from which on a mode was faster than plain
// decoding in all rows of that temperature, and whether there is one.
func crossover(rows []Row, mode string, temp float64) (depth int, ok bool) {
	for i := range rows {
		if r := &rows[i]; r.Mode == mode && r.Temp == temp {
			switch faster := r.Ratio().Median > 1; {
			case !faster:
				ok = false
			case !ok:
				depth, ok = r.Depth, true
			}
		}
	}
	return depth, ok
}

// writeCrossovers says from which depth on each mode pays, if there are several
// depths to tell that from.
func writeCrossovers(w io.Writer, rows []Row) error {
	var b strings.Builder
	seen := map[[2]string]int{}
	for i := range rows {
		r := &rows[i]
		key := [2]string{r.Mode, fmt.Sprint(r.Temp)}
		if seen[key]++; seen[key] != 2 || r.Mode == Prefill || r.Mode == engine.SpecPlain {
			continue
		}
		where := "slower at the greatest depth"
		if depth, ok := crossover(rows, r.Mode, r.Temp); ok {
			where = fmt.Sprintf("faster from depth %d on", depth)
		}
		fmt.Fprintf(&b, "- %s at temperature %v: %s\n", r.Mode, r.Temp, where)
	}
	if b.Len() == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nCompared with plain decoding:\n%s", b.String())
	return err
}

// figures writes a number with three digits or all before the point.
func figures(x float64) string {
	digits := 0
	for limit := 99.95; digits < 3 && x < limit; limit /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// recordsTable is the scalars of the records, and what each level did.
func recordsTable(records []*record) *table {
	t := &table{head: []string{"cpu_info", "tier", "n_threads", "n_batch", "type_k", "type_v", "model_filename", "model_size", "draft",
		"seed", "accept", "test", "mode", "temp", "n_prompt", "n_gen", "n_depth", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts",
		"median_ts", "min_ts", "max_ts", "ratio", "ratio_min", "ratio_max", "of_bandwidth_limit", "kv_bytes"}}
	for _, name := range csvLevels {
		t.head = append(t.head, name+"_proposed", name+"_accepted", name+"_rejected", name+"_mean_length", name+"_ms_per_pass")
	}
	for _, r := range records {
		cells := texts(r.CPU, r.Tier, r.Threads, r.Batch, r.TypeK, r.TypeV, r.Model, r.Size, r.Draft,
			r.Seed, r.Accept, r.Test, r.Mode, r.Temp, r.Prompt, r.Gen, r.Depth, r.AvgNS, r.StddevNS, r.AvgTS, r.StddevTS,
			r.MedianTS, r.MinTS, r.MaxTS, r.Ratio, r.RatioMin, r.RatioMax, r.OfLimit, r.KVBytes)
		for _, name := range csvLevels {
			of := texts("", "", "", "", "")
			for _, l := range r.Levels {
				if l.Name == name {
					of = texts(l.Proposed, l.Accepted, l.Rejected, l.MeanLength, l.MSPerPass)
				}
			}
			cells = append(cells, of...)
		}
		t.rows = append(t.rows, cells)
	}
	return t
}

// csvLevels names the levels that may take part.
var csvLevels = []string{"target", "retrieved", "stream", "draft"}

func texts(values ...any) []string {
	var s []string
	for _, v := range values {
		s = append(s, fmt.Sprint(v))
	}
	return s
}

// writeMarkdown prints the lines as a list and the table, whose source is aligned as well.
func writeMarkdown(w io.Writer, lines []string, t *table) error {
	for _, line := range lines {
		if _, err := fmt.Fprintf(w, "- %s\n", line); err != nil {
			return err
		}
	}
	widths := make([]int, len(t.head))
	rule := make([]string, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for i, n := range widths {
		rule[i] = strings.Repeat("-", n)
	}
	var b strings.Builder
	b.WriteString("\n")
	for _, row := range append([][]string{t.head, rule}, t.rows...) {
		for j, cell := range row {
			pad := strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell))
			b.WriteString("| " + cell + pad + " ")
		}
		b.WriteString("|\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *table) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	if err := c.Write(t.head); err != nil {
		return err
	}
	return c.WriteAll(t.rows)
}

// writeObjects prints a JSON array, or for "jsonl" an object a line.
func writeObjects[T any](w io.Writer, format string, objects []T) error {
	if format == "json" {
		return writeObject(w, objects)
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, o := range objects {
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// writeObject prints one value over many lines.
func writeObject(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
