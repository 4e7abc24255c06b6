package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"triforce/engine"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file under testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nexpected\n%s", name, got, want)
	}
}

func sampleRows() []Row {
	at := func(mode string, prompt, gen, depth int) Setting {
		return Setting{CPU: "A, B & C", Tier: "portable", Threads: 2, Batch: 256, TypeK: "q8_0", TypeV: "q8_0", Model: "m.gguf", Draft: "d.gguf",
			Sent: "book.txt, its beginning", Mode: mode, Prompt: prompt, Gen: gen, Depth: depth, Seed: 7}
	}
	rows := []Row{
		{Setting: at(Prefill, 6144, 0, 2048), NS: Samples{2e9}, KVBytes: 26 << 20},
		{Setting: at(engine.SpecPlain, 0, 128, 8192), Runs: 2, NS: Samples{25e7, 5e8}, KVBytes: 26 << 20, LimitTS: 1000,
			Levels: Levels{{Name: "target", Passes: 256, Seconds: 0.75, MeanLength: 1}}},
		{Setting: at(engine.SpecTriForce, 0, 128, 8192), Runs: 2, NS: Samples{125e6, 125e6}, PlainNS: Samples{25e7, 5e8}, KVBytes: 30 << 20, LimitTS: 1000, PeakBytes: 99 << 20,
			Levels: Levels{
				{Name: "target", Passes: 40, Seconds: 0.17, Rounds: 38, Proposed: 300, Accepted: 210, Rejected: 14, MeanLength: 6.5},
				{Name: "retrieved", Passes: 150, Seconds: 0.04, Rounds: 120, Proposed: 360, Accepted: 180, Rejected: 90, MeanLength: 2.5},
				{Name: "draft", Passes: 400, Seconds: 0.02, MeanLength: 1},
			}},
	}
	for i := range rows {
		r := &rows[i]
		r.Test, r.Size, r.Command, r.Bandwidth = r.name(), 5<<20, "triforce bench --seed=7", 20e9
		r.finish()
	}
	rows[2].Budget, rows[2].Accept = 512, "coupled"
	return rows
}

func TestWrite(t *testing.T) {
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := Write(&b, format, sampleRows()); err != nil {
			t.Fatal(err)
		}
		if format != "html" { // whose pictures are the library's
			golden(t, "rows."+format, b.Bytes())
		}
		switch format {
		case "csv":
			lines, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(lines) != 4 {
				t.Errorf("%d lines, %v", len(lines), err)
			}
		case "json", "jsonl":
			rows, err := ReadRows("rows", b.Bytes())
			if err != nil || len(rows) != 3 || rows[1].Setting != sampleRows()[1].Setting || !reflect.DeepEqual(rows[1].NS, sampleRows()[1].NS) {
				t.Errorf("%+v, %v", rows, err)
			}
		}
		// A run that ended before its first row still writes what can be read.
		b.Reset()
		if err := Write(&b, format, nil); err != nil {
			t.Errorf("%s of nothing: %v", format, err)
		}
	}
}

// manyRows is a sweep over depths, budgets and temperatures.
func manyRows() []Row {
	var rows []Row
	for _, depth := range []int{0, 2048, 8192} {
		for _, temp := range []float64{0, 0.3, 0.6} {
			for _, budget := range []int{256, 512, 1024} {
				for i, r := range sampleRows()[1:] {
					r.Depth, r.Temp, r.Budget = depth, temp, budget*i
					r.Test = r.name()
					rows = append(rows, r)
				}
			}
		}
	}
	return rows
}

func TestFigures(t *testing.T) {
	var names []string
	for _, f := range Figures(manyRows()) {
		names = append(names, f.Name)
		for _, format := range []string{"svg", "png"} {
			data, err := f.Render(format)
			if err != nil {
				t.Fatal(err)
			}
			if format == "png" {
				if !bytes.HasPrefix(data, []byte("\x89PNG")) {
					t.Errorf("%s is no PNG", f.Name)
				}
				continue
			}
			parse(t, data)
		}
	}
	want := []string{"speed-by-depth", "ratio-by-depth", "acceptance-by-budget", "speed-by-budget", "acceptance-by-temperature", "time-by-level"}
	if !slices.Equal(names, want) {
		t.Errorf("%q, expected %q", names, want)
	}
	if f := Figures(nil); len(f) > 0 {
		t.Errorf("%d figures of nothing", len(f))
	}
}

