package cli

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"

	"triforce/engine"
)

func TestInspectFlags(t *testing.T) {
	w := newWorld("", nil)
	want := &inspectOptions{Sys: w.System, Model: modelDefaults(w.System), JSON: true}
	want.Model.Path, want.Model.Context, want.Model.Rope.Scale = "a.gguf", 5, 2
	if err := parse(newInspect(w.System, func(_ context.Context, got *inspectOptions) error {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v", got)
		}
		return nil
	}), []string{"-m", "a.gguf", "-c", "5", "--rope-scale", "2", "--json"}); err != nil {
		t.Error(err)
	}
	if err := parse(newInspect(w.System, nil), []string{"a.gguf"}); exitCode(err) != exitUsage {
		t.Errorf("an argument: %v", err)
	}
}

func TestInspect(t *testing.T) {
	for _, r := range []run{
		{name: "a bad context", args: []string{"inspect", "-c", "-3"}, code: exitUsage, err: []string{"--ctx-size"}},
		{name: "a bad file", args: []string{"inspect", "-m", write(t, "bad.gguf", "GGUF")}, code: exitFile, err: []string{"bad.gguf", "offset"}},
	} {
		r.test(t)
	}
	w := (&run{name: "tables", args: []string{"inspect", "-c", "1000"}, any: true}).test(t)
	for _, part := range []string{engine.Embedded, "llama.block_count", "blk.5.ffn_down.weight", "Q8_0", "4,096 strings", "context of 1,000 tokens", "q8_0", "f16", "f32"} {
		if !strings.Contains(w.out.String(), part) {
			t.Errorf("no %q in\n%s", part, w.out.String())
		}
	}
	var got inspectReport
	(&run{name: "json", args: []string{"inspect", "--json", "-c", "268435456"}, any: true}).test(t).decode(t, &got)
	if got.Vocabulary != 4096 || len(got.Tensors) != 56 || got.Parameters < 5e6 || got.Metadata["general.architecture"] != "llama" || len(got.Memory) != 3 {
		t.Errorf("%+v", got)
	}
	for _, m := range got.Memory {
		if m.TotalBytes != m.WeightsBytes+m.KVBytes+m.ScratchBytes || m.Fits != (m.AvailableBytes == 0 || m.TotalBytes <= m.AvailableBytes) {
			t.Errorf("%+v", m)
		}
	}
}

func TestBrief(t *testing.T) {
	for _, c := range []struct{ in, want any }{
		{int64(3), int64(3)},
		{"text", "text"},
		{math.Inf(1), "+Inf"},
		{[]string{"a"}, []string{"a"}},
		{make([]int64, 17), "17 integers"},
		{make([]float64, 1000), "1,000 numbers"},
		{[]float64{math.NaN()}, "[NaN]"},
	} {
		if got := brief(c.in); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v: %v, expected %v", c.in, got, c.want)
		}
	}
	if got := short("a\x1b[31m\n" + strings.Repeat("é", 100)); strings.ContainsAny(got, "\x1b\n") || len([]rune(got)) > 82 {
		t.Errorf("%q", got)
	}
}
