package cli

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"triforce/bench"
)

func TestBenchFlags(t *testing.T) {
	for _, c := range []struct {
		args  string
		want  func(*benchOptions)
		fails string
	}{
		{args: "", want: func(o *benchOptions) {}},
		{args: "--depths 0,2k,5000 --modes plain,auto --temps 0.5 -n 7 -r 2 -o csv -f a.txt --seed 3", want: func(o *benchOptions) {
			o.Bench.Depths, o.Bench.Modes, o.Bench.Temps = []int{0, 2048, 5000}, []string{"plain", "auto"}, []float64{0.5}
			o.Bench.Predict, o.Bench.Reps, o.Output, o.File, o.Bench.Sample.Seed = 7, 2, "csv", "a.txt", 3
			o.Command = "triforce bench --depths=0,2k,5000 --modes=plain,auto --temps=0.5 --predict=7 --reps=2 --output=csv --file=a.txt --seed=3"
		}},
		{args: "--modes triforce --budget 256 --chunk 32 --retrieval mean --tree --kv-type f16 -t 3 -c 99", want: func(o *benchOptions) {
			o.Bench.Modes = []string{"triforce"}
			s := &o.Bench.Spec
			s.Budget, s.Chunk, s.Retrieval, s.Tree = 256, 32, "mean", true
			o.Model.KVType, o.Model.Threads, o.Model.Context = "f16", 3, 99
			o.Command = "triforce bench --modes=triforce --budget=256 --chunk=32 --retrieval=mean --tree --kv-type=f16 --threads=3 --ctx-size=99"
		}},
		{args: "-m it's.gguf", want: func(o *benchOptions) {
			o.Model.Path, o.Command = "it's.gguf", `triforce bench --model='it'\''s.gguf'`
			o.Bench.Modes = []string{"plain", "ngram", "stream", "retrieval", "auto"} // no draft is known
		}},
		{args: "--roofline --rows 1,8 --depths 1K -r 4", want: func(o *benchOptions) {
			o.Roofline, o.Rows, o.Bench.Depths, o.Bench.Reps = true, []int{1, 8}, []int{1024}, 4
			o.Command = "triforce bench --roofline --rows=1,8 --depths=1k --reps=4"
		}},

		{args: "--depths 2k,1k", fails: "--depths 1024"},
		{args: "--depths deep", fails: `"deep": expected numbers of tokens`},
		{args: "--depths 999999999999k", fails: "expected numbers of tokens"},
		{args: "--depths -1", fails: "expected numbers of tokens"},
		{args: "--modes magic", fails: "--modes magic"},
		{args: "--temps -1", fails: "--temp -1"},
		{args: "-n 0", fails: "--predict 0"},
		{args: "-r 0", fails: "--reps 0"},
		{args: "-o html", fails: "--output"},
		{args: "--spec plain", fails: "--modes"},
		{args: "--rows 4", fails: "--rows needs --roofline"},
		{args: "--roofline --modes plain --budget 256", fails: "no effect with --roofline: --modes, --budget"},
		{args: "--roofline --rows 0", fails: "--rows"},
		{args: "--modes plain,ngram --budget 256", fails: "no effect with --modes plain,ngram: --budget"},
		{args: "--modes plain -d a.gguf", fails: "--draft"},
		{args: "--modes triforce -d none", fails: "use some of auto, plain, ngram, stream, retrieval"},
		{args: "--modes draft -m a.gguf", fails: "--draft (-d)"},
		{args: "x", fails: "at most 0"},
	} {
		w := newWorld("", nil)
		o := bench.Defaults()
		want := &benchOptions{Sys: w.System, Model: modelDefaults(w.System), Bench: o, Rows: bench.RooflineRows(), Output: "md", Command: "triforce bench"}
		called := false
		root := newRoot(w.System)
		for _, cmd := range root.Commands() {
			if cmd.Name() == "bench" {
				root.RemoveCommand(cmd)
			}
		}
		root.AddCommand(newBench(w.System, func(_ context.Context, got *benchOptions) error {
			called = true
			want.DepthsGiven = strings.Contains(c.args, "--depths")
			if c.want != nil {
				c.want(want)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q:\ngot  %+v\nwant %+v", c.args, got, want)
			}
			return nil
		}))
		err := parse(root, append([]string{"bench"}, strings.Fields(c.args)...))
		if c.fails == "" && (err != nil || !called) {
			t.Errorf("%q: %v", c.args, err)
		}
		if c.fails != "" && (err == nil || called || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q: %v, expected a mistake of usage with %q", c.args, err, c.fails)
		}
	}
}

