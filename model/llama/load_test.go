package llama_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/internal/testutil/tiny"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/safetensors"
)

// A Hugging Face folder gives the same bits as a GGUF file of its weights.
func TestFolder(t *testing.T) {
	for _, format := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16} {
		for _, o := range []tiny.Options{
			{Type: format, KVHeads: 2},
			{Type: format, Untied: true, Rope: tiny.RopeLlama3, HeadDim: 16},
			{Type: format, Rope: tiny.RopeYarn, HeadDim: 16, Vocab: tiny.ByteLevel},
			{Type: format, Rope: tiny.RopeLinear, Window: 6},
		} {
			folder, err := safetensors.Open(tiny.Folder(t, o))
			if err != nil {
				t.Fatal(err)
			}
			defer folder.Close()
			tokens := randomTokens(1, 20, 300)
			file := newRig(t, source(t, o), cpu.Best(), kernel.KVQ8, 2)
			other := newRig(t, folder, cpu.Best(), kernel.KVQ8, 1)
			if a, b := file.model.Config, other.model.Config; !reflect.DeepEqual(a, b) {
				t.Errorf("the file has %+v, the folder %+v", a, b)
			}
			sameBits(t, fmt.Sprintf("%v, scaling %q", format, o.Rope), other.feed(other.full(), tokens, 8), file.feed(file.full(), tokens, 8))
		}
	}
}

// Llama 3's scaling as a tensor of factors is that of the metadata, but for
// their rounding to float32.
func TestFactors(t *testing.T) {
	o := tiny.Options{Rope: tiny.RopeLlama3, HeadDim: 16}
	tokens := randomTokens(1, 50, 300)
	a := newRig(t, source(t, o), cpu.Best(), kernel.KVF32, 1)
	o.Rope = tiny.RopeFactors
	b := newRig(t, source(t, o), cpu.Best(), kernel.KVF32, 1)
	o.Rope = tiny.RopeNone
	c := newRig(t, source(t, o), cpu.Best(), kernel.KVF32, 1)
	far := func(x, y [][]float32) (worst float64) {
		for r := range x {
			for i := range x[r] {
				worst = max(worst, math.Abs(float64(x[r][i]-y[r][i])))
			}
		}
		return worst
	}
	scaled := a.feed(a.full(), tokens, 50)
	if d := far(scaled, b.feed(b.full(), tokens, 50)); d > 1e-4 {
		t.Errorf("logits with factors are off by %g", d)
	}
	if d := far(scaled, c.feed(c.full(), tokens, 50)); d < 0.1 {
		t.Errorf("logits without scaling are off by %g, expected more: the test sees nothing", d)
	}
}

// load tries to load a model.
func load(src weights.Source) (*llama.Model, error) {
	team := par.NewTeam(1)
	defer team.Close()
	return llama.Load(context.Background(), src, llama.Options{Set: kernel.For(cpu.Best()), Team: team})
}

