package tokenizer_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"triforce/tokenizer"
)

func TestDecoder(t *testing.T) {
	v := newVocab(t, small())
	const e2, x82, ac, a, b, sep, sp = 3, 4, 5, 6, 7, 8, 11
	for _, c := range []struct {
		name string
		ids  []int32
		o    tokenizer.DecodeOptions
		want string // what each token adds, then a flush, separated by |
	}{
		{"first space goes", []int32{1, a, a}, tokenizer.DecodeOptions{}, "|a| a|"},
		{"unless text is before", []int32{1, a, a}, tokenizer.DecodeOptions{Continues: true}, "| a| a|"},
		{"only from the first piece", []int32{b, a}, tokenizer.DecodeOptions{}, "b| a|"},
		{"not from a byte", []int32{sp, a}, tokenizer.DecodeOptions{}, " | a|"},
		{"control written", []int32{1, a, 2}, tokenizer.DecodeOptions{Special: true}, "<s>|a|</s>|"},
		{"user-defined is text", []int32{sep, 2}, tokenizer.DecodeOptions{}, "<sep>||"},
		{"character in parts", []int32{e2, x82, ac, b}, tokenizer.DecodeOptions{}, "||€|b|"},
		{"control in between", []int32{e2, x82, 1, ac}, tokenizer.DecodeOptions{}, "|||€|"},
		{"cut off", []int32{b, e2, x82}, tokenizer.DecodeOptions{}, "b|||\xe2\x82"},
		{"broken", []int32{e2, b}, tokenizer.DecodeOptions{}, "|\xe2b|"},
		{"broken by another start", []int32{e2, x82, e2, x82, ac}, tokenizer.DecodeOptions{}, "||\xe2\x82||€|"},
		{"stray", []int32{ac, x82, b}, tokenizer.DecodeOptions{}, "\xac|\x82|b|"},
		{"padding", []int32{9, 500, -1, b}, tokenizer.DecodeOptions{}, "|||b|"},
	} {
		d := tokenizer.NewDecoder(v, c.o)
		var got []string
		for _, id := range c.ids {
			got = append(got, string(d.Append(nil, id)))
		}
		got = append(got, string(d.Flush(nil)))
		if joined := strings.Join(got, "|"); joined != c.want {
			t.Errorf("%s: got %q, want %q", c.name, joined, c.want)
		}
		if again := d.Flush(nil); len(again) != 0 {
			t.Errorf("%s: a second flush gives %q", c.name, again)
		}
		if whole := tokenizer.Decode(v, c.ids, c.o); whole != strings.ReplaceAll(c.want, "|", "") {
			t.Errorf("%s: at once %q", c.name, whole)
		}
	}
}

// FuzzDecoder streams arbitrary bytes, a token each: nothing is lost and no
// output ends inside a character.
func FuzzDecoder(f *testing.F) {
	f.Add([]byte("a€\xe2\x82🙂\xf0\x9f\xff\xc0\x80\xed\xa0\x80"))
	s := tokenizer.Spec{Model: tokenizer.MergeList, Alphabet: tokenizer.ByteLevel, BOS: -1, EOS: -1, Unk: -1}
	for b := range 256 {
		s.Tokens = append(s.Tokens, string(tokenizer.ByteRune(byte(b))))
	}
	v, err := tokenizer.NewVocab(&s)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := tokenizer.NewDecoder(v, tokenizer.DecodeOptions{})
		var all []byte
		for _, b := range data {
			part := d.Append(nil, int32(b))
			all = append(all, part...)
			if n := len(part); n > 0 && utf8.ValidString(string(data)) && !utf8.Valid(part) {
				t.Fatalf("%q ends inside a character", part)
			}
		}
		if all = d.Flush(all); string(all) != string(data) {
			t.Fatalf("%q came out as %q", data, all)
		}
	})
}
