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
		all := sources(r, places)
		if len(all) != places {
			t.Fatalf("%d sources for %d places", len(all), places)
		}
		for i, s := range all {
			seen[s]++
			if s == own && (i == 0 || all[i-1] == nobody) {
				t.Errorf("own states out of nothing at %d of %v", i, all)
			}
		}
	}
	if len(seen) != 3 || seen[targets] < seen[own] || seen[own] < seen[nobody]/4 {
		t.Errorf("sources: %v", seen)
	}
}
