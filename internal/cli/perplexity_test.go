package cli

import (
	"context"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestPerplexityFlags(t *testing.T) {
	for _, c := range []struct {
		args  string
		want  func(*perplexityOptions)
		fails string
	}{
		{args: "-f a.txt", want: func(o *perplexityOptions) { o.File = "a.txt" }},
		{args: "--ids a.json --json --kv-type f32 -m b.gguf -c 9 -t 2", want: func(o *perplexityOptions) {
			o.IDs, o.JSON, o.Model.KVType, o.Model.Path, o.Model.Context, o.Model.Threads = "a.json", true, "f32", "b.gguf", 9, 2
		}},
		{args: "", fails: "--file or --ids"},
		{args: "-f a --ids b", fails: "--file or --ids"},
		{args: "text", fails: "at most 0"},
	} {
		w := newWorld("", nil)
		want := &perplexityOptions{Sys: w.System, Model: modelDefaults(w.System)}
		err := parse(newPerplexity(w.System, func(_ context.Context, got *perplexityOptions) error {
			c.want(want)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %+v", c.args, got)
			}
			return nil
		}), strings.Fields(c.args))
		if c.fails == "" && err != nil || c.fails != "" && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestPerplexity(t *testing.T) {
	base := []string{"perplexity", "-t", "1"}
	with := func(args ...string) []string { return append(append([]string{}, base...), args...) }
	for _, r := range []run{
		{name: "text", args: with("-f", "-"), in: story, any: true},
		{name: "one token", args: with("-f", "-"), in: "", code: exitUsage, err: []string{"1 tokens"}},
		{name: "beyond the context", args: with("-c", "4", "-f", "-"), in: story, code: exitMemory, err: []string{"18 tokens", "4", "--ctx-size"}},
		{name: "no ids", args: with("--ids", "-"), in: `{"ids":[1]}`, code: exitUsage, err: []string{"JSON array"}},
		{name: "an id too large", args: with("--ids", "-"), in: `[1,4096,5]`, code: exitUsage, err: []string{"4096"}},
		{name: "a negative id", args: with("--ids", "-"), in: `[1,-1,5]`, code: exitUsage, err: []string{"-1"}},
		{name: "a last id too large", args: with("--ids", "-"), in: `[1,5,4096]`, code: exitUsage, err: []string{"4096"}},
	} {
		r.test(t)
	}
	// A text and its ids are the same, and the figures agree.
	var text, ids perplexityReport
	(&run{name: "text", args: with("--json", "-f", "-"), in: "Once upon a time", any: true}).test(t).decode(t, &text)
	(&run{name: "ids", args: with("--json", "--ids", "-"), in: "[1, 1153, 329, 551, 261, 591]", any: true}).test(t).decode(t, &ids)
	if text.Tokens != 6 || math.Abs(math.Log(text.Perplexity)-text.MeanNLL) > 1e-9 || text.MeanNLL <= 0 {
		t.Errorf("%+v", text)
	}
	if ids != text {
		t.Errorf("%+v, from text %+v", ids, text)
	}
}
