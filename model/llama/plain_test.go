package llama_test

import (
	"fmt"
	"math"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/testutil/tiny"
	"triforce/model"
	"triforce/tensor"
)

// plain is a Llama as the textbook has it, in float64: the judge of the forward
// pass.
type plain struct {
	tiny.Options
	w map[string][]float64
	// k and v are (layers)(tokens)(KVHeads·HeadDim).
	k, v [][][]float64
}

func newPlain(o tiny.Options) *plain {
	p := &plain{Options: o.Fill(), w: map[string][]float64{}}
	for _, t := range tiny.Tensors(o) {
		x := make([]float32, t.Rows*t.Cols)
		tensor.Dequantize(x, t.DType, t.Data)
		for _, v := range x {
			p.w[t.Name] = append(p.w[t.Name], float64(v))
		}
	}
	p.k, p.v = make([][][]float64, p.Layers), make([][][]float64, p.Layers)
	return p
}

func dot(a, b []float64) (s float64) {
	for i := range a {
		s += a[i] * b[i]
	}
	return s
}

func (p *plain) times(name string, x []float64) []float64 {
	w := p.w[name]
	y := make([]float64, len(w)/len(x))
	for i := range y {
		y[i] = dot(w[i*len(x):(i+1)*len(x)], x)
	}
	return y
}

func (p *plain) norm(name string, x []float64) []float64 {
	scale := 1 / math.Sqrt(dot(x, x)/float64(len(x))+tiny.Epsilon)
	y := make([]float64, len(x))
	for i := range x {
		y[i] = x[i] * scale * p.w[name][i]
	}
	return y
}

// frequency of a rotary pair, by its wavelength, and the magnitude of what is
// rotated.
func (p *plain) frequency(pair int) (f, magnitude float64) {
	wave := 2 * math.Pi * math.Pow(tiny.RopeBase, 2*float64(pair)/float64(p.RopeDims))
	f, magnitude = 2*math.Pi/wave, 1
	switch p.Rope {
	case tiny.RopeLinear:
		f /= tiny.RopeFactor
	case tiny.RopeLlama3, tiny.RopeFactors:
		long, short := float64(tiny.RopeOriginal)/tiny.LowFreq, float64(tiny.RopeOriginal)/tiny.HighFreq
		switch {
		case wave > long:
			f /= tiny.RopeFactor
		case wave > short:
			smooth := (tiny.RopeOriginal/wave - tiny.LowFreq) / (tiny.HighFreq - tiny.LowFreq)
			f = (1-smooth)*f/tiny.RopeFactor + smooth*f
		}
	case tiny.RopeYarn:
		// The pairs that turn BetaFast and BetaSlow times bound a ramp.
		at := func(turns float64) float64 {
			return float64(p.RopeDims) * math.Log(tiny.RopeOriginal/(turns*2*math.Pi)) / (2 * math.Log(tiny.RopeBase))
		}
		low, high := max(math.Floor(at(tiny.BetaFast)), 0), min(math.Ceil(at(tiny.BetaSlow)), float64(p.RopeDims-1))
		ramp := min(max((float64(pair)-low)/max(high-low, 0.001), 0), 1)
		f = ramp*f/tiny.RopeFactor + (1-ramp)*f
		magnitude = 0.1*math.Log(tiny.RopeFactor) + 1
	}
	return f, magnitude
}

// rotate turns the heads of x to a position.
func (p *plain) rotate(x []float64, pos int) {
	half := p.RopeDims / 2
	for h := 0; h < len(x); h += p.HeadDim {
		for i := range half {
			f, m := p.frequency(i)
			sin, cos := math.Sincos(float64(pos) * f)
			a, b := x[h+i], x[h+i+half]
			x[h+i], x[h+i+half] = m*(a*cos-b*sin), m*(b*cos+a*sin)
		}
	}
}

