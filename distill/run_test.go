package distill

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"triforce/engine"
	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/sample"
)

// target opens a tiny model whose answers depend on little but the last tokens.
func target(t testing.TB, seed uint64) *engine.Engine {
	t.Helper()
	o := engine.Defaults()
	o.Context = 256
	e, err := engine.Open(t.Context(), tiny.Model(t, tiny.Options{Seed: seed, Layers: 1}), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// someText is tokens that a target wrote.
func someText(t testing.TB, e *engine.Engine, n int) [][]int32 {
	t.Helper()
	s := e.NewSession()
	defer s.Close()
	g := engine.GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample = 150, true, sample.Options{Temp: 1, TopP: 1, RepeatPenalty: 1}
	var texts [][]int32
	for i := range n {
		g.Sample.Seed = uint64(i)
		var text []int32
		if _, err := s.Generate(t.Context(), []int32{int32(3 + i)}, g, func(token engine.Token) error {
			if token.ID >= 0 {
				text = append(text, token.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

func small(t testing.TB, steps int) Options {
	t.Helper()
	o := Defaults()
	dir := t.TempDir()
	o.Out, o.Work = filepath.Join(dir, "draft.gguf"), filepath.Join(dir, "work")
	o.Dim, o.Head, o.Window, o.Length, o.Batch, o.Steps, o.Labels, o.Minutes = 32, 256, 32, 64, 4, steps, 60, 0
	return o
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A draft that learnt guesses better than one that did not, in the engine too,
// and what the target writes with it is what it writes alone.
func TestDistill(t *testing.T) {
	e := target(t, 1)
	texts := someText(t, e, 40)
	learn := func(steps int) (Result, *engine.Engine) {
		o := small(t, steps)
		o.Random = true // the target's own embedding and head say most of this target
		result, err := Run(t.Context(), e, texts, o)
		if err != nil {
			t.Fatal(err)
		}
		d, err := engine.Open(t.Context(), o.Out, engine.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		if n := d.File().Tokenizer().Vocab().Size(); n != e.File().Tokenizer().Vocab().Size() {
			t.Errorf("the draft has %d tokens", n)
		}
		return result, d
	}
	few, _ := learn(1)
	many, draft := learn(200)
	t.Logf("after 1 step %+v, after 200 %+v", few.Text, many.Text)
	if many.Text.Overlap < few.Text.Overlap+0.1 || many.Text.Agreement < few.Text.Agreement+0.1 {
		t.Errorf("after 1 step %+v, after 200 %+v: it learnt too little", few.Text, many.Text)
	}
	if many.Head != 256 || many.Text.Places < leastHeld*16 {
		t.Errorf("%+v", many)
	}
	if err := e.UseDraft(draft); err != nil {
		t.Fatal(err)
	}
	write := func(mode string, tree bool, temp float64) (ids []int32, accepted, proposed int) {
		s := e.NewSession()
		defer s.Close()
		g := engine.GenDefaults()
		g.Predict, g.IgnoreEOS, g.Spec.Mode, g.Sample.Temp, g.Sample.Seed = 80, true, mode, temp, 3
		g.Spec.Outer, g.Spec.Inner, g.Spec.Tree = 3*boolInt(mode != engine.SpecAuto), 2*boolInt(mode == engine.SpecTriForce), tree
		if _, err := s.Generate(t.Context(), texts[0][:100], g, func(token engine.Token) error {
			if token.ID >= 0 {
				ids = append(ids, token.ID)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		top := s.Levels()[0]
		return ids, int(top.Accepted), int(top.Proposed)
	}
	for _, temp := range []float64{0, 0.4} {
		want, _, _ := write(engine.SpecPlain, false, temp)
		for _, how := range []struct {
			mode string
			tree bool
		}{{engine.SpecDraft, false}, {engine.SpecDraft, true}, {engine.SpecTriForce, false}, {engine.SpecAuto, false}} {
			got, accepted, proposed := write(how.mode, how.tree, temp)
			if !bytes.Equal(int32Bytes(got), int32Bytes(want)) {
				t.Errorf("temperature %v, %+v: with the draft %v, expected %v", temp, how, got, want)
			}
			if how.mode != engine.SpecAuto && (accepted == 0 || proposed == 0) {
				t.Errorf("temperature %v, %+v: %d of %d guesses were accepted", temp, how, accepted, proposed)
			}
			t.Logf("temperature %v, %+v: %d of %d guesses were accepted", temp, how, accepted, proposed)
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func int32Bytes(x []int32) []byte {
	var b []byte
	for _, v := range x {
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return b
}

// An interrupted run that goes on makes the same file as one that was left
// alone, whenever it was interrupted.
func TestResume(t *testing.T) {
	e := target(t, 2)
	texts := someText(t, e, 12)
	o := small(t, 25)
	o.Self = 700
	if _, err := Run(t.Context(), e, texts, o); err != nil {
		t.Fatal(err)
	}
	want := read(t, o.Out)
	r := rand.New(rand.NewPCG(1, 0))
	phases := []Phase{Training, Labeling, Writing, Training, Training}
	if testing.Short() {
		phases = phases[:1]
	}
	for _, phase := range phases {
		o := small(t, 25)
		o.Self = 700
		after := 2 + r.IntN(10)
		if phase == Writing {
			after = 2
		}
		ctx, cancel := context.WithCancel(t.Context())
		seen := 0
		o.Report = func(s Status) {
			if s.Phase == phase {
				if seen++; seen == after {
					cancel()
				}
			}
		}
		if _, err := Run(ctx, e, texts, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("%s: %v, expected to be cancelled", phase, err)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: there is a draft", phase)
		}
		o.Report = nil
		if _, err := Run(t.Context(), e, texts, o); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(t, o.Out), want) {
			t.Errorf("interrupted in %q after %d: another draft", phase, after)
		}
		if _, err := os.Stat(filepath.Join(o.Work, "checkpoint.gguf")); err == nil {
			t.Errorf("%s: a checkpoint is left", phase)
		}
	}
}

func TestRefusals(t *testing.T) {
	e := target(t, 3)
	texts := someText(t, e, 12)
	interrupted := func(t *testing.T) Options {
		o := small(t, 25)
		ctx, cancel := context.WithCancel(t.Context())
		o.Report = func(s Status) {
			if s.Phase == Training && s.Done == 3 {
				cancel()
			}
		}
		if _, err := Run(ctx, e, texts, o); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		o.Report = nil
		return o
	}
	for _, c := range []struct {
		name string
		want error
		text string
		run  func(t *testing.T) error
	}{
		{"no text", ErrText, "--self", func(t *testing.T) error {
			_, err := Run(t.Context(), e, nil, small(t, 5))
			return err
		}},
		{"short text", ErrText, "2 excerpts, expected at least 8", func(t *testing.T) error {
			_, err := Run(t.Context(), e, [][]int32{texts[0][:100]}, small(t, 5))
			return err
		}},
		{"no space", ErrSpace, "1.00 KiB are free", func(t *testing.T) error {
			o := small(t, 5)
			o.Free = func(string) (int64, error) { return 1 << 10, nil }
			_, err := Run(t.Context(), e, texts, o)
			return err
		}},
		{"another target", ErrWork, "another target", func(t *testing.T) error {
			_, err := Run(t.Context(), target(t, 4), texts, interrupted(t))
			return err
		}},
		{"another shape", ErrWork, `"Layers":3`, func(t *testing.T) error {
			o := interrupted(t)
			o.Layers = 3
			_, err := Run(t.Context(), e, texts, o)
			return err
		}},
		{"other texts", ErrWork, "other texts", func(t *testing.T) error {
			_, err := Run(t.Context(), e, texts[1:], interrupted(t))
			return err
		}},
		{"damaged checkpoint", nil, "checkpoint.gguf", func(t *testing.T) error {
			o := interrupted(t)
			path := filepath.Join(o.Work, "checkpoint.gguf")
			if err := os.WriteFile(path, read(t, path)[:3000], 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Run(t.Context(), e, texts, o)
			return err
		}},
		{"damaged label", ErrWork, "remove the file", func(t *testing.T) error {
			o := interrupted(t)
			files, _ := filepath.Glob(filepath.Join(o.Work, "answers-*", "*.zst"))
			for _, f := range files {
				data := read(t, f)
				data[len(data)-3] ^= 0x40
				if err := os.WriteFile(f, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Run(t.Context(), e, texts, o)
			return err
		}},
		{"options", engine.ErrUsage, "--dim 100", func(t *testing.T) error {
			o := small(t, 5)
			o.Dim = 100
			_, err := Run(t.Context(), e, texts, o)
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.run(t)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, expected %v with %q", err, c.want, c.text)
			}
		})
	}
}

// A target in a folder, whose vocabulary is not in GGUF's form, gets a draft too.
func TestFolder(t *testing.T) {
	for _, vocab := range []tiny.Vocab{tiny.SentencePiece, tiny.ByteLevel} {
		o := engine.Defaults()
		o.Context = 256
		e, err := engine.Open(t.Context(), tiny.Folder(t, tiny.Options{Layers: 1, Vocab: vocab}), o)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		opt := small(t, 2)
		if _, err := Run(t.Context(), e, someText(t, e, 8), opt); err != nil {
			t.Fatal(err)
		}
		d, err := engine.Open(t.Context(), opt.Out, engine.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := e.UseDraft(d); err != nil {
			t.Error(err)
		}
	}
}

// FuzzAnswers reads labels from files of any content.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	s, err := openStore(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.enc.EncodeAll(make([]byte, 2*answerBytes(64)), nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := excerpt{1, 2}
		if err := os.WriteFile(s.path(x), data, 0o644); err != nil {
			t.Fatal(err)
		}
		a, err := s.get(x, 300, 64)
		if err != nil {
			if !errors.Is(err, ErrWork) {
				t.Errorf("%v", err)
			}
			return
		}
		for _, token := range a.tokens {
			if token < 0 || token >= 300 {
				t.Errorf("token %d", token)
			}
		}
	})
}

// Messages begin alike for both temperatures of answers, with all openings.
func TestBeginnings(t *testing.T) {
	r := run{words: []string{" moon"}}
	var without, about [2]int // by the answer's temperature
	seen := map[string]bool{}
	for i := range uint64(400) {
		begun := r.beginning(i)
		if begun != r.beginning(i) {
			t.Fatalf("message %d begins now so, now so", i)
		}
		at := boolInt(answerTemp(i) > 0)
		without[at] += boolInt(begun == "")
		about[at] += boolInt(strings.HasSuffix(begun, " moon"))
		seen[strings.TrimSuffix(begun, " moon")] = true
	}
	if without != [2]int{50, 50} || about != [2]int{50, 50} || len(seen) != 1+len(openings) {
		t.Errorf("%v without, %v with a word, %d in all", without, about, len(seen))
	}
	e := target(t, 1)
	for _, word := range wordsOf(e.File().Tokenizer().Vocab()) {
		if !regexp.MustCompile(`^ [a-z]{5,}$`).MatchString(word) {
			t.Errorf("%q is no word", word)
		}
	}
}

func TestAnswers(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 0))
	x := make(excerpt, 50)
	const width = 64
	a := newAnswers(len(x), width)
	var states [][]float32
	for i := range x {
		x[i] = int32(r.IntN(100))
		row, state := make([]float32, 100), make([]float32, width)
		for j := range row {
			row[j] = float32(r.NormFloat64() * 3)
		}
		for j := range state {
			state[j] = float32(r.NormFloat64() * 7)
		}
		states = append(states, state)
		if i%7 == 3 {
			continue // not asked
		}
		a.fill(kernel.For(cpu.Best()), i, row, state)
		best := a.tokens[i*topK : (i+1)*topK]
		for k, token := range best {
			for j, v := range row {
				if v > row[token] && k == 0 {
					t.Fatalf("token %d is more probable than the first", j)
				}
			}
			if k > 0 && row[token] > row[best[k-1]] {
				t.Fatal("not in order")
			}
		}
	}
	if err := s.put(x, a); err != nil {
		t.Fatal(err)
	}
	b, err := s.get(x, 100, width)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range a.probs {
		if b.tokens[i] != a.tokens[i] || b.probs[i] < p*0.999 || b.probs[i] > p*1.001 {
			t.Fatalf("answer %d is %d with %v, expected %d with %v", i, b.tokens[i], b.probs[i], a.tokens[i], p)
		}
	}
	got := make([]float32, width)
	for i, state := range states {
		if b.state(got, i); i%7 == 3 {
			clear(state)
		}
		for j, v := range state {
			if math.Abs(float64(got[j]-v)) > 0.02 {
				t.Fatalf("state %d is %v, expected %v", i, got, state)
			}
		}
	}
}
