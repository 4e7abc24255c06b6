package tokenizer_test

import (
	"errors"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"triforce/tokenizer"
)

// meta is GGUF metadata in a map.
type meta map[string]any

func get[T any](m meta, key string, def T) T {
	if v, ok := m[key].(T); ok {
		return v
	}
	return def
}

func (m meta) String(key, def string) string   { return get(m, key, def) }
func (m meta) Bool(key string, def bool) bool  { return get(m, key, def) }
func (m meta) Int(key string, def int64) int64 { return get(m, key, def) }
func (m meta) Strings(key string) []string     { return get[[]string](m, key, nil) }
func (m meta) Ints(key string) []int64         { return get[[]int64](m, key, nil) }
func (m meta) Floats(key string) []float64     { return get[[]float64](m, key, nil) }

func TestFromGGUF(t *testing.T) {
	s, err := tokenizer.FromGGUF(meta{
		"tokenizer.ggml.model":  "llama",
		"tokenizer.ggml.tokens": []string{"<unk>", "<s>", "</s>", "a"}, "tokenizer.ggml.scores": []float64{0, 0, 0, -1},
		"tokenizer.ggml.token_type": []int64{2, 3, 3, 1}, "tokenizer.chat_template": "x", "tokenizer.ggml.eot_token_id": int64(3),
	})
	want := tokenizer.Spec{
		Model: tokenizer.SentencePiece, Pre: "default", Tokens: []string{"<unk>", "<s>", "</s>", "a"}, Scores: []float32{0, 0, 0, -1},
		Types: []tokenizer.Type{2, 3, 3, 1}, Merges: [][2]string{}, BOS: 1, EOS: 2, Unk: 0, EOG: []int32{3},
		AddBOS: true, AddSpacePrefix: true, ChatTemplate: "x",
	}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	s, err = tokenizer.FromGGUF(meta{
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": int64(0),
		"tokenizer.ggml.tokens": []string{"a", "b", "ab"}, "tokenizer.ggml.merges": []string{"a b"}, "tokenizer.ggml.add_eos_token": true,
	})
	want = tokenizer.Spec{
		Model: tokenizer.MergeList, Pre: "llama-bpe", Tokens: []string{"a", "b", "ab"}, Merges: [][2]string{{"a", "b"}},
		BOS: 0, EOS: -1, Unk: -1, AddBOS: true, AddEOS: true, Alphabet: tokenizer.ByteLevel, IgnoreMerges: true,
	}
	if err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, %v, want %+v", s, err, want)
	}
	for _, bad := range []struct {
		m    meta
		says string
	}{
		{meta{"tokenizer.ggml.merges": []string{"ab"}}, "merge 0"},
		{meta{"tokenizer.ggml.merges": []string{"a b", "a b c"}}, "merge 1"},
		{meta{"tokenizer.ggml.merges": []string{" b"}}, "merge 0"},
		{meta{"tokenizer.ggml.bos_token_id": int64(1) << 40}, "bos_token_id"},
		{meta{"tokenizer.ggml.eos_token_id": int64(1), "tokenizer.ggml.tokens": []string{"a"}}, "eos_token_id is 1, there are 1"},
		{meta{"tokenizer.ggml.token_type": []int64{300}}, "token type 300"},
	} {
		bad.m["tokenizer.ggml.model"] = "gpt2"
		if _, err := tokenizer.FromGGUF(bad.m); !errors.Is(err, tokenizer.ErrCorrupt) || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%v: got %v, want one that says %q", bad.m, err, bad.says)
		}
	}
}

func TestFromJSON(t *testing.T) {
	s, err := tokenizer.FromJSON([]byte(`{
		"added_tokens": [{"id": 5, "content": "<s>", "special": true}, {"id": 3, "content": "<sep>", "lstrip": true}],
		"model": {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b", ["ab", "a"]], "fuse_unk": true, "unk_token": "b"}}`), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b", "ab", "<sep>", "", "<s>"}; !slices.Equal(s.Tokens, want) {
		t.Errorf("tokens %q, want %q", s.Tokens, want)
	}
	if want := []tokenizer.Type{1, 2, 1, 4, 5, 3}; !slices.Equal(s.Types, want) {
		t.Errorf("types %v, want %v", s.Types, want)
	}
	if want := [][2]string{{"a", "b"}, {"ab", "a"}}; !slices.Equal(s.Merges, want) {
		t.Errorf("merges %q, want %q", s.Merges, want)
	}
	if want := []tokenizer.Added{{ID: 3, LStrip: true}}; !slices.Equal(s.Added, want) || s.Unk != 1 || !s.FuseUnk || s.BOS != -1 {
		t.Errorf("got %+v", s)
	}
}

