package cli

import (
	"context"
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"triforce/demo"
	"triforce/engine"
)

func TestGenerateFlags(t *testing.T) {
	for _, c := range []struct {
		args  string
		env   map[string]string
		want  func(*generateOptions)
		fails string
	}{
		{args: "", want: func(o *generateOptions) {}},
		{args: "hello", want: func(o *generateOptions) { o.Text, o.HasText = "hello", true }},
		{args: "-m a.gguf -d b.gguf -f c.txt -n 5 -c 6 -t 7 -b 8", want: func(o *generateOptions) {
			o.Model.Path, o.Draft, o.File = "a.gguf", "b.gguf", "c.txt"
			o.Gen.Predict, o.Model.Context, o.Model.Threads, o.Model.Batch = 5, 6, 7, 8
		}},
		{args: "--temp 0.5 --top-k 3 --top-p 0.7 --min-p 0.1 --repeat-penalty 1.2 --repeat-last-n 9 --seed 11", want: func(o *generateOptions) {
			s := &o.Gen.Sample
			s.Temp, s.TopK, s.TopP, s.MinP, s.RepeatPenalty, s.RepeatLastN, s.Seed = 0.5, 3, 0.7, 0.1, 1.2, 9, 11
		}},
		{args: "--temp 0 --seed 4 --top-k 1", want: func(o *generateOptions) {
			o.Gen.Sample.Temp, o.Gen.Sample.Seed, o.Gen.Sample.TopK, o.Idle = 0, 4, 1, "--seed, --top-k"
		}},
		{args: "--spec triforce --accept rejection --outer-depth 2 --inner-depth 3 --budget 256 --chunk 32 --sinks 16 --window 64 --retrieval mean", want: func(o *generateOptions) {
			s := &o.Gen.Spec
			s.Mode, s.Accept, s.Outer, s.Inner = "triforce", "rejection", 2, 3
			s.Budget, s.Chunk, s.Sinks, s.Window, s.Retrieval = 256, 32, 16, 64, "mean"
		}},
		{args: "--kv-type f16 --rope-scaling yarn --rope-scale 2 --rope-base 5e5", want: func(o *generateOptions) {
			o.Model.KVType, o.Model.Rope = "f16", engine.Rope{Scaling: "yarn", Scale: 2, Base: 5e5}
		}},
		{args: "--stop a --stop b,c --ignore-eos --json --logprobs 3", want: func(o *generateOptions) {
			o.Gen.Stop, o.Gen.IgnoreEOS, o.JSON, o.Gen.LogProbs = []string{"a", "b,c"}, true, true, 3
		}},
		{args: "--color --cache s.tf --chat --system be-brief", want: func(o *generateOptions) {
			o.Color, o.Cache, o.Chat, o.System = "always", "s.tf", true, "be-brief"
		}},
		{args: "--spec plain -d none", want: func(o *generateOptions) { o.Gen.Spec.Mode, o.Draft = "plain", "none" }},
		{env: map[string]string{"TRIFORCE_TIER": "portable"}, want: func(o *generateOptions) { o.Model.Tier = "portable" }},

		{args: "--chat --raw", fails: "--chat and --raw"},
		{args: "--raw --system x", fails: "--system has no effect"},
		{args: "--logprobs 2", fails: "--logprobs needs --json"},
		{args: "--json --color", fails: "--color has no effect"},
		{args: "--color=sometimes", fails: "--color"},
		{args: "--temp -1", fails: "--temp"},
		{args: "--spec magic", fails: "--spec"},
		{args: "--spec plain --budget 256 --tree", fails: "no effect with --spec plain: --budget, --tree"},
		{args: "--spec plain -d x.gguf", fails: "--draft"},
		{args: "--spec draft --chunk 32", fails: "--chunk"},
		{args: "--spec ngram --inner-depth 2", fails: "--inner-depth"},
		{args: "--spec draft -d none", fails: "--draft"},
		{args: "--spec triforce -m a.gguf", fails: "--draft"},
		{args: "--repeat-last-n 3", fails: "--repeat-last-n has no effect"},
		{args: "one two", fails: "at most 1"},
	} {
		w := newWorld("", c.env)
		want := &generateOptions{Sys: w.System, Model: modelDefaults(w.System), Gen: engine.GenDefaults(), Color: "auto"}
		called := false
		err := parse(newGenerate(w.System, func(_ context.Context, got *generateOptions) error {
			called = true
			if c.want != nil {
				c.want(want)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q:\ngot  %+v\nwant %+v", c.args, got, want)
			}
			return nil
		}), strings.Fields(c.args))
		if c.fails == "" && (err != nil || !called) {
			t.Errorf("%q: %v", c.args, err)
		}
		if c.fails != "" && (err == nil || called || exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q: %v, expected a mistake of usage with %q", c.args, err, c.fails)
		}
	}
}

