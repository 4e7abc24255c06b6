// Package sample turns the logits of one position into a token.
//
// Penalties, top-k, top-p, min-p and temperature are applied in that order, as
// llama.cpp does. The token is then the largest of logit/temperature + noise,
// where the noise is a pure function of seed, position and token: the Gumbel
// trick, which draws from the softmax. Because the noise does not depend on who
// asks, a draft model and its target disagree only where their logits do, and
// the text does not depend on how it was drafted. For acceptance by rejection
// the same processed distribution is available as a Dist.
//
// A Sampler owns its scratch memory and serves one goroutine; it reads logits
// and history only during the call and never changes them. After its buffers
// have grown to the vocabulary it allocates nothing. All functions are pure:
// the same logits, options and history give the same result.
package sample

import (
	"fmt"
	"math"
)

// Options say how to choose a token. Zero Temp is greedy: the largest logit
// after penalties, the lowest id among equals.
type Options struct {
	Temp          float64 // divides the logits; 0 = greedy
	TopK          int     // keep the k largest logits; 0 = all
	TopP          float64 // keep the smallest set with this probability; 1 = all
	MinP          float64 // keep tokens at least this probable relative to the best; 0 = all
	RepeatPenalty float64 // weakens recent tokens; 1 = off
	RepeatLastN   int     // recent tokens looked at; 0 = none, -1 = the whole history
	Seed          uint64
}

// Defaults are llama.cpp's customary values.
func Defaults() Options {
	return Options{Temp: 0.8, TopK: 40, TopP: 0.95, MinP: 0.05, RepeatPenalty: 1, RepeatLastN: 64}
}

// Validate reports the first option that is out of range, by its flag.
func (o Options) Validate() error {
	finite := func(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
	switch {
	case !finite(o.Temp) || o.Temp < 0:
		return fmt.Errorf("sample: --temp %v: expected a number of at least 0", o.Temp)
	case o.TopK < 0:
		return fmt.Errorf("sample: --top-k %d: expected at least 0 (0 = all)", o.TopK)
	case !(o.TopP > 0 && o.TopP <= 1):
		return fmt.Errorf("sample: --top-p %v: expected more than 0 and at most 1", o.TopP)
	case !(o.MinP >= 0 && o.MinP <= 1):
		return fmt.Errorf("sample: --min-p %v: expected 0 to 1", o.MinP)
	case !finite(o.RepeatPenalty) || o.RepeatPenalty <= 0:
		return fmt.Errorf("sample: --repeat-penalty %v: expected a number above 0", o.RepeatPenalty)
	case o.RepeatLastN < -1:
		return fmt.Errorf("sample: --repeat-last-n %d: expected at least -1 (-1 = the whole history)", o.RepeatLastN)
	}
	return nil
}

// String is the line printed at the head of a run.
func (o Options) String() string {
	penalty := "off"
	if o.RepeatPenalty != 1 && o.RepeatLastN != 0 {
		penalty = fmt.Sprintf("%v over %d", o.RepeatPenalty, o.RepeatLastN)
	}
	if o.Temp == 0 {
		return fmt.Sprintf("greedy, repeat penalty %s", penalty)
	}
	return fmt.Sprintf("temp %v, top-k %d, top-p %v, min-p %v, repeat penalty %s, seed %d",
		o.Temp, o.TopK, o.TopP, o.MinP, penalty, o.Seed)
}