// token returns the logits of a token at a position that attends to the given
// earlier tokens and itself.
func (p *plain) token(id int32, pos int, past []int) []float64 {
	x := append([]float64(nil), p.w["token_embd.weight"][int(id)*p.Dim:(int(id)+1)*p.Dim]...)
	for l := range p.Layers {
		name := func(s string) string { return fmt.Sprintf("blk.%d.%s.weight", l, s) }
		h := p.norm(name("attn_norm"), x)
		q, k, v := p.times(name("attn_q"), h), p.times(name("attn_k"), h), p.times(name("attn_v"), h)
		p.rotate(q, pos)
		p.rotate(k, pos)
		p.k[l], p.v[l] = append(p.k[l], k), append(p.v[l], v)
		sees := append(past[:len(past):len(past)], len(p.k[l])-1)
		found := make([]float64, len(q))
		for head := range p.Heads {
			from := head / (p.Heads / p.KVHeads) * p.HeadDim
			out := found[head*p.HeadDim : (head+1)*p.HeadDim]
			sum := 0.0
			for _, j := range sees {
				score := dot(q[head*p.HeadDim:(head+1)*p.HeadDim], p.k[l][j][from:from+p.HeadDim])
				weight := math.Exp(score / math.Sqrt(float64(p.HeadDim)))
				sum += weight
				for i := range out {
					out[i] += weight * p.v[l][j][from+i]
				}
			}
			for i := range out {
				out[i] /= sum
			}
		}
		for i, y := range p.times(name("attn_output"), found) {
			x[i] += y
		}
		h = p.norm(name("ffn_norm"), x)
		gate, up := p.times(name("ffn_gate"), h), p.times(name("ffn_up"), h)
		for i, g := range gate {
			gate[i] = g / (1 + math.Exp(-g)) * up[i]
		}
		for i, y := range p.times(name("ffn_down"), gate) {
			x[i] += y
		}
	}
	output := "output.weight"
	if !p.Untied {
		output = "token_embd.weight"
	}
	return p.times(output, p.norm("output_norm.weight", x))
}

// tree returns the logits of tokens that each follow their parent, -1 for none.
func (p *plain) tree(tokens []int32, parents []int32) [][]float64 {
	var all [][]float64
	for i, id := range tokens {
		var past []int
		for j := parents[i]; j >= 0; j = parents[j] {
			past = append(past, int(j))
		}
		pos := len(past)
		if p.Window > 0 {
			past = past[:min(len(past), p.Window-1)]
		}
		all = append(all, p.token(id, pos, past))
	}
	return all
}

// chain returns the parents of tokens that each follow the one before.
func chain(n int) []int32 {
	parents := make([]int32, n)
	for i := range parents {
		parents[i] = int32(i) - 1
	}
	return parents
}

// distance is the largest difference of two tables of logits.
func distance(t testing.TB, got [][]float32, want [][]float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d rows, expected %d", len(got), len(want))
	}
	worst := 0.0
	for r := range want {
		if len(got[r]) != len(want[r]) {
			t.Fatalf("%d logits, expected %d", len(got[r]), len(want[r]))
		}
		for i := range want[r] {
			d := math.Abs(float64(got[r][i]) - want[r][i])
			if !(d <= worst) { // NaN too
				worst = d
			}
		}
	}
	return worst
}

// floatBound is how far logits, which here reach from -8 to 8, may be from those
// in float64 if all is done in float32.
const floatBound = 5e-5

// The forward pass is that of the textbook, for every layout of heads, kind of
// rotary scaling and of attention, as a chain and as a tree.
func TestAgainstTextbook(t *testing.T) {
	for _, c := range []struct {
		name string
		tiny.Options
	}{
		{"mha", tiny.Options{}},
		{"gqa", tiny.Options{KVHeads: 2, Untied: true}},
		{"mqa", tiny.Options{KVHeads: 1, Vocab: tiny.ByteLevel, Padding: 2}},
		{"wide heads", tiny.Options{Heads: 2, HeadDim: 24, RopeDims: 16}},
		{"odd sizes", tiny.Options{Dim: 36, FFN: 50, Heads: 3, HeadDim: 10, Layers: 1}},
		{"linear", tiny.Options{Rope: tiny.RopeLinear}},
		{"llama3", tiny.Options{Rope: tiny.RopeLlama3, HeadDim: 16}},
		{"factors", tiny.Options{Rope: tiny.RopeFactors, HeadDim: 16}},
		{"yarn", tiny.Options{Rope: tiny.RopeYarn, HeadDim: 16}},
		{"window", tiny.Options{Window: 7, KVHeads: 2}},
		{"window of one", tiny.Options{Window: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.Seed = 7
			r := newRig(t, source(t, c.Options), cpu.Reference, kernel.KVF32, 2)
			const trunk = 24
			tokens, parents := randomTokens(3, 40, r.model.Vocab), chain(40)
			for i := trunk; i < len(parents); i++ {
				parents[i] = max(int32(i-1-i%3*2), trunk-1) // branches of branches
			}
			want := newPlain(c.Options).tree(tokens, parents)
			cache := r.full()
			got := r.feed(cache, tokens[:trunk], 9)
			batch := model.Batch{Tokens: tokens[trunk:], Logits: len(tokens) - trunk}
			for _, up := range parents[trunk:] {
				batch.Parents = append(batch.Parents, up-trunk)
			}
			got = append(got, r.pass(cache, batch)...)
			if d := distance(t, got, want); !(d < floatBound) {
				t.Errorf("logits are off by %g, bound %g", d, floatBound)
			} else {
				t.Logf("logits are off by %.1e", d)
			}
		})
	}
}

