package llama_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/shared"
	"triforce/weights/gguf"
)

// goldenBound is how far quantized keys, values and activations may bring the
// largest logits from those of an independent implementation in float32.
const goldenBound = 0.25

// goldenCase is a prompt and the largest logits that follow it.
type goldenCase struct {
	Name  string
	IDs   []int32 `json:"prompt_ids"`
	Top20 struct {
		IDs    []int32
		Logits []float64
	}
}

// Real models give the logits of an independent implementation.
func TestGolden(t *testing.T) {
	tier := cpu.Best()
	if tier <= cpu.Portable {
		t.Skip("too slow without vector kernels")
	}
	var fable struct{ Target, Draft struct{ Cases []goldenCase } }
	var smol struct{ Cases []goldenCase }
	readShared(t, "golden/fable.json", &fable)
	readShared(t, "golden/smollm2.json", &smol)
	for name, cases := range map[string][]goldenCase{
		"fable-target.gguf":               fable.Target.Cases,
		"fable-draft.gguf":                fable.Draft.Cases,
		"SmolLM2-135M-Instruct.Q4_1.gguf": smol.Cases,
	} {
		t.Run(name, func(t *testing.T) {
			src, err := gguf.Open(shared.Path(t, filepath.Join("models", name)))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			r := newRig(t, src, tier, kernel.KVQ8, 2)
			for _, c := range cases {
				if len(c.IDs) > 1000 && testing.Short() {
					continue
				}
				cache := r.full()
				r.prefill(cache, c.IDs[:len(c.IDs)-1], maxRows)
				got := r.feed(cache, c.IDs[len(c.IDs)-1:], 1)[0]
				worst := 0.0
				for i, id := range c.Top20.IDs {
					worst = max(worst, math.Abs(float64(got[id])-c.Top20.Logits[i]))
				}
				t.Logf("%s: %d tokens: logits are off by %.3f", c.Name, len(c.IDs), worst)
				if len(c.Top20.IDs) != 20 || !(worst < goldenBound) {
					t.Errorf("%s: %d logits are off by %g, bound %g", c.Name, len(c.Top20.IDs), worst, goldenBound)
				}
			}
		})
	}
}

func readShared(t testing.TB, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(shared.Path(t, name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
