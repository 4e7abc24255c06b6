package sample

import (
	"math"
	"slices"
)

// LogProb is a token with the logarithm of its softmax probability before
// penalties, filters and temperature.
type LogProb struct {
	ID    int32
	Value float64
}

// LogProbs is the k most probable tokens, best first.
func LogProbs(logits []float32, k int) []LogProb {
	list := largest(make([]candidate, 0, min(k, len(logits))), logits, k)
	slices.SortFunc(list, byRank)
	norm := logSumExp(logits)
	out := make([]LogProb, len(list))
	for i, c := range list {
		out[i] = LogProb{c.id, float64(c.logit) - norm}
	}
	return out
}

// LogProbOf is the log-probability of one token.
func LogProbOf(logits []float32, id int32) float64 {
	return float64(logits[id]) - logSumExp(logits)
}

func logSumExp(logits []float32) float64 {
	top := float64(slices.Max(logits))
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum)
}