// One error lists every tensor that is missing, misshaped or unused.
func TestWrongTensors(t *testing.T) {
	o := tiny.Options{}
	var tensors []tensor.Tensor
	for _, x := range tiny.Tensors(o) {
		switch x.Name {
		case "blk.0.attn_k.weight", "output_norm.weight", "blk.1.ffn_norm.weight":
			continue
		case "blk.1.ffn_up.weight", "blk.0.attn_output.weight":
			x.Rows, x.Cols = x.Rows*2, x.Cols/2
		}
		tensors = append(tensors, x)
	}
	for _, name := range []string{"blk.0.attn_v.bias", "blk.2.ffn_up.weight", "rope_freqs.weight"} {
		tensors = append(tensors, tensor.Tensor{Name: name, Rows: 1, Cols: 32, Data: make([]byte, 4*32)})
	}
	src := write(t, tiny.Meta(o), tensors)
	meta := maps.Clone(src.Meta())
	meta[weights.TiedKey] = false
	_, err := load(edited{src, meta})
	if !errors.Is(err, weights.ErrCorrupt) {
		t.Fatalf("error is %v, expected ErrCorrupt", err)
	}
	for _, want := range []string{
		"tiny.gguf", "block_count is 2, the tensors are of 3 blocks",
		"output.weight is missing", "blk.0.attn_k.weight is missing", "output_norm.weight is missing", "blk.1.ffn_norm.weight is missing",
		"blk.1.ffn_up.weight is 128×16, expected 64×32", "blk.0.attn_output.weight is 64×16, expected 32×32",
		"blk.0.attn_v.bias is not used", "blk.2.ffn_up.weight is not used", "rope_freqs.weight is 1×32, expected 1×4",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

// edited is a source with other metadata.
type edited struct {
	weights.Source
	meta weights.Meta
}

func (e edited) Meta() weights.Meta { return e.meta }

// Metadata that makes no sense is refused before it costs memory.
func TestBadConfig(t *testing.T) {
	src := source(t, tiny.Options{KVHeads: 2, Rope: tiny.RopeLlama3})
	check := func(key string, value any, want error) {
		t.Helper()
		meta := maps.Clone(src.Meta())
		if meta[key] = value; value == nil {
			delete(meta, key)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := load(edited{src, meta})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, want) {
			t.Errorf("%s = %v: error is %v, expected %v", key, value, err, want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; want != nil && n > 16<<20 {
			t.Errorf("%s = %v: %d bytes were allocated for nothing", key, value, n)
		}
	}
	corrupt, unsupported := weights.ErrCorrupt, weights.ErrUnsupported
	for _, c := range []struct {
		key   string
		value any
		want  error
	}{
		{"general.architecture", "gemma", unsupported},
		{"general.architecture", nil, unsupported},
		{"llama.rope.scaling.type", "longrope", unsupported},
		{"llama.attention.value_length", int64(16), unsupported},
		{"llama.attention.head_count", int64(3), corrupt},
		{"llama.attention.head_count", nil, corrupt},
		{"llama.attention.head_count_kv", int64(3), corrupt},
		{"llama.attention.head_count_kv", int64(8), corrupt},
		{"llama.embedding_length", int64(33), corrupt},
		{"llama.block_count", int64(3), corrupt},
		{"llama.block_count", int64(1), corrupt},
		{"llama.block_count", int64(1 << 10), corrupt},
		{"llama.block_count", "2", corrupt},
		{"llama.block_count", 2.0, corrupt},
		{"llama.rope.dimension_count", int64(6), nil},
		{"llama.rope.dimension_count", int64(7), corrupt},
		{"llama.rope.dimension_count", int64(10), corrupt},
		{"llama.rope.freq_base", -1.0, corrupt},
		{"llama.rope.freq_base", math.NaN(), corrupt},
		{"llama.rope.freq_base", math.Inf(1), corrupt},
		{"llama.rope.freq_base", int64(20000), nil},
		{"llama.rope.scaling.factor", 0.0, corrupt},
		{"llama.rope.scaling.high_freq_factor", math.NaN(), corrupt},
		{"llama.rope.scaling.original_context_length", int64(0), corrupt},
		{"llama.attention.layer_norm_rms_epsilon", 0.0, corrupt},
		{"llama.attention.sliding_window", int64(-4), corrupt},
	} {
		check(c.key, c.value, c.want)
	}
	for _, key := range []string{
		"llama.block_count", "llama.embedding_length", "llama.feed_forward_length", "llama.context_length",
		"llama.attention.head_count", "llama.attention.head_count_kv", "llama.attention.key_length",
	} {
		for _, value := range []any{
			int64(0), int64(-1), int64(math.MaxInt32), int64(math.MaxUint32), int64(math.MinInt64), int64(math.MaxInt64),
			uint64(math.MaxUint64), []int64{2, 2}, true,
		} {
			check(key, value, corrupt)
		}
	}
}

// Loading stops when the context ends.
func TestLoadCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	team := par.NewTeam(1)
	defer team.Close()
	calls := 0
	opt := llama.Options{Set: kernel.For(cpu.Best()), Team: team, Progress: func(done, total int64) {
		if calls++; calls == 3 {
			cancel()
		}
	}}
	if _, err := llama.Load(ctx, source(t, tiny.Options{}), opt); !errors.Is(err, context.Canceled) || calls != 3 {
		t.Errorf("error %v after %d tensors, expected %v after 3", err, calls, context.Canceled)
	}
}

// Progress counts up to the total, and the forecast of memory is right.
func TestLoadProgress(t *testing.T) {
	for _, o := range []tiny.Options{{}, {Untied: true, Type: tensor.Q4_0}, {Type: tensor.F16, Dim: 36}} {
		for _, tier := range cpu.Tiers() {
			src := source(t, o)
			team := par.NewTeam(2)
			var last, all int64
			m, err := llama.Load(context.Background(), src, llama.Options{Set: kernel.For(tier), Team: team, Progress: func(done, total int64) {
				if done <= last || all != 0 && total != all {
					t.Errorf("progress went from %d of %d to %d of %d", last, all, done, total)
				}
				last, all = done, total
			}})
			team.Close()
			if err != nil {
				t.Fatal(err)
			}
			if last != all {
				t.Errorf("progress ended at %d of %d", last, all)
			}
			if got, want := llama.PackedBytes(src, tier), m.WeightBytes(); got != want {
				t.Errorf("tier %v: forecast of %d bytes for %d", tier, got, want)
			}
		}
	}
}
