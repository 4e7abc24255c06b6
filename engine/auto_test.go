package engine

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"triforce/internal/testutil/shared"
)

var (
	autoDepth  = flag.Int("auto", -1, "tokens of each kind of prompt after which auto is compared with plain decoding")
	autoModel  = flag.String("auto-model", "", "the model to do it with, the embedded pair if empty")
	autoTokens = flag.Int("auto-tokens", 64, "tokens to generate in each run")
	autoPairs  = flag.Int("auto-pairs", 11, "pairs of runs for each kind")
	autoKinds  = flag.String("auto-kinds", "", "kinds of prompt, all if empty")
	autoTemp   = flag.Float64("auto-temp", 0, "temperature")
	autoMode   = flag.String("auto-mode", SpecAuto, "mode to compare with plain decoding")
	autoCache  = flag.String("auto-cache", "", "folder for snapshots of the read prompts, so that they are read once")
)

// TestAutoPays compares auto with plain decoding on ten kinds of prompt: pairs
// of runs from the same cache, each with levels that know nothing yet, in turns
// the one and the other first. It prints the ratio of speeds, that of the medians
// and that of the fastest quarters, which other load disturbs less.
//
//	go test ./engine -run TestAutoPays -v -auto 2048
//	go test ./engine -run TestAutoPays -v -auto 7900 -auto-model SmolLM2.gguf -auto-cache /tmp
func TestAutoPays(t *testing.T) {
	if *autoDepth < 0 {
		t.Skip("a measurement: give the tokens of a prompt with -auto")
	}
	ctx := context.Background()
	depth := max(*autoDepth, 1)
	e := open(t, *autoModel, func(o *Options) { o.Context = depth + *autoTokens + 1 })
	if *autoModel == "" {
		if err := e.UseDraft(open(t, EmbeddedDraft, nil)); err != nil {
			t.Fatal(err)
		}
	}
	s := e.NewSession()
	defer s.Close()
	once := func(prompt []int32, mode string) (seconds float64, ids []int32) {
		t.Helper()
		g := greedy(*autoTokens)
		g.Spec.Mode, g.Sample.Temp = SpecPlain, *autoTemp
		g.Predict = 0
		// As a new request would find it: the end of the prompt is still to be read.
		if _, err := s.Generate(ctx, prompt[:max(1, len(prompt)-32)], g, func(Token) error { return nil }); err != nil {
			t.Fatal(err)
		}
		g.Predict, g.Spec.Mode = *autoTokens, mode
		r, err := s.Generate(ctx, prompt, g, func(tok Token) error {
			if tok.ID >= 0 {
				ids = append(ids, tok.ID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return r.PredictTime.Seconds(), ids
	}
	t.Logf("| kind | × plain, medians | fastest quarters | ms a token, plain | levels |")
	t.Logf("|---|---|---|---|---|")
	for _, kind := range promptKinds {
		if *autoKinds != "" && !slices.Contains(strings.Split(*autoKinds, ","), kind.name) {
			continue
		}
		prompt := kind.prompt(t, e, depth+1)
		restoreOrRead(t, s, kind.name, prompt)
		var plain, auto []float64
		var done []string
		for i := range *autoPairs {
			var want, got []int32
			var a, b float64
			if i%2 == 0 {
				a, want = once(prompt, SpecPlain)
				b, got = once(prompt, *autoMode)
			} else {
				b, got = once(prompt, *autoMode)
				a, want = once(prompt, SpecPlain)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%s: other tokens than plain decoding", kind.name)
			}
			plain, auto = append(plain, a), append(auto, b)
			if i%2 == 1 || *autoPairs == 1 {
				continue
			}
			done = done[:0]
			for _, l := range s.Levels() {
				done = append(done, fmt.Sprintf("%s %d/%d of %d in %d", l.Name, l.Accepted, l.Proposed, l.Rows, l.Passes))
			}
		}
		slices.Sort(plain)
		slices.Sort(auto)
		half, quarter := len(plain)/2, len(plain)/4
		t.Logf("| %s | %.2f | %.2f | %.2f | %s |", kind.name, plain[half]/auto[half], plain[quarter]/auto[quarter],
			1e3*plain[quarter]/float64(*autoTokens), strings.Join(done, "; "))
	}
}

// restoreOrRead makes the session's cache hold the prompt.
func restoreOrRead(t *testing.T, s *Session, name string, prompt []int32) {
	t.Helper()
	path := ""
	if *autoCache != "" {
		path = filepath.Join(*autoCache, fmt.Sprintf("%s-%s-%d.snapshot", s.e.file.Fingerprint(), name, len(prompt)))
		s.cache.Rewind(0)
		s.tokens = s.tokens[:0]
		spec := SpecDefaults()
		spec.Mode = SpecPlain
		err := s.Load(path, spec, nil)
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	g := greedy(0)
	g.Spec.Mode = SpecPlain
	if _, err := s.Generate(context.Background(), prompt, g, func(Token) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if path != "" {
		if err := s.Save(path, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// promptKind makes prompts of n tokens.
type promptKind struct {
	name string
	text func(t *testing.T, book string, r *rand.Rand, n int) string // more than n tokens
	tail string                                                      // ends the prompt
}

func (k promptKind) prompt(t *testing.T, e *Engine, n int) []int32 {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	if k.text == nil {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(r.IntN(e.model.Vocab))
		}
		return ids
	}
	data, err := os.ReadFile(shared.Path(t, "books/se_herman-melville-moby-dick.txt"))
	if err != nil {
		t.Fatal(err)
	}
	ids := e.file.Encode(k.text(t, string(data[100_000:]), r, n))
	tail := e.file.Encode(k.tail)
	if k.tail == "" {
		tail = nil
	}
	tail = tail[max(0, len(tail)-n):]
	if len(ids) < n-len(tail) {
		t.Fatalf("%s: %d tokens, expected %d", k.name, len(ids), n)
	}
	return slices.Concat(ids[:n-len(tail)], tail)
}

// until repeats lines until there is enough text for n tokens of any vocabulary.
func until(n int, line func(i int) string) string {
	var b strings.Builder
	for i := 0; b.Len() < 6*n+100; i++ {
		b.WriteString(line(i))
	}
	return b.String()
}

// promptKinds are the kinds of prompt on which auto must not be slower than plain.
var promptKinds = []promptKind{
	{name: "prose", text: func(_ *testing.T, book string, _ *rand.Rand, _ int) string { return book }},
	{name: "code", text: func(t *testing.T, _ string, _ *rand.Rand, n int) string {
		var all strings.Builder
		for _, dir := range []string{".", "../kvcache", "../speculate", "../model/llama", "../sample", "../internal/cli"} {
			files, err := filepath.Glob(filepath.Join(dir, "*.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range files {
				data, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				all.Write(data)
			}
		}
		return all.String()
	}},
	{name: "list", text: func(_ *testing.T, book string, r *rand.Rand, n int) string {
		words := strings.Fields(book)
		return "Things to take on board:\n" + until(n, func(i int) string {
			at := r.IntN(len(words) - 8)
			return fmt.Sprintf("%d. %s\n", i+1, strings.Join(words[at:at+2+r.IntN(5)], " "))
		})
	}},
	{name: "dialogue", text: func(_ *testing.T, book string, _ *rand.Rand, n int) string {
		sentences := strings.Split(strings.ReplaceAll(book, "\n", " "), ". ")
		return until(n, func(i int) string {
			return fmt.Sprintf("%s: %s.\n", []string{"Ann", "Ben"}[i%2], sentences[i%len(sentences)])
		})
	}},
	{name: "question", tail: "\n\nQuestion: Who tells this story, and where does he sleep in the first night?\nAnswer:",
		text: func(_ *testing.T, book string, _ *rand.Rand, _ int) string { return book }},
	{name: "repetition", text: func(_ *testing.T, book string, _ *rand.Rand, n int) string {
		return until(n, func(int) string { return book[:600] + "\n" })
	}},
	{name: "translation", text: func(_ *testing.T, book string, _ *rand.Rand, n int) string {
		words := strings.Fields(book)
		return until(n, func(i int) string {
			at := i * 9 % (len(words) - 9)
			line := words[at : at+9]
			back := slices.Clone(line)
			slices.Reverse(back)
			return fmt.Sprintf("English: %s\nMirror: %s\n\n", strings.Join(line, " "), strings.Join(back, " "))
		})
	}},
	{name: "json", text: func(_ *testing.T, book string, r *rand.Rand, n int) string {
		words := strings.Fields(book)
		return "[\n" + until(n, func(i int) string {
			return fmt.Sprintf("  {\"id\": %d, \"name\": %q, \"age\": %d, \"city\": %q, \"active\": %v},\n",
				i, words[r.IntN(len(words))], 18+r.IntN(60), words[r.IntN(len(words))], r.IntN(2) == 0)
		})
	}},
	{name: "poetry", text: func(_ *testing.T, book string, _ *rand.Rand, n int) string {
		words := strings.Fields(book)
		return until(n, func(i int) string {
			at := i * 6 % (len(words) - 6)
			end := ",\n"
			if i%4 == 3 {
				end = ".\n\n"
			}
			return strings.Join(words[at:at+6], " ") + end
		})
	}},
	{name: "random"},
}