// Other budgets at the greatest depth do not break lines over depths.
func TestLines(t *testing.T) {
	rows := manyRows()
	rows = slices.DeleteFunc(rows, func(r Row) bool { return r.Depth < 8192 && r.Budget > 256 })
	got, only := few(lines(rows, "depth", func(r *Row) (x, y float64) { return float64(r.Depth), speed(r) }, generated))
	for _, l := range got {
		if len(l.points) != 3 || l.temp != got[0].temp {
			t.Errorf("%s has %d points", l.name, len(l.points))
		}
	}
	if len(got) == 0 || only == "" {
		t.Errorf("%d lines, and %q of others", len(got), only)
	}
}

// A budget that grows with the text does not break them either.
func TestLinesWithBudgets(t *testing.T) {
	var spec engine.Spec
	var rows []Row
	for _, depth := range []int{2048, 8192, 31744} {
		rows = append(rows, Row{Setting: Setting{Mode: engine.SpecRetrieval, Gen: 64, Depth: depth, Budget: spec.BudgetAt(depth)}})
	}
	rows = append(rows, rows[2])
	rows[3].Budget *= 2
	got := lines(byDepth(rows), "depth", func(r *Row) (x, y float64) { return float64(r.Depth), 1 }, func(*Row) bool { return true })
	if rows[0].Budget == rows[2].Budget || len(got) != 1 || len(got[0].points) != 3 || got[0].name != engine.SpecRetrieval {
		t.Errorf("%+v", got)
	}
}

// parse reads XML to its end.
func parse(t *testing.T, data []byte) {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		if _, err := d.Token(); err == io.EOF {
			return
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// The page holds each figure twice and asks nobody for anything.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, "html", manyRows()); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	pictures := regexp.MustCompile(`(?:src|srcset)="data:image/svg[^,]*,([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(pictures) != 2*len(Figures(manyRows())) {
		t.Errorf("%d pictures", len(pictures))
	}
	for _, p := range pictures {
		svg, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(p[1], "&#43;", "+"))
		if err != nil {
			t.Fatal(err)
		}
		parse(t, svg)
	}
	if strings.Contains(page, "http") || !strings.Contains(page, "A, B &amp; C") || !strings.Contains(page, "triforce bench --seed=7") {
		t.Error("not self-contained, or without what was measured")
	}
}

func TestCrossovers(t *testing.T) {
	row := func(mode string, depth int, ratio float64) Row {
		return Row{Setting: Setting{Mode: mode, Depth: depth, Gen: 1}, Ratio: ratio}
	}
	rows := []Row{
		{Setting: Setting{Mode: Prefill}}, {Setting: Setting{Mode: Prefill, Depth: 9}},
		row("plain", 0, 1), row("plain", 2048, 1),
		row("ngram", 0, 1.2), row("ngram", 2048, 0.9), row("stream", 0, 0.9), row("stream", 2048, 0.8),
		row("auto", 0, 1.5), row("auto", 2048, 0.9), row("auto", 8192, 1.1), row("auto", 32768, 2),
		row("draft", 0, 0.5), row("llama-bench", 0, 2), row("llama-bench", 2048, 2),
	}
	want := []string{"auto: faster from depth 8192 on", "slower at the greatest depth: ngram; stream"}
	if got := crossovers(rows); !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
}

// Rows of several commands name all of them.
func TestHeadLines(t *testing.T) {
	rows := sampleRows()
	rows[2].Command = "triforce bench --resume=a"
	lines := headLines(rows)
	if got, want := lines[len(lines)-2:], []string{"command: triforce bench --seed=7", "command: triforce bench --resume=a"}; !slices.Equal(got, want) {
		t.Errorf("%q, expected %q", got, want)
	}
}

// Rows with wide spreads are named, as many as a line holds.
func TestDisturbed(t *testing.T) {
	row := func(mode string, ts ...float64) Row {
		r := Row{Setting: Setting{Mode: mode, Test: "tg1", Gen: 1}}
		for _, x := range ts {
			r.NS = append(r.NS, int64(1e9/x))
		}
		r.finish()
		return r
	}
	steady := []Row{row("plain", 100, 95, 110), row("ngram", 5), row("llama-bench", 1, 9)}
	if got := disturbed(steady); got != nil {
		t.Errorf("%q", got)
	}
	got := disturbed(append(steady, row("auto", 100, 60, 95)))
	if len(got) != 1 || !strings.Contains(got[0], "(of 2)") || !strings.HasSuffix(got[0], ": tg1 auto") {
		t.Errorf("%q", got)
	}
	var many []Row
	for range 7 {
		many = append(many, row("auto", 1, 2))
	}
	if got := disturbed(many); len(got) != 1 || !strings.HasSuffix(got[0], "; and 3 more") {
		t.Errorf("%q", got)
	}
}

