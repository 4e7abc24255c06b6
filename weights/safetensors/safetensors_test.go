package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"triforce/tensor"
	"triforce/weights"
)

const tied = `{"model_type": "llama", "tie_word_embeddings": true}`

// folder writes files, given by name, into a new folder.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// file is a safetensors file of that header and so many bytes of data.
func file(header string, data int) string {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	b = append(b, header...)
	for i := range data {
		b = append(b, byte(i+1))
	}
	return string(b)
}

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// The folder is what the Python package transformers saves (generate.py), which
// also gave the checksums of the tensors' bytes.
func TestTiny(t *testing.T) {
	dir := filepath.Join("testdata", "tiny")
	for _, path := range []string{dir, filepath.Join(dir, "model.safetensors")} {
		f := open(t, path)
		want := weights.Meta{
			"general.architecture": "llama", "general.name": "tiny",
			"llama.context_length": int64(64), "llama.embedding_length": int64(8), "llama.block_count": int64(1),
			"llama.feed_forward_length": int64(12), "llama.vocab_size": int64(16),
			"llama.attention.head_count": int64(2), "llama.attention.head_count_kv": int64(1),
			"llama.attention.key_length": int64(4), "llama.attention.value_length": int64(4),
			"llama.attention.layer_norm_rms_epsilon": 1e-5,
			"llama.rope.dimension_count":             int64(4), "llama.rope.freq_base": 5e5,
			"llama.rope.scaling.type": "llama3", "llama.rope.scaling.factor": 8.0, "llama.rope.scaling.original_context_length": int64(32),
			"llama.rope.scaling.low_freq_factor": 1.0, "llama.rope.scaling.high_freq_factor": 4.0,
			"tokenizer.ggml.bos_token_id": int64(1), "tokenizer.ggml.eos_token_id": int64(2), "tokenizer.ggml.eos_token_ids": []int64{2, 3},
		}
		if !reflect.DeepEqual(f.Meta(), want) {
			t.Errorf("metadata\n got %v\nwant %v", f.Meta(), want)
		}
		names := f.Names()
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "blk.0.attn_k.bias blk.0.attn_k.weight blk.0.attn_norm.weight blk.0.attn_output.bias blk.0.attn_output.weight "+
			"blk.0.attn_q.bias blk.0.attn_q.weight blk.0.attn_v.bias blk.0.attn_v.weight blk.0.ffn_down.weight blk.0.ffn_gate.weight "+
			"blk.0.ffn_norm.weight blk.0.ffn_up.weight output.weight output_norm.weight token_embd.weight" {
			t.Errorf("tensors %s", got)
		}
		for _, c := range []struct {
			name       string
			rows, cols int
			sum        uint32
		}{
			{"token_embd.weight", 16, 8, 0xa4f35ad6},
			{"blk.0.attn_q.bias", 1, 8, 0xcb7a7883},
			{"blk.0.ffn_down.weight", 8, 12, 0x2dfef377},
			{"output.weight", 16, 8, 0x6afef76d},
		} {
			f.Release(c.name)
			x, ok := f.Tensor(c.name)
			if !ok || x.DType != tensor.BF16 || x.Rows != c.rows || x.Cols != c.cols || x.Order != nil {
				t.Errorf("%s: %d×%d %v", c.name, x.Rows, x.Cols, x.DType)
			} else if got := crc32.ChecksumIEEE(x.Data); got != c.sum {
				t.Errorf("%s: checksum %#x, want %#x", c.name, got, c.sum)
			}
		}
	}
}