// story is a prompt after which the embedded model is sure of what comes.
const story = "One day, a little boy named Tim went to the park. He"

const continued = " saw a big red balloon. He wanted to play with it, but it"

func TestGenerate(t *testing.T) {
	start, end := story[:20], story[20:]
	file := write(t, "prompt.txt", start)
	bad := write(t, "bad.gguf", "GGUF?")
	base := []string{"generate", "-t", "1", "--temp", "0", "-n", "16"}
	with := func(args ...string) []string { return append(append([]string{}, base...), args...) }
	for _, r := range []run{
		{name: "an argument", args: with(story), out: continued, err: []string{"prompt of 18 tokens, taken as it is (raw)", "16 tokens", "ended by length"}},
		{name: "a file and an argument", args: with("-f", file, end), out: continued},
		{name: "standard input and an argument", args: with("-f", "-", end), in: start, out: continued},
		{name: "plain", args: with("--spec", "plain", story), out: continued},
		{name: "another tier", args: with(story), env: map[string]string{"TRIFORCE_TIER": "portable"}, out: continued, err: []string{"tier portable"}},
		{name: "a stop string", args: with("--stop", " wanted", "--stop", "never", story), out: " saw a big red balloon. He", err: []string{"ended by stop"}},
		{name: "nothing to generate", args: with("-n", "0", story), out: ""},
		{name: "an empty prompt", args: with("-n", "1", ""), any: true, err: []string{"prompt of 1 tokens"}},
		{name: "invalid UTF-8", args: with("-n", "1", "-f", "-"), in: "a\xff\xfeb", any: true, err: []string{"prompt of 5 tokens"}},
		{name: "idle flags", args: with("--seed", "3", story), out: continued, err: []string{"warning: no effect with --temp 0: --seed"}},
		{name: "colours", args: with("--color", "--spec", "plain", story), out: continued},
		{name: "a full context", args: with("-c", "20", story), out: " saw a big", err: []string{"ended by context"}},

		{name: "a prompt beyond the context", args: with("-c", "17", story), code: exitMemory, err: []string{"18 tokens", "17", "--ctx-size"}},
		{name: "a context beyond the memory", args: with("-c", "268435456", story), code: exitMemory, err: []string{"would not fit", "available"}},
		{name: "a bad file", args: with("-m", bad, story), code: exitFile, err: []string{bad, "offset"}},
		{name: "no such model", args: with("-m", filepath.Join(t.TempDir(), "no.gguf")), code: exitFailed, err: []string{"no.gguf"}},
		{name: "no such prompt", args: with("-f", filepath.Join(t.TempDir(), "no.txt")), code: exitFailed, err: []string{"no.txt"}},
		{name: "no template", args: with("--chat", story), code: exitUsage, err: []string{"no chat template"}},
		{name: "no such tier", args: with(story), env: map[string]string{"TRIFORCE_TIER": "warp"}, code: exitUsage, err: []string{`"warp"`}},
		{name: "a bad snapshot", args: with("--cache", bad, story), code: exitFile, err: []string{bad}},
	} {
		r.test(t)
	}
}

// TestGenerateOpening: without a model and a prompt there is a story to
// continue, shown beside the text.
func TestGenerateOpening(t *testing.T) {
	r := run{name: "opening", args: []string{"generate", "-t", "1", "-n", "4"}, any: true, err: []string{demo.Opening}}
	if w := r.test(t); w.out.Len() == 0 {
		t.Error("no text")
	}
}

