package distill

import (
	"math/rand/v2"
	"testing"
)

// Every place has a source; the student's own state is given only after a place
// that had one; nobody's, own and the target's all occur.
func TestSources(t *testing.T) {
	seen := map[source]int{}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		places := 1 + r.IntN(100)
		prompt := max(0, r.IntN(2*places)-places)
		all := sources(r, places, prompt)
		if len(all) != places {
			t.Fatalf("%d sources for %d places", len(all), places)
		}
		for i, s := range all {
			if i >= prompt {
				seen[s]++
			} else if s != nobody {
				t.Errorf("%v at %d of a prompt of %d", s, i, prompt)
			}
			if s == own && (i == 0 || all[i-1] == nobody) {
				t.Errorf("own states out of nothing at %d of %v", i, all)
			}
		}
	}
	if len(seen) != 3 || seen[targets] < seen[own] || seen[own] < seen[nobody]/4 {
		t.Errorf("sources: %v", seen)
	}
}

// A prompt ends with the first place about which the target was asked, which has no
// state before it either; a text that was asked about from the start has none.
func TestPrompt(t *testing.T) {
	for _, c := range []struct{ first, want int }{{0, 0}, {1, 2}, {5, 6}, {8, 0}} {
		a := newAnswers(8, 32)
		for i := c.first; i < a.places(); i++ {
			a.probs[i*topK] = 1
		}
		if got := a.prompt(); got != c.want {
			t.Errorf("asked from %d on: a prompt of %d places, want %d", c.first, got, c.want)
		}
	}
}
