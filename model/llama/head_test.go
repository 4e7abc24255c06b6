package llama_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/internal/testutil/tiny"
	"triforce/model/llama"
	"triforce/weights"
	"triforce/weights/gguf"
)

func newTeam(t *testing.T) *par.Team {
	team := par.NewTeam(1)
	t.Cleanup(team.Close)
	return team
}

// trim keeps the given tokens of an untied model's output head.
func trim(t *testing.T, o tiny.Options, head any, tokens []int) weights.Source {
	t.Helper()
	meta := append(tiny.Meta(o), gguf.KV{Key: llama.HeadKey, Value: head})
	tensors := tiny.Tensors(o)
	for i := range tensors {
		if w := &tensors[i]; w.Name == "output.weight" {
			var data []byte
			for _, token := range tokens {
				data = append(data, w.Row(token)...)
			}
			w.Rows, w.Data = len(tokens), data
		}
	}
	return write(t, meta, tensors)
}

// A trimmed head gives its tokens the logits that the whole head gives them, and
// no others any.
func TestTrimmedHead(t *testing.T) {
	o := tiny.Options{Untied: true, Seed: 3}
	var head []int64
	var tokens []int
	for i := 2; i < len(o.Vocab.Tokens(0)); i += 1 + i%5 {
		head, tokens = append(head, int64(i)), append(tokens, i)
	}
	for _, tier := range cpu.Tiers() {
		whole := newRig(t, source(t, o), tier, kernel.KVQ8, 1)
		text := randomTokens(5, 40, whole.model.Vocab)
		want := whole.feed(whole.full(), text, 8)
		for r := range want {
			next := 0
			for i := range want[r] {
				if next < len(tokens) && tokens[next] == i {
					next++
				} else {
					want[r][i] = float32(math.Inf(-1))
				}
			}
		}
		for _, threads := range []int{1, 2} {
			trimmed := newRig(t, trim(t, o, head, tokens), tier, kernel.KVQ8, threads)
			if n := trimmed.model.HeadRows(); n != len(tokens) {
				t.Fatalf("HeadRows is %d, expected %d", n, len(tokens))
			}
			for _, width := range []int{1, 7, 40} {
				sameBits(t, tier.String(), trimmed.feed(trimmed.full(), text, width), want)
			}
		}
	}
}

func TestDamagedHead(t *testing.T) {
	o := tiny.Options{Untied: true}
	for _, c := range []struct {
		head any
		want string
	}{
		{[]int64{1, 2, 2}, "token 2 after 2 at 2"},
		{[]int64{-1, 2, 3}, "token -1"},
		{[]int64{1, 2, 1 << 20}, "below"},
		{"all", "list of tokens"},
		{[]int64{1, 2, 3, 4}, "output.weight is 3×32, expected 4×32"},
	} {
		src := trim(t, o, c.head, []int{1, 2, 3})
		_, err := llama.ParseConfig(src)
		if err == nil {
			_, err = llama.Load(t.Context(), src, llama.Options{Set: kernel.For(cpu.Portable), Team: newTeam(t)})
		}
		if !errors.Is(err, weights.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, expected %q", c.head, err, c.want)
		}
	}
	tied := write(t, append(tiny.Meta(tiny.Options{}), gguf.KV{Key: llama.HeadKey, Value: []int64{1, 2}}), tiny.Tensors(tiny.Options{}))
	_, err := llama.Load(t.Context(), tied, llama.Options{Set: kernel.For(cpu.Portable), Team: newTeam(t)})
	if err == nil || !strings.Contains(err.Error(), "output.weight is missing") {
		t.Errorf("tied: %v", err)
	}
}