func TestBadJSON(t *testing.T) {
	for _, c := range []struct {
		text string
		kind error
		says string
	}{
		{``, tokenizer.ErrCorrupt, "tokenizer.json"},
		{`[]`, tokenizer.ErrCorrupt, "tokenizer.json"},
		{`{}`, tokenizer.ErrCorrupt, "no tokens"},
		{`{"model":{"vocab":{"a":"b"}}}`, tokenizer.ErrCorrupt, "tokenizer.json"},
		{`{"model":{"vocab":{"a":-1}}}`, tokenizer.ErrCorrupt, "id -1"},
		{`{"model":{"vocab":{"a":4611686018427387904}}}`, tokenizer.ErrCorrupt, "id 4611686018427387904"},
		{`{"model":{"vocab":{"a":1000000}}}`, tokenizer.ErrCorrupt, "id 1000000"},
		{`{"model":{"vocab":{"a":0,"b":0}}}`, tokenizer.ErrCorrupt, `id 0 is both "a" and "b"`},
		{`{"model":{"vocab":{"a":0}},"added_tokens":[{"id":0,"content":"x"}]}`, tokenizer.ErrCorrupt, `both "a" and "x"`},
		{`{"model":{"vocab":{"a":0},"merges":["aa"]}}`, tokenizer.ErrCorrupt, "merge 0"},
		{`{"model":{"vocab":{"a":0},"merges":[["a"]]}}`, tokenizer.ErrCorrupt, "1 parts"},
		{`{"model":{"vocab":{"a":0},"merges":[7]}}`, tokenizer.ErrCorrupt, "merge 0"},
		{`{"model":{"vocab":{"a":0},"unk_token":"u"}}`, tokenizer.ErrCorrupt, `"u"`},
		{`{"model":{"type":"Unigram","vocab":{}}}`, tokenizer.ErrUnsupported, "Unigram"},
		{`{"model":{"vocab":{"a":0},"end_of_word_suffix":"</w>"}}`, tokenizer.ErrUnsupported, "parts of words"},
		{`{"model":{"vocab":{"a":0}},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}}]}}`, tokenizer.ErrCorrupt, `"<s>"`},
		{`{"model":{"vocab":{"a":0}},"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"a"}},{"SpecialToken":{"id":"a"}}]}}`, tokenizer.ErrUnsupported, "more than one"},
		{`{"model":{"vocab":{"a":0}},"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{}},{"SpecialToken":{"id":"a"}},{"SpecialToken":{"id":"a"}}]}}`, tokenizer.ErrUnsupported, "more than one"},
	} {
		if _, err := tokenizer.FromJSON([]byte(c.text), nil, nil); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %v that says %q", c.text, err, c.kind, c.says)
		}
	}
}

func TestBadModel(t *testing.T) {
	data, err := os.ReadFile("spm/testdata/trim.model")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tokenizer.FromModel(data, nil, nil); err != nil {
		t.Fatal(err)
	}
	const bpe = "\x12\x02\x18\x02" // trainer settings: model type 2
	for _, c := range []struct {
		data string
		kind error
		says string
	}{
		{"", tokenizer.ErrUnsupported, "model type 1"},
		{bpe, tokenizer.ErrCorrupt, "no tokens"},
		{"\x0a\x7f", tokenizer.ErrCorrupt, "needs 127 bytes, 0 are left"},
		{"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x", tokenizer.ErrCorrupt, "needs 18446744073709551615 bytes"},
		{"\x0a", tokenizer.ErrCorrupt, "bad length"},
		{"\x80", tokenizer.ErrCorrupt, "bad field tag at byte 0"},
		{"\x08\x80", tokenizer.ErrCorrupt, "bad number at byte 0"},
		{"\x0b", tokenizer.ErrCorrupt, "wire type 3"},
		{"\x0a\x02\x18\x09", tokenizer.ErrCorrupt, "type 9"},
		{bpe + "\x1a\x03\x12\x01x", tokenizer.ErrUnsupported, "character map"},
		{bpe + "\x12\x03\xc0\x01\x01", tokenizer.ErrUnsupported, "suffixes"},
		{bpe + "\x1a\x02\x28\x00", tokenizer.ErrUnsupported, "not spelled"},
	} {
		if _, err := tokenizer.FromModel([]byte(c.data), nil, nil); !errors.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: got %v, want %v that says %q", c.data, err, c.kind, c.says)
		}
	}
	for n := range data { // every truncation is an error or a shorter vocabulary, never a panic
		if _, err := tokenizer.FromModel(data[:n], nil, nil); err != nil && !errors.Is(err, tokenizer.ErrCorrupt) && !errors.Is(err, tokenizer.ErrUnsupported) {
			t.Fatalf("the first %d bytes give %v", n, err)
		}
	}
}
