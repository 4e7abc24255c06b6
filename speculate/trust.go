package speculate

// trust is what a level learns about its own tokens: the chance that one is
// accepted above, by its lead over the next best. A level over less than its
// verifier sees errs where the choice is close, so a draft had better end there.
type trust struct {
	prior       float64 // chance of any, assumed at first
	past, tried [grades]float64
}

const (
	grades      = 7
	trustDecay  = 0.98 // weight of an observation of a grade after the next one
	trustWeight = 4    // observations that an assumption counts for
	trustMisses = 1    // rejections, over all grades, that the prior counts for
	trustSeldom = 2    // rejections of a grade that an assumption counts for, where they are seldom
)

// gradeLeads are the leads, in logits, that separate grades, and gradeMisses how
// often tokens of a grade are rejected, in terms of all: what was measured on
// novels.
var (
	gradeLeads  = [grades - 1]float64{0.125, 0.25, 0.5, 1, 2, 4}
	gradeMisses = [grades]float64{5, 3.4, 1.6, 0.8, 0.5, 0.25, 0.05}
)

func grade(lead float64) int {
	g := 0
	for g < len(gradeLeads) && lead >= gradeLeads[g] {
		g++
	}
	return g
}

// assumed is how often tokens of a grade are rejected by the prior.
func (t *trust) assumed(g int) float64 {
	return min(1-t.prior/2, (1-t.prior)*gradeMisses[g])
}

// chance is that of a token with such a lead. How much better or worse the level
// is than assumed shows in all grades together before it does in each.
func (t *trust) chance(lead float64) float64 {
	missed, expected := float64(trustMisses), float64(trustMisses)
	for g := range t.tried {
		missed += t.tried[g] - t.past[g]
		expected += t.tried[g] * t.assumed(g)
	}
	g := grade(lead)
	prior := max(t.prior/2, 1-t.assumed(g)*missed/expected)
	weight := max(trustWeight, trustSeldom/(1-prior))
	return (t.past[g] + weight*prior) / (t.tried[g] + weight)
}

// mean is the chance of a token not known yet.
func (t *trust) mean() float64 {
	past, tried := trustWeight*t.prior, float64(trustWeight)
	for g := range t.past {
		past += t.past[g]
		tried += t.tried[g]
	}
	return past / tried
}

// observe records what became of a token.
func (t *trust) observe(lead float64, accepted bool) {
	g := grade(lead)
	t.past[g] *= trustDecay
	t.tried[g] = trustDecay*t.tried[g] + 1
	if accepted {
		t.past[g]++
	}
}