// formatBound is how far logits may be from the textbook's on the same stored
// weights. Quantized formats have their activations rounded to 15 bits, and
// those whose scales are products have these rounded to float16; scores up to
// 10 make the most of it.
func formatBound(t tensor.DType) float64 {
	switch t {
	case tensor.F32, tensor.F16, tensor.BF16:
		return floatBound
	case tensor.Q4_0, tensor.Q4_1, tensor.Q5_0, tensor.Q5_1, tensor.Q8_0, tensor.IQ4_NL:
		return 3e-3
	default:
		return 3e-2
	}
}

// Every stored format of weights gives the textbook's logits, to the same bits
// on every tier but the reference, which does without the rounding.
func TestFormats(t *testing.T) {
	for _, format := range tensor.DTypes() {
		t.Run(format.String(), func(t *testing.T) {
			o := tiny.Options{Seed: 5, Dim: 64, FFN: 96, HeadDim: 16, KVHeads: 2, Type: format, Untied: true}
			if format.BlockSize() == 256 {
				o.Dim, o.FFN, o.HeadDim, o.Layers = 256, 256, 64, 1
			}
			src := source(t, o)
			tokens := randomTokens(4, 12, 300)
			want := newPlain(o).tree(tokens, chain(len(tokens)))
			var first [][]float32
			for _, tier := range cpu.Tiers()[1:] {
				r := newRig(t, src, tier, kernel.KVF32, 2)
				got := r.feed(r.full(), tokens, 5)
				if first == nil {
					first = got
				}
				sameBits(t, tier.String(), got, first)
			}
			r := newRig(t, src, cpu.Reference, kernel.KVF32, 2)
			if d := distance(t, r.feed(r.full(), tokens, 5), want); !(d < floatBound) {
				t.Errorf("reference logits are off by %g, bound %g", d, floatBound)
			}
			d, bound := distance(t, first, want), formatBound(format)
			t.Logf("logits are off by %.1e", d)
			if !(d < bound) {
				t.Errorf("logits are off by %g, bound %g", d, bound)
			}
		})
	}
}

// Keys and values in fewer bits give nearly the textbook's logits, to the same
// bits on every tier.
func TestKVTypes(t *testing.T) {
	o := tiny.Options{Seed: 6, KVHeads: 2}
	src := source(t, o)
	tokens := randomTokens(4, 40, 300)
	want := newPlain(o).tree(tokens, chain(len(tokens)))
	for kv, bound := range map[kernel.KVType]float64{kernel.KVF32: floatBound, kernel.KVF16: 1e-2, kernel.KVQ8: 0.25} {
		var first [][]float32
		for _, tier := range cpu.Tiers() {
			r := newRig(t, src, tier, kv, 2)
			got := r.feed(r.full(), tokens, 7)
			if first == nil {
				first = got
			}
			sameBits(t, fmt.Sprintf("%v, tier %v", kv, tier), got, first)
		}
		d := distance(t, first, want)
		t.Logf("keys and values in %v: logits are off by %.1e", kv, d)
		if !(d < bound) {
			t.Errorf("keys and values in %v: logits are off by %g, bound %g", kv, d, bound)
		}
	}
}
