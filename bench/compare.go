package bench

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/jszwec/csvutil"

	"triforce/engine"
)

// ErrRows marks a file of results that cannot be read.
var ErrRows = errors.New("not a file of benchmark rows")

// ReadRows reads rows that Write has written as "json" or "jsonl". A last line
// that was cut off is left out. Errors wrap ErrRows.
func ReadRows(name string, data []byte) ([]Row, error) {
	rows, err := objects[Row](name, data)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		r := &rows[i]
		if r.Test == "" || r.Mode == "" || r.Tokens() <= 0 || r.Depth < 0 || len(r.PlainNS) > len(r.NS) {
			return nil, fmt.Errorf("%s: row %d: %w: expected test, mode, n_depth and n_prompt or n_gen as `triforce bench -o jsonl` writes them", name, i, ErrRows)
		}
		r.Runs = max(r.Runs, len(r.NS)) // before rows had it, a sample was a run
	}
	return rows, nil
}

// objects decodes a JSON array, or objects one after another.
func objects[T any](name string, data []byte) ([]T, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	var all []T
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("[")) {
		if err := d.Decode(&all); err != nil {
			return nil, fmt.Errorf("%s: offset %d: %w: %w", name, d.InputOffset(), ErrRows, err)
		}
		return all, nil
	}
	for {
		var one T
		switch err := d.Decode(&one); {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) && len(all) > 0:
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: offset %d: %w: %w", name, d.InputOffset(), ErrRows, err)
		}
		all = append(all, one)
	}
}

// peer is a row of llama-bench, or, with its lower half, of llama-sweep-bench.
// The names are those of their JSON; their tables are translated to these.
type peer struct {
	CPU      string    `json:"cpu_info"`
	Model    string    `json:"model_filename"`
	Type     string    `json:"model_type"`
	Threads  int       `json:"n_threads"`
	TypeK    string    `json:"type_k"`
	TypeV    string    `json:"type_v"`
	Prompt   int       `json:"n_prompt"`
	Gen      int       `json:"n_gen"`
	Depth    int       `json:"n_depth"`
	Test     string    `json:"test"`
	AvgTS    float64   `json:"avg_ts"`
	StddevTS float64   `json:"stddev_ts"`
	Samples  []float64 `json:"samples_ts" csv:"-"`

	PP      int     `json:"pp"`
	TG      int     `json:"tg"`
	NKV     int     `json:"n_kv"`
	SpeedPP float64 `json:"speed_pp"`
	SpeedTG float64 `json:"speed_tg"`
}

// heads translates the heads of their tables.
var heads = map[string]string{
	"model": "model_type", "threads": "n_threads", "type_k": "type_k", "type_v": "type_v", "test": "test", "t/s": "avg_ts",
	"pp": "pp", "tg": "tg", "n_kv": "n_kv", "s_pp t/s": "speed_pp", "s_tg t/s": "speed_tg",
}

// ReadPeer reads what llama-bench or llama-sweep-bench printed: JSON, JSON
// lines, values separated by commas, or a table, with whatever they say around
// it. Errors wrap ErrRows.
func ReadPeer(name string, data []byte) ([]Row, error) {
	var peers []peer
	var err error
	text := string(data)
	switch first := strings.TrimSpace(text); {
	case strings.HasPrefix(first, "["):
		peers, err = objects[peer](name, data)
	case strings.HasPrefix(first, "build_commit"):
		peers, err = separated(name, text)
	case strings.Contains(text, "\n|") || strings.HasPrefix(first, "|"):
		peers, err = separated(name, tableText(text))
	default: // objects among other lines
		var lines []string
		for line := range strings.Lines(text) {
			if strings.HasPrefix(strings.TrimSpace(line), "{") {
				lines = append(lines, line)
			}
		}
		if len(lines) > 0 {
			peers, err = objects[peer](name, []byte(strings.Join(lines, "")))
		}
	}
	if err != nil {
		return nil, err
	}
	var rows []Row
	for i := range peers {
		rows = append(rows, peers[i].rows()...)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w: expected the output of llama-bench (-o md, csv, json or jsonl) or of llama-sweep-bench, found no row", name, ErrRows)
	}
	return rows, nil
}

// recordReader hides that a csv.Reader knows where fields are: it panics when
// asked for one that a short record was given to match the head.
type recordReader struct{ read func() ([]string, error) }

func (r recordReader) Read() ([]string, error) { return r.read() }