func TestGenerateJSON(t *testing.T) {
	r := run{name: "json", args: []string{"generate", "-t", "1", "--temp", "0", "-n", "16", "--seed", "5", "--json", "--logprobs", "2", "--spec", "triforce", story}, any: true}
	var got report
	r.test(t).decode(t, &got)
	if got.Model != engine.Embedded || got.Draft == nil || *got.Draft != engine.EmbeddedDraft || got.Threads != 1 || got.Seed != 5 ||
		got.Spec != "triforce" || got.Accept != "coupled" || got.PromptTokens != 18 || got.Text != continued || got.StopReason != "length" {
		t.Errorf("%+v", got)
	}
	tm := got.Timings
	if len(got.Tokens) != 16 || tm.PredictedN != 16 || tm.PromptN != 18 || tm.CachedN != 0 || tm.PredictedPerSecond <= 0 || tm.PromptMS <= 0 {
		t.Errorf("%d tokens, timings %+v", len(got.Tokens), tm)
	}
	if len(got.Levels) != 3 || got.Levels[0].Name != "target" || got.Levels[0].Proposed != tm.DraftN || got.Levels[0].Accepted != tm.DraftNAccepted {
		t.Errorf("levels %+v, timings %+v", got.Levels, tm)
	}
	if m := got.Memory; m.WeightsBytes <= 0 || m.KVBytes <= 0 {
		t.Errorf("memory %+v", m)
	}
	if len(got.LogProbs) != 16 {
		t.Fatalf("%d log probabilities", len(got.LogProbs))
	}
	for i, p := range got.LogProbs {
		// Greedy takes the most probable token.
		if p.ID != got.Tokens[i] || len(p.Top) != 2 || p.logProb != p.Top[0] || p.Top[1].LogProb > p.LogProb || p.LogProb > 0 || math.IsNaN(p.LogProb) {
			t.Errorf("token %d: %+v", i, p)
		}
	}
}

// TestGenerateCache: a second run goes on from what the first has read.
func TestGenerateCache(t *testing.T) {
	cache := filepath.Join(t.TempDir(), "story.cache")
	args := []string{"generate", "-t", "1", "--temp", "0", "-n", "16", "--json", "--cache", cache, story}
	for i := range 2 {
		r := run{name: "cache", args: args, any: true}
		var got report
		r.test(t).decode(t, &got)
		if got.Text != continued || got.Timings.CachedN != i*17 {
			t.Errorf("run %d: %q with %d tokens from the cache", i, got.Text, got.Timings.CachedN)
		}
	}
}

// TestGenerateCancelled: what was written stays, the figures follow.
func TestGenerateCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	w := newWorld("", nil)
	w.Out = writerFunc(func(p []byte) (int, error) {
		if w.out.Len() > 20 {
			cancel()
		}
		return w.out.Write(p)
	})
	code := Run(ctx, []string{"generate", "-t", "1", "--temp", "0", "-n", "500", story}, w.System)
	if code != exitCancelled || !strings.HasPrefix(w.out.String(), " saw a big red balloon.") || !strings.Contains(w.err.String(), "ended by cancelled") {
		t.Errorf("exit code %d, %q, %q", code, w.out.String(), w.err.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestGenerateTerminal: on a terminal there are colours by level and a last
// line break; NO_COLOR takes the colours away.
func TestGenerateTerminal(t *testing.T) {
	for _, env := range []map[string]string{nil, {"NO_COLOR": "1"}} {
		w := newWorld("", env)
		w.OutTerminal, w.ErrTerminal = true, true
		code := Run(context.Background(), []string{"generate", "-t", "1", "--temp", "0", "-n", "16", "--spec", "draft", "--outer-depth", "3", story}, w.System)
		text := w.out.String()
		if code != 0 || !strings.HasSuffix(text, "\n") {
			t.Errorf("exit code %d, %q", code, text)
		}
		if colored := strings.Contains(text, "\x1b[32m"); colored != (env == nil) {
			t.Errorf("with %v: %q", env, text)
		}
	}
}
