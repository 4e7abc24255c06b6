package bench

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
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

func sampleHead() *Head {
	return &Head{CPU: "A, B & C", Tier: "portable", Threads: 2, Batch: 256, KVType: "q8_0", Model: "m.gguf", Draft: "d.gguf",
		Weights: 5 << 20, Seed: 7, Accept: "coupled", Text: "book.txt, from its beginning", Bandwidth: 20e9, Command: "triforce bench --seed=7"}
}

func sampleRows() []Row {
	return []Row{
		{Mode: Prefill, Depth: 2048, Tokens: 6144, Seconds: []float64{2}, KVBytes: 26 << 20},
		{Mode: engine.SpecPlain, Depth: 8192, Tokens: 128, Temp: 0.6, Seconds: []float64{0.25, 0.5}, KVBytes: 26 << 20, LimitSeconds: 0.001,
			Levels: []Level{{Name: "target", Passes: 256, MSPerPass: 2.929, MeanLength: 1}}},
		{Mode: engine.SpecTriForce, Depth: 8192, Tokens: 128, Temp: 0.6, Seconds: []float64{0.125, 0.125}, Plain: []float64{0.25, 0.5}, KVBytes: 30 << 20,
			Levels: []Level{
				{Name: "target", Passes: 40, MSPerPass: 4.25, Rounds: 38, Proposed: 300, Accepted: 210, Rejected: 14, MeanLength: 6.5},
				{Name: "retrieved", Passes: 150, MSPerPass: 0.5, Rounds: 120, Proposed: 360, Accepted: 180, Rejected: 90, MeanLength: 2.5},
				{Name: "draft", Passes: 400, MSPerPass: 0.0625, MeanLength: 1},
			}},
	}
}

func TestWrite(t *testing.T) {
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := Write(&b, format, sampleHead(), sampleRows()); err != nil {
			t.Fatal(err)
		}
		golden(t, "rows."+format, b.Bytes())
		switch format {
		case "csv":
			lines, err := csv.NewReader(&b).ReadAll()
			if err != nil || len(lines) != 4 {
				t.Errorf("%d lines, %v", len(lines), err)
			}
		case "json":
			var records []map[string]any
			if err := json.Unmarshal(b.Bytes(), &records); err != nil || len(records) != 3 {
				t.Errorf("%d records, %v", len(records), err)
			}
		}
	}
	// A run that ended before its first row still writes what can be read.
	var b bytes.Buffer
	if err := Write(&b, "json", sampleHead(), nil); err != nil || b.String() != "[]\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}

func TestCrossover(t *testing.T) {
	row := func(mode string, depth int, ratio float64) Row {
		return Row{Mode: mode, Depth: depth, Tokens: 1, Seconds: []float64{1}, Plain: []float64{ratio}}
	}
	rows := []Row{
		{Mode: Prefill, Tokens: 1, Seconds: []float64{1}}, {Mode: Prefill, Depth: 9, Tokens: 1, Seconds: []float64{1}},
		row("ngram", 0, 1.2), row("ngram", 2048, 0.9),
		row("auto", 0, 1.5), row("auto", 2048, 0.9), row("auto", 8192, 1.1), row("auto", 32768, 2),
		row("draft", 0, 0.5),
	}
	var b bytes.Buffer
	if err := writeCrossovers(&b, rows); err != nil {
		t.Fatal(err)
	}
	want := "\nCompared with plain decoding:\n- ngram at temperature 0: slower at the greatest depth\n- auto at temperature 0: faster from depth 8192 on\n"
	if b.String() != want {
		t.Errorf("%q, expected %q", b.String(), want)
	}
}

func TestWriteRoofline(t *testing.T) {
	machine := engine.Roofline{ReadOne: 12e9, Read: 20e9, Products: 60e9, Attention: 50e9}
	passes := []Pass{
		{Depth: 0, Rows: 1, WeightBytes: 6 << 20, KVBytes: 3 << 10, ProductMACs: 6e6, AttentionMACs: 3000, LimitMS: 0.3, Bound: "reading", MS: 0.4, SamplesMS: []float64{0.4}, Reached: 0.75},
		{Depth: 8192, Rows: 32, WeightBytes: 6 << 20, KVBytes: 26 << 20, ProductMACs: 192e6, AttentionMACs: 800e6, LimitMS: 19.2, Bound: "multiplying", MS: 24, SamplesMS: []float64{23, 24, 25}, Reached: 0.8},
	}
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := WriteRoofline(&b, format, sampleHead(), machine, passes); err != nil {
			t.Fatal(err)
		}
		golden(t, "roofline."+format, b.Bytes())
	}
}

func TestRoofline(t *testing.T) {
	e := pair(t)
	machine := engine.Roofline{ReadOne: 1e9, Read: 1e9, Products: 1e9, Attention: 1e9}
	var got [][2]int
	err := Roofline(context.Background(), e, machine, RooflineOptions{Depths: []int{0, 70}, Rows: []int{1, 3}, Reps: 2}, func(p Pass) {
		got = append(got, [2]int{p.Depth, p.Rows})
		if p.MS <= 0 || p.LimitMS <= 0 || len(p.SamplesMS) != 2 || p.Bound == "" {
			t.Errorf("%+v", p)
		}
	})
	if err != nil || !slices.Equal(got, [][2]int{{0, 1}, {0, 3}, {70, 1}, {70, 3}}) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestFigures(t *testing.T) {
	for x, want := range map[float64]string{0: "0.000", 0.0625: "0.062", 0.9994: "0.999", 1.234: "1.23", 12.34: "12.3", 99.96: "100", 1234.5: "1234"} {
		if got := figures(x); got != want {
			t.Errorf("%v: %s, expected %s", x, got, want)
		}
	}
}
