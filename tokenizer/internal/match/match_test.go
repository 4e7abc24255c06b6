package match

import (
	"fmt"
	"strings"
	"testing"

	"triforce/tokenizer"
)

func TestNext(t *testing.T) {
	set := New([]Token{
		{"<s>", tokenizer.Added{ID: 1}},
		{"<s><s>", tokenizer.Added{ID: 2}},
		{"<s><s>>>", tokenizer.Added{ID: 3}},
		{"left", tokenizer.Added{ID: 4, LStrip: true}},
		{"right", tokenizer.Added{ID: 5, RStrip: true}},
		{"word", tokenizer.Added{ID: 6, SingleWord: true}},
		{"", tokenizer.Added{ID: 7}},
	})
	for _, c := range []struct{ text, want string }{
		{"", ""},
		{"abc <s", ""},
		{"a<s>b", "1:1-4"},
		{"<s><s><s>", "2:0-6 1:6-9"},
		{"<s><s>>", "2:0-6"},
		{"<s><s>>>", "3:0-8"},
		{"x \t\u00a0left y", "4:1-9"},
		{"right  \n left", "5:0-9 4:9-13"},
		{"word sword words (word) wordéword", "6:0-4 6:18-22"},
		{"\xffword\xff", "6:1-5"},
	} {
		var got []string
		for at := 0; at < len(c.text); {
			id, start, end := set.Next(c.text, at)
			if id >= 0 {
				got = append(got, fmt.Sprintf("%d:%d-%d", id, start, end))
			}
			at = end
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: got %q, want %q", c.text, s, c.want)
		}
	}
	if id, start, end := (*Set)(nil).Next("abc", 1); id != -1 || start != 3 || end != 3 {
		t.Errorf("the empty set finds %d at %d-%d", id, start, end)
	}
}
