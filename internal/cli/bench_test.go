package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
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
			o.Bench.Depths, o.Modes, o.Temps, o.DepthsGiven = []int{0, 2048, 5000}, []string{"plain", "auto"}, []float64{0.5}, true
			o.Bench.Sweeps = []bench.Sweep{{Modes: o.Modes, Temps: o.Temps}}
			o.Bench.Predict, o.Bench.Reps, o.Output, o.File, o.Bench.Sample.Seed = 7, 2, "csv", "a.txt", 3
			o.Command = "triforce bench --depths=0,2k,5000 --modes=plain,auto --temps=0.5 --predict=7 --reps=2 --output=csv --file=a.txt --seed=3"
		}},
		{args: "--modes triforce --budget 256,1k --chunk 32 --retrieval mean --tree --kv-type f16,f32 -t 3 -c 99", want: func(o *benchOptions) {
			o.Modes = []string{"triforce"}
			o.Bench.Sweeps = []bench.Sweep{{Modes: o.Modes, Temps: []float64{0}, Axes: []bench.Axis{{Name: "budget", Values: []int{256, 1024}}, {Name: "chunk", Values: []int{32}}}}}
			*o.Axes["budget"], *o.Axes["chunk"] = []int{256, 1024}, []int{32}
			o.Bench.Spec.Retrieval, o.Bench.Spec.Tree = "mean", true
			o.KVTypes, o.Threads, o.Model.Context = []string{"f16", "f32"}, []int{3}, 99
			o.Model.KVType, o.Model.Threads = "f32", 3
			o.Command = "triforce bench --modes=triforce --budget=256,1k --chunk=32 --retrieval=mean --tree --kv-type=f16,f32 --threads=3 --ctx-size=99"
		}},
		{args: "--preset paper --reps 1 --budget 512 --resume a.jsonl --compare b.md --save d", want: func(o *benchOptions) {
			p, _ := bench.Preset("paper")
			o.Preset, o.Bench.Predict, o.Bench.Reps, o.Bench.Sweeps = "paper", p.Predict, 1, p.Sweeps
			for i := range o.Bench.Sweeps {
				o.Bench.Sweeps[i].Axes = []bench.Axis{{Name: "budget", Values: []int{512}}}
			}
			*o.Axes["budget"] = []int{512}
			o.Resume, o.Compare, o.Save = "a.jsonl", "b.md", "d"
			o.Command = "triforce bench --preset=paper --reps=1 --budget=512 --resume=a.jsonl --compare=b.md --save=d"
		}},
		{args: "-m it's.gguf --item 2 -f a --workload needle", want: func(o *benchOptions) {
			o.Model.Path, o.Command = "it's.gguf", `triforce bench --model='it'\''s.gguf' --item=2 --file=a --workload=needle`
			o.Item, o.File, o.Workload = 2, "a", "needle"
			o.Bench.Sweeps = []bench.Sweep{{Modes: []string{"plain", "ngram", "retrieval", "auto"}, Temps: []float64{0}}} // no draft is known
		}},
		{args: "--roofline --rows 1,8 --depths 1K -r 4", want: func(o *benchOptions) {
			o.Roofline, o.Rows, o.Bench.Depths, o.Bench.Reps, o.DepthsGiven = true, []int{1, 8}, []int{1024}, 4, true
			o.Command = "triforce bench --roofline --rows=1,8 --depths=1k --reps=4"
		}},

		{args: "--plan -d none --acceptance 0.8,0.5 --budget 1k", want: func(o *benchOptions) {
			o.Draft, o.Plan.On, o.Plan.Acceptance = "none", true, []float64{0.8, 0.5}
			*o.Axes["budget"] = []int{1024}
			o.Bench.Sweeps[0].Axes = []bench.Axis{{Name: "budget", Values: []int{1024}}}
			o.Command = "triforce bench --plan --draft=none --acceptance=0.8,0.5 --budget=1k"
		}},

		{args: "--plan --modes plain", fails: "without --measure: --modes"},
		{args: "--plan --acceptance 1", fails: "--acceptance: expected two"},
		{args: "--plan --budget 512,1k", fails: "--budget: expected one"},
		{args: "--plan --measure --preset paper", fails: "no use for --preset"},
		{args: "--weight-type q4_0", fails: "--weight-type: no effect without --plan"},
		{args: "--depths 2k,1k", fails: "--depths 1024"},
		{args: "--depths deep", fails: `"deep": expected numbers of tokens`},
		{args: "--depths 999999999999k", fails: "expected numbers of tokens"},
		{args: "--depths -1", fails: "expected numbers of tokens"},
		{args: "--modes magic", fails: "--modes magic"},
		{args: "--temps -1", fails: "--temp -1"},
		{args: "-n 0", fails: "--predict 0"},
		{args: "-r 0", fails: "--reps 0"},
		{args: "--sample-time 2h", fails: "--sample-time 2h0m0s"},
		{args: "-o pdf", fails: "--output"},
		{args: "--roofline -o html", fails: "--output html"},
		{args: "--roofline -t 1,2", fails: "--threads"},
		{args: "-t 0", fails: "--threads 0"},
		{args: "--kv-type q8_0,q3", fails: "--kv-type"},
		{args: "--preset all", fails: "--preset all"},
		{args: "--workload magic -f a", fails: "--workload"},
		{args: "--workload needle", fails: "--file"},
		{args: "--workload code", fails: "folder"},
		{args: "--budget 256,1", fails: "--budget 1"},
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
		want := &benchOptions{Sys: w.System, Model: modelDefaults(w.System), Bench: o, Rows: bench.RooflineRows(), Item: -1, Output: "md", Command: "triforce bench", Axes: map[string]*[]int{}, Plan: planOptions{Acceptance: []float64{0.9, 0.6}}}
		want.Threads, want.KVTypes = []int{want.Model.Threads}, []string{want.Model.KVType}
		for _, name := range bench.AxisNames() {
			want.Axes[name] = &[]int{}
		}
		called := false
		root := newRoot(w.System)
		for _, cmd := range root.Commands() {
			if cmd.Name() == "bench" {
				root.RemoveCommand(cmd)
			}
		}
		root.AddCommand(newBench(w.System, func(_ context.Context, got *benchOptions) error {
			called = true
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
	base := []string{"bench", "-t", "1", "-n", "4", "-r", "1", "--sample-time", "0s", "--temps", "0"}
	with := func(args ...string) []string { return append(slices.Clone(base), args...) }
	for _, r := range []run{
		{name: "beyond the context", args: with("--depths", "64k"), code: exitUsage, err: []string{"--depths 65536", "context of 32768", "--rope-scaling"}},
		{name: "beyond the context given", args: with("--depths", "64", "-c", "50"), code: exitUsage, err: []string{"--depths 64: with what follows, 69 tokens exceed the context of 50", "--ctx-size"}},
		{name: "no room after the text", args: with("--depths", "0,60", "-c", "60", "--modes", "plain"), any: true, err: []string{"the context of 60 has room for a depth of 55, not 60"}},
		{name: "no room at all", args: with("--depths", "58,60", "-c", "60"), code: exitUsage, err: []string{"--depths 60"}},
		{name: "a text too short", args: with("--depths", "8k", "-f", file), code: exitUsage, err: []string{"too few tokens for --depths 8192", "expected 8193"}},
		{name: "no such file", args: with("--depths", "0", "-f", file+".no"), code: exitFailed, err: []string{"text.txt.no"}},
		{name: "no such rows", args: with("--depths", "0", "--resume", file+".no"), code: exitFailed, err: []string{"text.txt.no"}},
		{name: "no rows", args: with("--depths", "0", "--resume", file), code: exitFile, err: []string{"offset 0"}},
		{name: "no peer", args: with("--depths", "0", "--compare", file), code: exitFile, err: []string{"llama-sweep-bench"}},
		{name: "no data set", args: with("--depths", "0", "-f", write(t, "set.jsonl", `{"a":1}`)), code: exitFile, err: []string{"item 0", "LongBench"}},
		{name: "no such item", args: with("--depths", "0", "--item", "1", "-f", write(t, "pg.jsonl", `{"text":"Long."}`)), code: exitUsage, err: []string{"--item 1", "has 1 items"}},
		{name: "an empty model", args: with("-m", write(t, "empty.gguf", ""), "--depths", "0"), code: exitFile},
	} {
		r.test(t)
	}

	type row struct {
		Test, Mode, Sent string
		Depth            int       `json:"n_depth"`
		Threads          int       `json:"n_threads"`
		NS               []float64 `json:"samples_ns"`
		Ratio            float64
	}
	read := func(data []byte) (rows []row, names []string) {
		if err := json.Unmarshal(data, &rows); err != nil {
			t.Fatal(err)
		}
		for _, r := range rows {
			names = append(names, r.Test+" "+r.Mode)
			if (r.Ratio > 0) != (r.Mode != bench.Prefill) {
				t.Errorf("%+v", r)
			}
		}
		return rows, names
	}
	args := with("--depths", "0,32,8k", "--modes", "plain,triforce", "-f", file, "-o", "json")
	w := (&run{name: "json", args: args, any: true, err: []string{"depths beyond 32 are left out", "expected 8193"}}).test(t)
	first, names := read(w.out.Bytes())
	want := []string{"tg4 plain", "tg4 triforce", "pp32 prefill", "tg4 @ d32 plain", "tg4 @ d32 triforce"}
	if !slices.Equal(names, want) {
		t.Errorf("rows %q, expected %q", names, want)
	}

	// Resumed with one more thread count, only that is measured; all forms are
	// saved.
	folder := t.TempDir()
	args = append(args, "-t", "1,2", "--resume", write(t, "rows.json", w.out.String()), "--save", folder, "--compare", write(t, "peer.md", "| test | t/s |\n| - | - |\n| tg4 | 5 |\n"))
	again, names := read((&run{name: "resumed", args: args, any: true}).test(t).out.Bytes())
	if want := append(append(want, want...), "tg4 llama-bench"); !slices.Equal(names, want) {
		t.Fatalf("rows %q, expected %q", names, want)
	}
	for i, r := range again[:10] {
		if r.Threads != i/5+1 || i < 5 && !slices.Equal(r.NS, first[i].NS) {
			t.Errorf("resumed %+v", r)
		}
	}
	for _, name := range []string{"results.md", "results.html", "results.jsonl", "results.csv", "results.benchstat.txt", "speed-by-depth.svg", "speed-by-depth.png", "time-by-level.png"} {
		if info, err := os.Stat(filepath.Join(folder, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s was not saved: %v", name, err)
		}
	}

	w = (&run{name: "a table", args: with("--depths", "0", "--modes", "ngram"), any: true}).test(t)
	for _, part := range []string{"- model: fable (embedded)", "tales that the model wrote itself", "--modes=ngram", "| tg4  | ngram"} {
		if !strings.Contains(w.out.String(), part) {
			t.Errorf("no %q in\n%s", part, w.out.String())
		}
	}
	plan := []string{"bench", "--plan", "-t", "1", "-n", "4"}
	w = (&run{name: "a plan", args: append(plan, "--depths", "0,300"), any: true}).test(t)
	for _, part := range []string{"90% acceptance of the middle level and 60% of the draft", "| tg4 @ d300 | triforce", "predicted"} {
		if !strings.Contains(w.out.String(), part) {
			t.Errorf("no %q in\n%s", part, w.out.String())
		}
	}
	w = (&run{name: "a plan and what is measured", args: append(plan, "--measure", "--depths", "64", "-r", "1", "--sample-time", "0s", "--modes", "plain"), any: true}).test(t)
	if !strings.Contains(w.out.String(), "predictions are off") {
		t.Errorf("%s", w.out.String())
	}
	(&run{name: "a plan with memory for all", args: append(plan, "--depths", "64", "--kv-ram", "auto"), any: true, err: []string{"all 816 KiB of keys and values fit into memory"}}).test(t)
	(&run{name: "a plan beyond the context", args: append(plan, "--depths", "64k"), code: exitUsage, err: []string{"--depths 65536", "--ctx-size"}}).test(t)
	w = (&run{name: "limits", args: []string{"bench", "--roofline", "-t", "1", "--depths", "64", "--rows", "1,2", "-r", "1", "-o", "csv"}, any: true}).test(t)
	if lines := strings.Split(strings.TrimSpace(w.out.String()), "\n"); len(lines) != 3 || !strings.HasPrefix(lines[2], "64,2,") {
		t.Errorf("limits\n%s", w.out.String())
	}
	after := func(depth string) []string {
		return []string{"bench", "--roofline", "-t", "1", "--depths", depth, "--rows", "1,2", "-r", "1", "-o", "csv", "-f", file}
	}
	w = (&run{name: "limits after a text", args: after("0,32"), any: true}).test(t)
	if lines := strings.Split(strings.TrimSpace(w.out.String()), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[4], "32,2,") {
		t.Errorf("limits after a text\n%s", w.out.String())
	}
	(&run{name: "limits beyond a text", args: after("8k"), code: exitUsage, err: []string{"too few tokens for --depths 8192", "expected 8193"}}).test(t)
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