func TestWriteRoofline(t *testing.T) {
	machine := engine.Roofline{ReadOne: 12e9, Read: 20e9, Products: 60e9, Attention: 50e9}
	passes := []Pass{
		{Depth: 0, Rows: 1, WeightBytes: 6 << 20, KVBytes: 3 << 10, ProductMACs: 6e6, AttentionMACs: 3000, ReadMS: 0.3, MultiplyMS: 0.1, LimitMS: 0.3, Bound: "reading", MS: 0.4, SamplesMS: Speeds{0.4}, ReadSamplesMS: Speeds{0.3}, Reached: 0.75},
		{Depth: 8192, Rows: 32, WeightBytes: 6 << 20, KVBytes: 26 << 20, ProductMACs: 192e6, AttentionMACs: 800e6, ReadMS: 1.7, MultiplyMS: 19.2, LimitMS: 19.2, Bound: "multiplying", MS: 24, SamplesMS: Speeds{23, 24, 25}, ReadSamplesMS: Speeds{1.6, 1.7, 1.9}, Reached: 0.8},
	}
	r := sampleRows()[0]
	for _, format := range RooflineFormats() {
		var b bytes.Buffer
		if err := WriteRoofline(&b, format, &Where{Setting: r.Setting, Size: r.Size, Command: r.Command}, machine, passes); err != nil {
			t.Fatal(err)
		}
		golden(t, "roofline."+format, b.Bytes())
	}
}

func TestRoofline(t *testing.T) {
	e := pair(t)
	machine := engine.Roofline{ReadOne: 1e9, Read: 1e9, Products: 1e9, Attention: 1e9, Loop: 1e9}
	var got [][2]int
	err := Roofline(context.Background(), e, machine, RooflineOptions{Depths: []int{0, 70}, Rows: []int{1, 3}, Reps: 2}, func(p Pass) {
		got = append(got, [2]int{p.Depth, p.Rows})
		if p.MS <= 0 || p.LimitMS != max(p.ReadMS, p.MultiplyMS) || p.ReadMS <= 0 || len(p.SamplesMS) != 2 || len(p.ReadSamplesMS) != 2 || p.Bound == "" {
			t.Errorf("%+v", p)
		}
	})
	if err != nil || !slices.Equal(got, [][2]int{{0, 1}, {0, 3}, {70, 1}, {70, 3}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{0: "0.000", 0.0625: "0.062", 0.9994: "0.999", 1.234: "1.23", 12.34: "12.3", 99.96: "100", 1234.5: "1234"} {
		if got := figures(x); got != want {
			t.Errorf("%v: %s, expected %s", x, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 512: "512", 1024: "1k", 32 << 10: "32k", 1 << 20: "1M", 32703: "31.9k", 1000: "1000"} {
		if got := short(n); got != want {
			t.Errorf("%d: %s, expected %s", n, got, want)
		}
	}
}

func TestReadRows(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, "jsonl", sampleRows()); err != nil {
		t.Fatal(err)
	}
	cut := b.Bytes()[:b.Len()-9]
	if rows, err := ReadRows("f", cut); err != nil || len(rows) != 2 {
		t.Errorf("%d rows of a file that was cut off, %v", len(rows), err)
	}
	for data, want := range map[string]string{"{": "f: offset 0", "[1]": "f: offset", `{"test":"x"}`: "f: row 0", "text": "f: offset 0"} {
		if _, err := ReadRows("f", []byte(data)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", data, err, want)
		}
	}
}

func FuzzReadRows(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, "jsonl", sampleRows()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`[{"test":"tg1","mode":"plain","n_gen":1,"samples_ns":[0]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := ReadRows("f", data)
		if err != nil {
			return
		}
		for i := range rows {
			rows[i].finish()
		}
		if err := Write(io.Discard, "md", rows); err != nil {
			t.Error(err)
		}
		if _, err := json.Marshal(rows); err != nil {
			t.Error(err)
		}
	})
}
