package engine

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"triforce/demo"
	"triforce/weights"
)

// The shape of a model says what the model itself does.
func TestShape(t *testing.T) {
	o := Defaults()
	o.Threads, o.Context = 1, 600
	s, err := OpenShape("", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(context.Background(), "", o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	w := e.Work(511, 1)
	if s.WeightBytes(o) != e.WeightBytes() || s.KVBytes(o, 512) != w.KV || s.Context() != 32768 || s.Name() != Embedded {
		t.Errorf("weights %d and keys and values %d, expected %d and %d", s.WeightBytes(o), s.KVBytes(o, 512), e.WeightBytes(), w.KV)
	}
	last := 0
	costs, err := s.Time(context.Background(), o, []int{0, 512}, []int{1, 4}, func(done, total int) {
		if done != last+1 || total != 20 {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := costs.At(0, 1), costs.At(4096, 4); a <= 0 || b <= 0 || last != 20 {
		t.Errorf("costs %v and %v after %d", a, b, last)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Time(ctx, o, []int{0}, []int{1}, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// The header of a file is enough, and so is a config.json.
func TestOpenShape(t *testing.T) {
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	whole, err := OpenShape("", "")
	if err != nil {
		t.Fatal(err)
	}
	head, err := OpenShape(write("head.gguf", string(demo.Target()[:200<<10])), "")
	if err != nil || head.WeightBytes(Defaults()) != whole.WeightBytes(Defaults()) {
		t.Errorf("a header: %v", err)
	}
	const config = `{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "vocab_size": 50, "max_position_embeddings": 99, "tie_word_embeddings": true}`
	o := Defaults()
	o.Threads = 1
	for _, c := range []struct {
		path, dtype string
		fails       string
		is          error
	}{
		{path: write("config.json", config)},
		{path: folder, dtype: "q4_0"},
		{path: folder, dtype: "bf16"},
		{path: folder, dtype: "q4_K", fails: "blocks of 256", is: ErrUsage},
		{path: folder, dtype: "q3", fails: "--weight-type q3", is: ErrUsage},
		{path: "", dtype: "q4_0", fails: "--weight-type", is: ErrUsage},
		{path: write("v.json", strings.Replace(config, `"vocab_size": 50,`, "", 1)), fails: "vocab_size", is: weights.ErrCorrupt},
		{path: write("d.json", strings.Replace(config, `"hidden_size": 64,`, "", 1)), fails: "embedding_length is missing", is: weights.ErrCorrupt},
		{path: write("m.json", strings.Replace(config, "llama", "mamba", 1)), fails: "mamba", is: weights.ErrUnsupported},
		{path: write("cut.gguf", string(demo.Target()[:1000])), fails: "cut.gguf", is: weights.ErrCorrupt},
		{path: filepath.Join(folder, "none.gguf"), fails: "none.gguf", is: os.ErrNotExist},
	} {
		s, err := OpenShape(c.path, c.dtype)
		if c.fails != "" {
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s %s: %v, expected %q", c.path, c.dtype, err, c.fails)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", c.path, c.dtype, err)
			continue
		}
		if costs, err := s.Time(context.Background(), o, []int{0}, []int{1, 2}, nil); err != nil || costs.At(9, 2) <= 0 || s.Context() != 99 {
			t.Errorf("%s %s: %v", c.path, c.dtype, err)
		}
	}
}

func TestCosts(t *testing.T) {
	c := Costs{depths: []int{0, 100}, rows: []int{1, 3}, seconds: [][]float64{{1, 2}, {3, 6}}, window: 1000}
	for _, x := range []struct {
		depth, rows int
		want        float64
	}{{0, 1, 1}, {100, 3, 6}, {50, 1, 2}, {0, 2, 1.5}, {50, 2, 3}, {200, 1, 5}, {0, 5, 3}, {1000, 1, 21}, {5000, 1, 21}} {
		if got := c.At(x.depth, x.rows); got != x.want {
			t.Errorf("%d rows at %d cost %v, expected %v", x.rows, x.depth, got, x.want)
		}
	}
	noisy := Costs{rows: []int{1, 2}, seconds: [][]float64{{3, 2}, {9, 5}, {4, 7}}}
	noisy.smooth()
	if !reflect.DeepEqual(noisy.seconds, [][]float64{{2.5, 2.5}, {5.5, 7}, {5.5, 7}}) {
		t.Errorf("smoothed %v", noisy.seconds)
	}
	// Three times the layers that were timed, of which the logits are no part.
	kinds := timedKinds([]int{1, 4}, true)
	for i, seconds := range []float64{3, 8, 2, 9} {
		kinds[i].seconds = []float64{seconds, seconds - 1, seconds + 9}
	}
	if got := wholePasses(kinds, 2, 2); !reflect.DeepEqual(got, []float64{3 + 2*2, 8 + 2*8}) || !reflect.DeepEqual(kinds[3], timedKind{rows: 4}) {
		t.Errorf("whole passes %v, left %+v", got, kinds[3])
	}
	cold := Costs{depths: []int{0, 100, 200}, cold: []float64{1, 3, 3}, bytes: cachesHold / 1000.}
	for _, x := range []struct {
		seen, depth int
		want        float64
	}{{0, 1000, 1}, {50, 5000, 2}, {50, 500, 1}, {150, 1000, 3}} {
		if got := cold.Cold(x.seen, x.depth); got != x.want {
			t.Errorf("cold over %d after %d: %v, expected %v", x.seen, x.depth, got, x.want)
		}
	}
	if got := c.Cold(50, 1e6); got != 0 {
		t.Errorf("cold where it was not timed: %v", got)
	}
	one := Costs{depths: []int{5}, rows: []int{1}, seconds: [][]float64{{7}}}
	if one.At(99, 9) != 7 {
		t.Error("a single measurement must stand for all")
	}
}

// Of a large model some layers are run, and not to its whole depth.
func TestTimedDepths(t *testing.T) {
	s, err := OpenShape(filepath.Join("..", "docs", "shapes", "llama-3-8b-1m.json"), "q4_0")
	if err != nil {
		t.Fatal(err)
	}
	part := &Shape{s.source.first(2)}
	got := part.timedDepths(Defaults(), []int{0, 8192, 1 << 20}, 0)
	if len(got) != 4 || got[3] < 8192 || got[3] > 1<<18 || got[2] != got[3]/2 {
		t.Errorf("depths %v", got)
	}
	if n := len(part.source.names); n != 3+2*9 {
		t.Errorf("%d tensors", n)
	}
}