func TestBench(t *testing.T) {
	file := write(t, "text.txt", strings.Repeat(story+" ", 8))
	base := []string{"bench", "-t", "1", "-n", "4", "-r", "1", "--temps", "0"}
	with := func(args ...string) []string { return append(slices.Clone(base), args...) }
	for _, r := range []run{
		{name: "beyond the context", args: with("--depths", "64k"), code: exitUsage, err: []string{"--depths 65536", "context of 32768", "--rope-scaling"}},
		{name: "beyond the context given", args: with("--depths", "64", "-c", "50"), code: exitUsage, err: []string{"--depths 64: with what follows, 69 tokens exceed the context of 50", "--ctx-size"}},
		{name: "no room after the text", args: with("--depths", "0,60", "-c", "60", "--modes", "plain"), any: true, err: []string{"the context of 60 has room for a depth of 55, not 60"}},
		{name: "no room at all", args: with("--depths", "58,60", "-c", "60"), code: exitUsage, err: []string{"--depths 60"}},
		{name: "a text too short", args: with("--depths", "8k", "-f", file), code: exitUsage, err: []string{"too few for --depths 8192"}},
		{name: "no such file", args: with("--depths", "0", "-f", file+".no"), code: exitFailed, err: []string{"text.txt.no"}},
		{name: "an empty model", args: with("-m", write(t, "empty.gguf", ""), "--depths", "0"), code: exitFile},
	} {
		r.test(t)
	}

	var rows []struct {
		Test, Mode string
		Depth      int `json:"n_depth"`
		TS         []float64
		Ratio      float64
	}
	w := (&run{name: "json", args: with("--depths", "0,32,8k", "--modes", "plain,triforce", "-f", file, "-o", "json"), any: true,
		err: []string{"depths beyond are left out"}}).test(t)
	if err := json.Unmarshal(w.out.Bytes(), &rows); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, r.Test+" "+r.Mode)
		if (r.Ratio > 0) != (r.Mode != bench.Prefill) {
			t.Errorf("%+v", r)
		}
	}
	if want := []string{"tg4 @ d0 plain", "tg4 @ d0 triforce", "pp32 @ d0 prefill", "tg4 @ d32 plain", "tg4 @ d32 triforce"}; !slices.Equal(got, want) {
		t.Errorf("rows %q, expected %q", got, want)
	}

	w = (&run{name: "a table", args: with("--depths", "0", "--modes", "ngram"), any: true}).test(t)
	for _, part := range []string{"- model: fable (embedded)", "a story that the model wrote itself", "--modes=ngram", "| tg4 @ d0 | ngram"} {
		if !strings.Contains(w.out.String(), part) {
			t.Errorf("no %q in\n%s", part, w.out.String())
		}
	}
	w = (&run{name: "limits", args: []string{"bench", "--roofline", "-t", "1", "--depths", "64", "--rows", "1,2", "-r", "1", "-o", "csv"}, any: true}).test(t)
	if lines := strings.Split(strings.TrimSpace(w.out.String()), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], "64,2,") {
		t.Errorf("limits\n%s", w.out.String())
	}
}

// An interrupt is not a failure.
func TestBenchCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := newWorld("", nil)
	if code := Run(ctx, []string{"bench", "--depths", "0", "-t", "1"}, w.System); code != exitCancelled {
		t.Errorf("exit code %d: %s", code, w.err.String())
	}
}
