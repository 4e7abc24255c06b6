package load_test

import (
	"errors"
	"testing"

	"triforce/tokenizer"
	"triforce/tokenizer/load"
)

// FuzzJSON builds whatever a file describes and encodes the file with it.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{
		`{"model":{"vocab":{"a":0,"b":1,"ab":2,"<0x0A>":3},"merges":["a b"],"byte_fallback":true}}`,
		`{"model":{"type":"BPE","vocab":{"Ġ":0,"a":1,"Ġa":2},"merges":[["Ġ","a"]],"ignore_merges":true},
		  "added_tokens":[{"id":3,"content":"<s>","special":true,"lstrip":true},{"id":4,"content":"x","single_word":true,"normalized":true}],
		  "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"\\d"},"behavior":"MergedWithNext","invert":true},{"type":"ByteLevel"}]},
		  "normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Replace","pattern":{"String":"a"},"content":"b"}]},
		  "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>"}},{"Sequence":{}}]},"decoder":{"type":"ByteLevel"}}`,
		`{"model":{"vocab":{"a":0,"b":4000000000}}}`,
		`{"model":{"vocab":{"a":0,"▁":1}},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"},"decoder":{"type":"Metaspace"}}`,
	} {
		f.Add([]byte(seed), []byte(`{"bos_token":"a","add_bos_token":true}`))
	}
	f.Fuzz(func(t *testing.T, data, config []byte) {
		s, err := tokenizer.FromJSON(data, config, nil)
		if err == nil {
			var tok tokenizer.Tokenizer
			if tok, err = load.New(&s); err == nil {
				ids := tok.Encode(nil, string(data), tokenizer.Options{Special: true})
				tokenizer.Decode(tok.Vocab(), ids, tokenizer.DecodeOptions{Special: true})
				return
			}
		}
		if !errors.Is(err, tokenizer.ErrCorrupt) && !errors.Is(err, tokenizer.ErrUnsupported) {
			t.Errorf("error %v is of no kind", err)
		}
	})
}
