package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"triforce/internal/kernel"
	"triforce/model/llama"
	"triforce/sample"
	"triforce/speculate"
	"triforce/tensor"
	"triforce/weights/gguf"
)

var (
	sets = flag.Int("sets", 120, "random option sets that must give the same tokens as plain decoding")
	seed = flag.Uint64("seed", 1, "of the first option set")
)

// optionSet is one way of generating: what may not change the text.
type optionSet struct {
	spec    Spec
	threads int
	batch   int
	restore int // tokens of the prompt that a restored snapshot holds, or 0
	resume  int // tokens generated before a snapshot from which another session goes on, or 0
	disk    int // slabs of memory that the cache has beyond the least, the rest is on disk; -1 = all in memory
}

// task is what determines the text.
type task struct {
	prompt []int32
	sample sample.Options
}

func randomSpec(r *rand.Rand) Spec {
	o := SpecDefaults()
	o.Mode = specModes[r.IntN(len(specModes))]
	o.Outer, o.Inner = r.IntN(2)*r.IntN(17), r.IntN(2)*r.IntN(9)
	o.Chunk = kernel.Chunk << r.IntN(3)
	o.Sinks, o.Window = r.IntN(40), 1+r.IntN(200)
	o.Budget = o.Sinks + o.Window + o.Chunk + 48 + r.IntN(700)
	o.Retrieval = []string{"mass", "mean"}[r.IntN(2)]
	o.Tree = r.IntN(3) == 0
	return o
}

func randomTask(r *rand.Rand, text []int32) task {
	at, n := r.IntN(len(text)/2), 1+r.IntN(len(text)/2-1)
	t := task{prompt: text[at : at+n], sample: sample.Options{TopP: 1, RepeatPenalty: 1, RepeatLastN: 64, Seed: r.Uint64()}}
	if r.IntN(3) > 0 {
		t.sample.Temp = 0.3 + 0.9*r.Float64()
		t.sample.TopK = r.IntN(2) * 40
		t.sample.TopP = 1 - float64(r.IntN(2))*0.1
		t.sample.MinP = float64(r.IntN(2)) * 0.05
	}
	if r.IntN(3) == 0 {
		t.sample.RepeatPenalty = 1 + 0.3*r.Float64()
	}
	return t
}

// run runs a task with an option set.
func run(t *testing.T, e *Engine, task task, o optionSet, predict int) []int32 {
	t.Helper()
	ctx := context.Background()
	with := *e
	with.opt.Threads, with.opt.Batch = o.threads, o.batch
	if o.disk >= 0 {
		shape := e.model.KVShape(e.kv)
		with.opt.KVDir = t.TempDir()
		with.opt.KVRAM = shape.LeastRAM(e.set, with.opt.maxPass()) + int64(o.disk)*shape.PageBytes(e.set)/int64(shape.Layers)
	}
	g := GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample, g.Spec = predict, true, task.sample, o.spec
	var tokens []int32
	emit := func(tok Token) error {
		if tok.ID >= 0 {
			tokens = append(tokens, tok.ID)
		}
		return nil
	}
	s := with.NewSession()
	defer func() { s.Close() }()
	restored := func() {
		t.Helper()
		path := filepath.Join(t.TempDir(), "snapshot")
		if err := s.Save(path, nil); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = with.NewSession()
		if err := s.Load(path, o.spec, nil); err != nil {
			t.Fatal(err)
		}
	}
	if o.restore > 0 {
		g.Predict = 3
		if _, err := s.Generate(ctx, task.prompt[:o.restore], g, func(Token) error { return nil }); err != nil {
			t.Fatal(err)
		}
		restored()
	}
	prompt := task.prompt
	if o.resume > 0 {
		g.Predict = o.resume
		if _, err := s.Generate(ctx, prompt, g, emit); err != nil {
			t.Fatal(err)
		}
		prompt = slices.Concat(prompt, tokens)
		restored()
	}
	g.Predict = predict - o.resume
	r, err := s.Generate(ctx, prompt, g, emit)
	if err != nil {
		t.Fatal(err)
	}
	held := min(o.restore, len(task.prompt))
	if o.resume > 0 {
		held = len(prompt) - 1 // the last token was never fed
	}
	if r.Cached < held-1 {
		t.Errorf("of %d restored tokens %d were used", held, r.Cached)
	}
	return tokens
}