func TestTranslate(t *testing.T) {
	for name, want := range map[string]string{
		"model.embed_tokens.weight":                    "token_embd.weight",
		"model.norm.weight":                            "output_norm.weight",
		"lm_head.weight":                               "output.weight",
		"model.layers.0.input_layernorm.weight":        "blk.0.attn_norm.weight",
		"model.layers.11.self_attn.q_proj.bias":        "blk.11.attn_q.bias",
		"model.layers.2.self_attn.k_proj.weight":       "blk.2.attn_k.weight",
		"model.layers.2.self_attn.v_proj.weight":       "blk.2.attn_v.weight",
		"model.layers.2.self_attn.o_proj.weight":       "blk.2.attn_output.weight",
		"model.layers.2.mlp.gate_proj.weight":          "blk.2.ffn_gate.weight",
		"model.layers.2.mlp.up_proj.weight":            "blk.2.ffn_up.weight",
		"model.layers.2.mlp.down_proj.weight":          "blk.2.ffn_down.weight",
		"model.layers.2.post_attention_layernorm.bias": "blk.2.ffn_norm.bias",
		"model.layers.3.self_attn.rotary_emb.inv_freq": "",
		// What has no other name keeps its own.
		"model.layers.01.input_layernorm.weight": "model.layers.01.input_layernorm.weight",
		"model.layers.x.input_layernorm.weight":  "model.layers.x.input_layernorm.weight",
		"layers.1.input_layernorm.weight":        "layers.1.input_layernorm.weight",
		"model.layers.1.mlp.experts.weight":      "model.layers.1.mlp.experts.weight",
		"model.layers.1.input_layernorm":         "model.layers.1.input_layernorm",
		"lm_head.scale":                          "lm_head.scale",
		"":                                       "",
		"x":                                      "x",
	} {
		if got := translate(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name, config, generation string
		want                     weights.Meta // besides architecture and name
	}{
		{"old spelling of rope", `"rope_theta": 10000, "rope_scaling": {"type": "linear", "factor": 4}`, ``, weights.Meta{
			"llama.rope.freq_base": 1e4, "llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}},
		{"no scaling", `"rope_theta": 1e6, "rope_scaling": null`, ``, weights.Meta{"llama.rope.freq_base": 1e6}},
		{"default scaling", `"rope_parameters": {"rope_theta": 2.5, "rope_type": "default", "factor": 3}`, ``, weights.Meta{"llama.rope.freq_base": 2.5}},
		{"yarn", `"rope_parameters": {"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}`, ``, weights.Meta{
			"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 16.0, "llama.rope.scaling.original_context_length": int64(4096),
			"llama.rope.scaling.yarn_beta_fast": 32.0, "llama.rope.scaling.yarn_beta_slow": 1.0}},
		{"yarn with its own magnitude", `"rope_scaling": {"rope_type": "yarn", "factor": 4, "attention_factor": 1}`, ``, weights.Meta{
			"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0, "llama.rope.scaling.attn_factor": 1 / (0.1*math.Log(4) + 1)}},
		{"yarn with scales", `"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": 2, "mscale_all_dim": 3}`, ``, weights.Meta{
			"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0,
			"llama.rope.scaling.attn_factor": (0.1*2*math.Log(4) + 1) / (0.1*3*math.Log(4) + 1) / (0.1*math.Log(4) + 1)}},
		{"derived sizes", `"hidden_size": 64, "num_attention_heads": 4`, ``, weights.Meta{
			"llama.embedding_length": int64(64), "llama.attention.head_count": int64(4), "llama.attention.head_count_kv": int64(4),
			"llama.rope.dimension_count": int64(16)}},
		{"window of llama", `"sliding_window": 4096`, ``, nil},
		{"window of mistral", `"model_type": "mistral", "sliding_window": 4096`, ``, weights.Meta{"llama.attention.sliding_window": int64(4096)}},
		{"no window", `"model_type": "mistral", "sliding_window": null`, ``, nil},
		{"one end", `"bos_token_id": 1, "eos_token_id": 2`, ``, weights.Meta{
			"tokenizer.ggml.bos_token_id": int64(1), "tokenizer.ggml.eos_token_id": int64(2)}},
		{"ends of generation", `"bos_token_id": 1, "eos_token_id": 2`, `{"eos_token_id": [5, 6], "bos_token_id": null}`, weights.Meta{
			"tokenizer.ggml.bos_token_id": int64(1), "tokenizer.ggml.eos_token_id": int64(5), "tokenizer.ggml.eos_token_ids": []int64{5, 6}}},
		{"no end", `"eos_token_id": null`, `{"eos_token_id": null}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := `{"_name_or_path": "n", "tie_word_embeddings": true, ` + c.config + `}`
			if !strings.Contains(config, "model_type") {
				config = `{"model_type": "llama", ` + config[1:]
			}
			files := map[string]string{"config.json": config, "model.safetensors": file(`{}`, 0)}
			if c.generation != "" {
				files["generation_config.json"] = c.generation
			}
			got := open(t, folder(t, files)).Meta()
			want := weights.Meta{"general.architecture": "llama", "general.name": "n"}
			for k, v := range c.want {
				want[k] = v
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("metadata\n got %v\nwant %v", got, want)
			}
		})
	}
}

func TestShards(t *testing.T) {
	a := file(`{"__metadata__": {"format": "pt"}, "model.norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
		"stale": {"dtype": "F32", "shape": [], "data_offsets": [8, 12]}}`, 12)
	b := file(`{"y": {"dtype": "F16", "shape": [3, 1, 2], "data_offsets": [2, 14]}, "x": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}`, 14)
	files := map[string]string{"config.json": tied, "1.safetensors": a, "2.safetensors": b,
		index: `{"metadata": {"total_size": 26}, "weight_map": {"y": "2.safetensors", "x": "2.safetensors", "model.norm.weight": "1.safetensors"}}`}
	dir := folder(t, files)
	f := open(t, dir)
	if got := strings.Join(f.Names(), " "); got != "output_norm.weight x y" || f.Path() != dir {
		t.Errorf("%s: tensors %s", f.Path(), got)
	}
	if x, _ := f.Tensor("y"); x.Rows != 3 || x.Cols != 2 || string(x.Row(2)) != "\x0b\x0c\x0d\x0e" {
		t.Errorf("y is %d×%d, its last row %x", x.Rows, x.Cols, x.Row(2))
	}

	delete(files, "2.safetensors")
	dir = folder(t, files)
	_, err := Open(dir)
	check(t, "missing", filepath.Join(dir, "2.safetensors"), err, "missing, though model.safetensors.index.json lists it", weights.ErrCorrupt)
}

func TestTied(t *testing.T) {
	head := file(`{"lm_head.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}`, 4)
	for _, c := range []struct {
		tie, weights string
		want         int // tensors
	}{
		{`, "tie_word_embeddings": true`, head, 0},
		{`, "tie_word_embeddings": true`, file(`{}`, 0), 0},
		{`, "tie_word_embeddings": false`, head, 1},
		{``, head, 1},
		{``, file(`{}`, 0), 0}, // the model says what is missing
	} {
		dir := folder(t, map[string]string{"config.json": `{"model_type": "llama"` + c.tie + `}`, "model.safetensors": c.weights})
		f, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Names(); len(got) != c.want {
			t.Errorf("%q: tensors %v, want %d", c.tie, got, c.want)
		}
		f.Close()
	}
}

// check wants an error of one line that names the file, says want and wraps is.
func check(t *testing.T, name, path string, err error, want string, is error) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", name)
	case !errors.Is(err, is):
		t.Errorf("%s: %q does not wrap %q", name, err, is)
	case !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) || !strings.HasPrefix(err.Error(), "safetensors: "):
		t.Errorf("%s: %q, want %q and the path", name, err, want)
	case strings.Contains(err.Error(), "\n") || len(err.Error()) > 600+len(path):
		t.Errorf("%s: %q is not one short line", name, err)
	}
}

func TestHostileHeaders(t *testing.T) {
	one := func(entry string, data int) string { return file(`{"t": `+entry+`}`, data) }
	length := func(n uint64, rest string) string {
		return string(binary.LittleEndian.AppendUint64(nil, n)) + rest
	}
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `"%d":0,`, i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	var foreign []string
	for i := range 7 {
		foreign = append(foreign, fmt.Sprintf(`"t%d": {"dtype": "I%d", "shape": [0], "data_offsets": [0, 0]}`, i, i))
	}
	for name, c := range map[string]struct {
		data string
		want string
		is   error
	}{
		"empty":              {"", "expected the header's length in 8 bytes, found a file of 0", weights.ErrCorrupt},
		"GGUF":               {"GGUF\x03\x00\x00\x00\x00", "found a GGUF file", weights.ErrCorrupt},
		"length":             {length(math.MaxUint64, "{}"), "expected a header of at most 2 bytes, found length 18446744073709551615", weights.ErrCorrupt},
		"too many tensors":   {file("{"+keys(maxTensors+1)+"}", 0), "expected at most 65536 tensors, found 65537", weights.ErrCorrupt},
		"too many keys":      {file("{"+keys(maxKeys+1)+"}", 0), "expected at most 524288 keys", weights.ErrCorrupt},
		"no JSON":            {file("}", 0), "offset 8: JSON: invalid character", weights.ErrCorrupt},
		"empty header":       {file("", 0), "offset 8: JSON: unexpected EOF", weights.ErrCorrupt},
		"array":              {file("[]", 0), `expected an object, found "["`, weights.ErrCorrupt},
		"cut":                {file(`{"a": {"dtype`, 0), "unexpected EOF", weights.ErrCorrupt},
		"tail":               {file(`{} {}`, 0), `expected the end, found "{}"`, weights.ErrCorrupt},
		"depth":              {file(`{"a":`+strings.Repeat("[", 1<<20), 0), "expected at most 32 levels of nesting", weights.ErrCorrupt},
		"duplicate":          {file(`{"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}, "a": {}}`, 0), `expected key "a" once`, weights.ErrCorrupt},
		"duplicate field":    {one(`{"dtype": "F32", "dtype": "F32", "shape": [1], "data_offsets": [0, 4]}`, 4), `expected key "dtype" once`, weights.ErrCorrupt},
		"entry":              {one(`"x\ny"`, 0), `tensor "t": expected a dtype, a shape`, weights.ErrCorrupt},
		"no shape":           {one(`{"dtype": "F32", "data_offsets": [0, 4]}`, 4), "expected a dtype, a shape", weights.ErrCorrupt},
		"one offset":         {one(`{"dtype": "F32", "shape": [], "data_offsets": [4]}`, 4), "two data_offsets", weights.ErrCorrupt},
		"five dimensions":    {one(`{"dtype": "F32", "shape": [1,1,1,1,1], "data_offsets": [0, 4]}`, 4), "up to 4 dimensions", weights.ErrCorrupt},
		"negative dimension": {one(`{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}`, 4), "expected a dtype, a shape", weights.ErrCorrupt},
		"fraction":           {one(`{"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}`, 4), "expected a dtype, a shape", weights.ErrCorrupt},
		"zero dimension":     {one(`{"dtype": "F32", "shape": [4, 0], "data_offsets": [0, 0]}`, 0), "expected F32 data of positive shape [4 0], found 0 bytes", weights.ErrCorrupt},
		"overflow":           {one(`{"dtype": "F32", "shape": [4294967296, 4294967296, 4], "data_offsets": [0, 0]}`, 0), "expected F32 data of positive shape", weights.ErrCorrupt},
		"size":               {one(`{"dtype": "F16", "shape": [3], "data_offsets": [0, 8]}`, 8), "expected F16 data of positive shape [3], found 8 bytes", weights.ErrCorrupt},
		"backwards":          {one(`{"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}`, 4), "found offsets [4, 0]", weights.ErrCorrupt},
		"beyond the end":     {one(`{"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}`, 7), "expected data within 7 bytes, found offsets [0, 8]", weights.ErrCorrupt},
		"far offset":         {one(`{"dtype": "F32", "shape": [1], "data_offsets": [18446744073709551612, 18446744073709551615]}`, 4), "expected data within 4 bytes", weights.ErrCorrupt},
		"hole":               {one(`{"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}`, 8), "right behind the others'", weights.ErrCorrupt},
		"overlap": {file(`{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}, "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}`, 8),
			`tensor "b": expected its data here, right behind the others'`, weights.ErrCorrupt},
		"rest": {one(`{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}`, 9), "expected the end of the file, found 5 more bytes", weights.ErrCorrupt},
		"two names": {file(`{"model.norm.weight": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}, "output_norm.weight": {"dtype": "F32", "shape": [], "data_offsets": [4, 8]}}`, 8),
			`tensor "output_norm.weight": its name is in use`, weights.ErrCorrupt},
		"unknown formats": {file("{"+strings.Join(foreign, ",")+"}", 0), `"t0" (I0), "t1" (I1), "t2" (I2), "t3" (I3), "t4" (I4) and 2 more (supported: F32, F16, BF16)`, weights.ErrUnsupported},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, map[string]string{"config.json": tied, "model.safetensors": c.data})
			_, err := Open(dir)
			check(t, name, dir, err, c.want, c.is)
		})
	}
}

func TestHostileFolders(t *testing.T) {
	shards := func(list string) map[string]string { return map[string]string{"config.json": tied, index: list} }
	config := func(text string) map[string]string {
		return map[string]string{"config.json": text, "model.safetensors": file(`{}`, 0)}
	}
	for name, c := range map[string]struct {
		files map[string]string
		want  string
		is    error
	}{
		"no config":        {map[string]string{"model.safetensors": file(`{}`, 0)}, "config.json", fs.ErrNotExist},
		"no weights":       {map[string]string{"config.json": tied}, "expected model.safetensors or model.safetensors.index.json", fs.ErrNotExist},
		"parent":           {shards(`{"weight_map": {"a": "../x.safetensors"}}`), `tensor "a": expected the name of a .safetensors file in the same folder, found "../x.safetensors"`, weights.ErrCorrupt},
		"absolute":         {shards(`{"weight_map": {"a": "/etc/passwd"}}`), "in the same folder", weights.ErrCorrupt},
		"backslash":        {shards(`{"weight_map": {"a": "..\\x"}}`), "in the same folder", weights.ErrCorrupt},
		"folder itself":    {shards(`{"weight_map": {"a": "."}}`), "in the same folder", weights.ErrCorrupt},
		"zero byte":        {shards(`{"weight_map": {"a": "\u0000.safetensors"}}`), "in the same folder", weights.ErrCorrupt},
		"long name":        {shards(`{"weight_map": {"a": "` + strings.Repeat("x", 300) + `.safetensors"}}`), "in the same folder", weights.ErrCorrupt},
		"no name":          {shards(`{"weight_map": {"a": ""}}`), "in the same folder", weights.ErrCorrupt},
		"empty map":        {shards(`{"weight_map": {}}`), `expected tensors in "weight_map", found none`, weights.ErrCorrupt},
		"map of numbers":   {shards(`{"weight_map": {"a": 1}}`), "expected a value that fits string, found number", weights.ErrCorrupt},
		"unlisted":         {map[string]string{"config.json": tied, index: `{"weight_map": {"a": "s.safetensors"}}`, "s.safetensors": file(`{}`, 0)}, "expected 1 tensors that model.safetensors.index.json lists, found 0", weights.ErrCorrupt},
		"empty config":     {config(``), "JSON: unexpected EOF", weights.ErrCorrupt},
		"duplicate key":    {config(`{"model_type": "llama", "model_type": "llama"}`), `expected key "model_type" once`, weights.ErrCorrupt},
		"wrong type":       {config(`{"model_type": "llama", "hidden_size": "big"}`), `"hidden_size": expected a value that fits int64, found string`, weights.ErrCorrupt},
		"fraction":         {config(`{"model_type": "llama", "hidden_size": 1.5}`), `"hidden_size": expected a value that fits int64, found number 1.5`, weights.ErrCorrupt},
		"infinite":         {config(`{"model_type": "llama", "rope_theta": 1e999}`), `"rope_theta": expected a value that fits float64, found number 1e999`, weights.ErrCorrupt},
		"end of what":      {config(`{"model_type": "llama", "eos_token_id": {"a": 1}}`), `expected a value that fits []int64, found object`, weights.ErrCorrupt},
		"other model":      {config(`{"model_type": "gpt2"}`), `model_type "gpt2" (supported: llama, mistral)`, weights.ErrUnsupported},
		"other activation": {config(`{"model_type": "llama", "hidden_act": "gelu"}`), `hidden_act "gelu" (supported: silu)`, weights.ErrUnsupported},
		"quantized":        {config(`{"model_type": "llama", "quantization_config": {"bits": 4}}`), "quantization_config", weights.ErrUnsupported},
		"other rope":       {config(`{"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2}}`), `rope_type "dynamic" (supported: default, linear, yarn, llama3)`, weights.ErrUnsupported},
		"partial rope":     {config(`{"model_type": "llama", "partial_rotary_factor": 0.5}`), "partial_rotary_factor 0.5", weights.ErrUnsupported},
		"bad generation":   {map[string]string{"config.json": tied, "generation_config.json": "[", "model.safetensors": file(`{}`, 0)}, "generation_config.json: offset", weights.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			dir := folder(t, c.files)
			_, err := Open(dir)
			check(t, name, dir, err, c.want, c.is)
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestEveryTruncation(t *testing.T) {
	whole := file(`{"a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "b": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]}}`, 12)
	for n := range whole {
		dir := folder(t, map[string]string{"config.json": tied, "model.safetensors": whole[:n]})
		_, err := Open(dir)
		check(t, fmt.Sprintf("%d of %d bytes", n, len(whole)), dir, err, "offset", weights.ErrCorrupt)
	}
}

// FuzzSafetensors opens any header, index and configuration, and reads every
// tensor of what opens.
func FuzzSafetensors(f *testing.F) {
	f.Add(tied, "", file(`{"a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "b": {"dtype": "F16", "shape": [2], "data_offsets": [8, 12]}}`, 12))
	f.Add(tied, `{"weight_map": {"lm_head.weight": "s.safetensors"}}`, file(`{"__metadata__": {"a": "b"}, "lm_head.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}`, 4))
	f.Add(`{"model_type": "mistral", "hidden_size": 4, "num_attention_heads": 2, "eos_token_id": [1], "rope_scaling": {"type": "yarn", "factor": 0, "attention_factor": 2}}`, "", file(`{}`, 0))
	f.Fuzz(func(t *testing.T, config, list, data string) {
		files := map[string]string{"config.json": config, "s.safetensors": data}
		if list == "" {
			files["model.safetensors"] = data
		} else {
			files[index] = list
		}
		source, err := Open(folder(t, files))
		if err != nil {
			if !errors.Is(err, weights.ErrCorrupt) && !errors.Is(err, weights.ErrUnsupported) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		defer source.Close()
		for _, name := range source.Names() {
			x, _ := source.Tensor(name)
			row := make([]float32, x.Cols)
			for r := range x.Rows {
				tensor.Dequantize(row, x.DType, x.Row(r))
			}
			source.Release(name)
		}
	})
}
