package model

import "math"

// RopeScaling says how rotary frequencies are stretched for contexts longer
// than a model was first trained on.
type RopeScaling struct {
	// Type is "" or "none", "linear" (Chen et al. 2023), "llama3" (Llama 3.1)
	// or "yarn" (Peng et al. 2023).
	Type   string
	Factor float64
	// Original is the context of the first training, in tokens.
	Original int
	// LowFreq and HighFreq bound the blended band of llama3, in turns over the
	// original context.
	LowFreq, HighFreq float64
	// BetaFast and BetaSlow bound that of yarn, which scales queries and keys by
	// AttnFactor times the customary 0.1·ln(factor) + 1.
	BetaFast, BetaSlow, AttnFactor float64
}

// Rope holds the rotary frequencies of a model (Su et al. 2021).
type Rope struct {
	freqs     []float64 // radians per position, by pair
	magnitude float64   // of the rotated vectors; 1 but for yarn
}

// NewRope makes the frequencies for heads whose first dims elements rotate.
// factors, if not nil, divide them pair by pair (GGUF's rope_freqs).
func NewRope(dims int, base float64, s RopeScaling, factors []float32) *Rope {
	r := &Rope{freqs: make([]float64, dims/2), magnitude: 1}
	for i := range r.freqs {
		f := math.Pow(base, -2*float64(i)/float64(dims))
		if factors != nil {
			f /= float64(factors[i])
		}
		turns := f * float64(s.Original) / (2 * math.Pi)
		switch s.Type {
		case "linear":
			f /= s.Factor
		case "llama3":
			blend := (turns - s.LowFreq) / (s.HighFreq - s.LowFreq)
			blend = min(max(blend, 0), 1)
			f = f * (blend + (1-blend)/s.Factor)
		case "yarn":
			blend := 1 - yarnRamp(i, dims, base, s)
			f = f * (blend + (1-blend)/s.Factor)
		}
		r.freqs[i] = f
	}
	if s.Type == "yarn" {
		r.magnitude = s.AttnFactor * (0.1*math.Log(s.Factor) + 1)
	}
	return r
}

// yarnRamp is 0 for pairs that turn often over the original context and keep
// their frequency, 1 for those that are interpolated.
func yarnRamp(pair, dims int, base float64, s RopeScaling) float64 {
	at := func(turns float64) float64 {
		return float64(dims) * math.Log(float64(s.Original)/(turns*2*math.Pi)) / (2 * math.Log(base))
	}
	low := max(math.Floor(at(s.BetaFast)), 0)
	high := min(math.Ceil(at(s.BetaSlow)), float64(dims-1))
	if high <= low {
		high = low + 0.001
	}
	return min(max((float64(pair)-low)/(high-low), 0), 1)
}

// Pairs is the number of rotated pairs of a head.
func (r *Rope) Pairs() int { return len(r.freqs) }

// Angles fills cos and sin, of Pairs elements each, for a position.
func (r *Rope) Angles(cos, sin []float32, pos int) {
	for i, f := range r.freqs {
		s, c := math.Sincos(float64(pos) * f)
		cos[i], sin[i] = float32(c*r.magnitude), float32(s*r.magnitude)
	}
}