// trimmedDraft is an embedded model with logits for half of the tokens, which takes
// in states of that width, if that is not 0, and its own if it has that width.
func trimmedDraft(t testing.TB, name string, state int) *Engine {
	t.Helper()
	f, err := OpenFile(name, Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	src := f.Source()
	var meta []gguf.KV
	for _, key := range slices.Sorted(maps.Keys(src.Meta())) {
		meta = append(meta, gguf.KV{Key: key, Value: src.Meta()[key]})
	}
	var tensors []tensor.Tensor
	for _, name := range src.Names() {
		w, _ := src.Tensor(name)
		tensors = append(tensors, w)
	}
	embed, _ := src.Tensor("token_embd.weight")
	output := tensor.Tensor{Name: "output.weight", DType: embed.DType, Cols: embed.Cols}
	var head []int64
	for i := 0; i < embed.Rows; i += 1 + i%3 {
		head = append(head, int64(i))
		output.Data = append(output.Data, embed.Row(i)...)
	}
	output.Rows = len(head)
	tensors = append(tensors, output)
	if state > 0 {
		w := tensor.Tensor{Name: llama.StateTensor, DType: tensor.F32, Rows: embed.Cols, Cols: state}
		w.Data = make([]byte, 4*w.Rows*w.Cols)
		x, r := make([]float32, w.Rows*w.Cols), rand.New(rand.NewPCG(1, 0))
		for i := range x {
			x[i] = float32(0.01 * r.NormFloat64())
		}
		tensor.Quantize(w.Data, tensor.F32, x)
		tensors = append(tensors, w)
	}
	path := filepath.Join(t.TempDir(), "trimmed.gguf")
	meta = append(meta, gguf.KV{Key: llama.HeadKey, Value: head}, gguf.KV{Key: llama.OwnStateKey, Value: state == embed.Cols})
	if err := gguf.WriteFile(path, meta, tensors); err != nil {
		t.Fatal(err)
	}
	return open(t, path, nil)
}

// Whatever the mode, depths, budget, threads and batches, whether caches are
// cold or restored, in memory or on disk, whether the draft has logits for all
// tokens and whether it takes in the target's states: the tokens are those of plain decoding.
func TestSameTokens(t *testing.T) {
	e, text := embeddedPair(t)
	width := e.model.Dim
	drafts := []*Engine{e.Draft(), trimmedDraft(t, EmbeddedDraft, 0), trimmedDraft(t, EmbeddedDraft, width), trimmedDraft(t, Embedded, width)}
	if !drafts[3].model.OwnState {
		t.Error("no draft takes in its own states")
	}
	if err := e.file.CanDraft(trimmedDraft(t, EmbeddedDraft, width+1).file); !errors.Is(err, ErrStates) {
		t.Errorf("a draft for states of another width: %v", err)
	}
	const perTask = 6
	n, longest := *sets, 60
	if testing.Short() {
		n, longest = 2*perTask, 12
	}
	modes := map[string]int{}
	for i := 0; i < n; i += perTask {
		r := rand.New(rand.NewPCG(*seed+uint64(i), 0))
		task := randomTask(r, text)
		predict := 24 + r.IntN(longest)
		if r.IntN(5) == 0 {
			predict = 1 + r.IntN(6) // over before anything is learnt
		}
		plain := SpecDefaults()
		plain.Mode = SpecPlain
		want := run(t, e, task, optionSet{spec: plain, threads: 1, batch: 64, disk: -1}, predict)
		for range perTask {
			o := optionSet{spec: randomSpec(r), threads: 1 + r.IntN(4), batch: 1 + r.IntN(300), disk: r.IntN(2)*(1+r.IntN(16)) - 1}
			if r.IntN(3) == 0 {
				o.restore = 1 + r.IntN(len(task.prompt))
			}
			if r.IntN(3) == 0 {
				o.resume = r.IntN(predict)
			}
			modes[o.spec.Mode]++
			e.draft = drafts[r.IntN(len(drafts))]
			if got := run(t, e, task, o, predict); !slices.Equal(got, want) {
				t.Fatalf("%+v\nwith %v of a prompt of %d tokens gives\n%v, expected\n%v\nrun again: go test ./engine -run TestSameTokens -sets 1 -seed %d",
					o, task.sample, len(task.prompt), got, want, *seed+uint64(i))
			}
		}
	}
	t.Logf("%d option sets gave the tokens of plain decoding: %v", n, modes)
}

// After warm-up, no mode allocates anything for a token. When that is over,
// nobody can tell beforehand: by costs, SpecAuto first uses a level when it pays,
// and scratch grows now and then with the text. But soon a stretch of rounds must
// allocate nothing at all.
func TestNoAllocations(t *testing.T) {
	const stretch, stretches = 20, 12
	e, text := embeddedPair(t)
	with := *e
	with.opt.Threads = 1 // as AllocsPerRun lets one run
	for i, temp := range []float64{0, 0.8} {
		for _, mode := range specModes {
			s := with.NewSession()
			g := GenDefaults()
			g.Spec.Retrieval = []string{"mass", "mean"}[i]
			g.Spec.Mode, g.Sample.Temp, g.Predict, g.IgnoreEOS = mode, temp, 100, true
			g.Spec.Outer = 3 // by costs, drafting might begin only after the warm-up, or never
			if _, err := s.Generate(context.Background(), text[:len(text)/2], g, func(Token) error { return nil }); err != nil {
				t.Fatal(err)
			}
			rounds := func() {
				for range stretch {
					if _, err := s.levels.top.Round(context.Background(), 100); err != nil {
						t.Fatal(err)
					}
				}
			}
			var counts []float64
			for len(counts) < stretches && !slices.Contains(counts, 0) {
				counts = append(counts, testing.AllocsPerRun(1, rounds))
			}
			if !slices.Contains(counts, 0) {
				t.Errorf("mode %s, temperature %v: stretches of %d rounds made %v allocations, expected none in one of them",
					mode, temp, stretch, counts)
			}
			s.Close()
		}
	}
}

// A view that has room for the whole text is the full cache: its proposals are
// all accepted.
func TestFullBudget(t *testing.T) {
	e, text := embeddedPair(t)
	s := e.NewSession()
	defer s.Close()
	g := GenDefaults()
	g.Spec.Mode, g.Spec.Budget, g.Spec.Outer = SpecRetrieval, 4096, 7
	g.Predict, g.IgnoreEOS = 100, true
	if _, err := s.Generate(context.Background(), text[:len(text)/3], g, func(Token) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if top := s.Levels()[0]; top.Proposed < 80 || top.Accepted != top.Proposed {
		t.Errorf("%d of %d proposed tokens were accepted", top.Accepted, top.Proposed)
	}
}

// Under rejection the text has another distribution of accidents, but every
// level below still has its proposals accepted now and then.
func TestRejectionRuns(t *testing.T) {
	e, text := embeddedPair(t)
	for _, mode := range specModes {
		s := e.NewSession()
		g := GenDefaults()
		g.Spec.Mode, g.Spec.Accept, g.Spec.Outer = mode, speculate.Rejection.String(), 4
		g.Predict, g.IgnoreEOS = 60, true
		r, err := s.Generate(context.Background(), text[:len(text)/2], g, func(Token) error { return nil })
		if err != nil || r.Predicted != 60 {
			t.Errorf("%s: %d tokens, %v", mode, r.Predicted, err)
		}
		if top := s.Levels()[0]; mode != SpecPlain && mode != SpecNGram && top.Accepted == 0 {
			t.Errorf("%s: none of %d proposed tokens was accepted", mode, top.Proposed)
		}
		s.Close()
	}
}

// Cancelled at any token, a session goes on as if nothing had happened.
func TestCancelledAndResumed(t *testing.T) {
	e, text := embeddedPair(t)
	task := task{prompt: text[:len(text)/4], sample: sample.Options{Temp: 0.8, TopP: 1, RepeatPenalty: 1, RepeatLastN: 64, Seed: 3}}
	plain := SpecDefaults()
	plain.Mode = SpecPlain
	want := run(t, e, task, optionSet{spec: plain, threads: 2, batch: 256, disk: -1}, 40)
	g := GenDefaults()
	g.Spec.Mode, g.Sample, g.IgnoreEOS, g.Predict = SpecTriForce, task.sample, true, 40
	s := e.NewSession()
	defer s.Close()
	for cut := 1; cut < 40; cut += 6 {
		ctx, cancel := context.WithCancel(context.Background())
		var got []int32
		_, err := s.Generate(ctx, task.prompt, g, func(tok Token) error {
			if got = append(got, tok.ID); len(got) == cut {
				cancel()
			}
			return nil
		})
		if err == nil && len(got) < 40 || !slices.Equal(got, want[:min(len(got), len(want))]) {
			t.Fatalf("cut after %d: %v, error %v; expected the start of %v", cut, got, err, want)
		}
	}
}

// A snapshot with any byte changed, or cut anywhere, is refused, and nothing
// of it is loaded.
func TestDamagedSnapshot(t *testing.T) {
	e, text := embeddedPair(t)
	s := e.NewSession()
	defer s.Close()
	g := GenDefaults()
	g.Predict = 2
	if _, err := s.Generate(context.Background(), text[:40], g, func(Token) error { return nil }); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "snapshot")
	if err := s.Save(path, nil); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 60 {
		bad := slices.Clone(good)
		what := ""
		if i%3 == 0 {
			bad = bad[:r.IntN(len(bad))]
			what = fmt.Sprintf("cut at %d", len(bad))
		} else {
			at := r.IntN(len(bad))
			bad[at] ^= 1 << r.IntN(8)
			what = fmt.Sprintf("bit flipped at %d", at)
		}
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		fresh := e.NewSession()
		err := fresh.Load(path, g.Spec, nil)
		if err == nil || fresh.cache.Len() != 0 || len(fresh.tokens) != 0 {
			t.Errorf("%s: error %v, %d tokens loaded", what, err, fresh.cache.Len())
		}
		fresh.Close()
	}
}

// embeddedPair opens the embedded target with its draft, and some text for it.
func embeddedPair(t *testing.T) (*Engine, []int32) {
	t.Helper()
	ctx := context.Background()
	e, err := Open(ctx, "", Defaults())
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(ctx, EmbeddedDraft, Defaults())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.UseDraft(d); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		d.Close()
	})
	// The model's own text is as good as any. Where time is short, as with plain
	// Go kernels, it still does not fit the view's budget.
	length := 2800
	if testing.Short() {
		length = 1300
	}
	s := e.NewSession()
	defer s.Close()
	g := GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample.Seed, g.Spec.Mode = length, true, 5, SpecPlain
	var text []int32
	if _, err := s.Generate(ctx, e.File().Encode("Once upon a time"), g, func(tok Token) error {
		if tok.ID >= 0 {
			text = append(text, tok.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return e, text
}