// separated decodes values separated by commas.
func separated(name, text string) ([]peer, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord, r.LazyQuotes = -1, true
	d, err := csvutil.NewDecoder(recordReader{r.Read})
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrRows, err)
	}
	d.Tag, d.AlignRecord = "json", true
	d.Map = func(field, _ string, v any) string {
		switch _, number := v.(float64); {
		case number:
			field, _, _ = strings.Cut(field, "±")
			return cmp.Or(strings.TrimSpace(field), "0")
		default:
			return strings.TrimSpace(field)
		}
	}
	var peers []peer
	for {
		var p peer
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return peers, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: row %d: %w: %w", name, len(peers), ErrRows, err)
		}
		peers = append(peers, p)
	}
}

// tableText turns the rows of a table between bars into values separated by
// commas, with a deviation after ± in a column of its own.
func tableText(text string) string {
	var b strings.Builder
	w := csv.NewWriter(&b)
	head := true
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.Trim(line, "|-: ") == "" {
			continue
		}
		var cells []string
		deviation := ""
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			cell = strings.TrimSpace(cell)
			if _, after, ok := strings.Cut(cell, "±"); ok {
				deviation = strings.TrimSpace(after)
			}
			if head {
				cell = heads[strings.ToLower(cell)]
			}
			cells = append(cells, cell)
		}
		if head {
			deviation, head = "stddev_ts", false
		}
		_ = w.Write(append(cells, deviation)) // to memory
	}
	w.Flush()
	return b.String()
}

// testName is a test as llama-bench writes it, in old and new versions.
var testName = regexp.MustCompile(`^(pp|tg) ?([0-9]{1,9})(?: ?@ ?(?:d|pp)([0-9]{1,9}))?$`)

// rows are ours for a peer's.
func (p *peer) rows() []Row {
	row := func(program string, prompt, gen, depth int, ts, deviation float64) []Row {
		if !(ts > 0) || math.IsInf(ts, 0) || prompt+gen <= 0 || depth < 0 {
			return nil
		}
		r := Row{Setting: Setting{CPU: p.CPU, Threads: p.Threads, TypeK: p.TypeK, TypeV: p.TypeV, Model: cmp.Or(p.Model, p.Type),
			Prompt: prompt, Gen: gen, Depth: depth, Mode: program},
			AvgTS: ts, StddevTS: deviation, MedianTS: ts, MinTS: ts, MaxTS: ts, TS: Speeds{}, NS: Samples{}, PlainNS: Samples{}, Levels: Levels{}}
		if len(p.Samples) > 0 {
			r.TS = p.Samples
			r.MedianTS, r.MinTS, r.MaxTS = spread(p.Samples)
		}
		r.Test = r.name()
		return []Row{r}
	}
	if p.PP+p.TG > 0 {
		const program = "llama-sweep-bench"
		return append(row(program, p.PP, 0, p.NKV, p.SpeedPP, 0), row(program, 0, p.TG, p.NKV, p.SpeedTG, 0)...)
	}
	const program = "llama-bench"
	if m := testName.FindStringSubmatch(p.Test); m != nil {
		n, _ := strconv.Atoi(m[2])
		depth, _ := strconv.Atoi(cmp.Or(m[3], strconv.Itoa(p.Depth)))
		if m[1] == "pp" {
			return row(program, n, 0, depth, p.AvgTS, p.StddevTS)
		}
		return row(program, 0, n, depth, p.AvgTS, p.StddevTS)
	}
	if p.Prompt > 0 && p.Gen > 0 {
		return nil // both together: we have no such row
	}
	return row(program, p.Prompt, p.Gen, p.Depth, p.AvgTS, p.StddevTS)
}

// nearEnough is how far apart two depths may be that are compared.
const nearEnough = 0.1

// Beside puts peers' rows after ours, with their speed as a ratio to that of
// our plain decoding, or of our reading, where one is at nearly the same depth.
// Of peers' rows without a partner only the plots make use.
func Beside(rows, peers []Row) []Row {
	all := append([]Row{}, rows...)
	for _, p := range peers {
		distance := math.Inf(1)
		for i := range rows {
			r := &rows[i]
			if r.MedianTS == 0 || (p.Gen > 0) != (r.Gen > 0) || p.Gen > 0 && r.Mode != engine.SpecPlain {
				continue
			}
			at, of := float64(r.Depth), float64(p.Depth)
			if p.Prompt > 0 { // reading takes place between depths
				at, of = at+float64(r.Prompt)/2, of+float64(p.Prompt)/2
			}
			if d := math.Abs(at - of); d < distance && d <= nearEnough*max(at, of) {
				distance, p.Ratio = d, p.MedianTS/r.MedianTS
			}
		}
		p.RatioMin, p.RatioMax = p.Ratio, p.Ratio
		all = append(all, p)
	}
	return all
}
