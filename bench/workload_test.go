package bench

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
)

// bytesEncoder has a token for each byte, and one that begins every text.
type bytesEncoder struct{}

func (bytesEncoder) Encode(text string) []int32 {
	ids := []int32{-1}
	for _, b := range []byte(text) {
		ids = append(ids, int32(b))
	}
	return ids
}

func decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		if id >= 0 {
			b.WriteByte(byte(id))
		}
	}
	return b.String()
}

func TestWorkloads(t *testing.T) {
	text := Text{Name: "book", Body: strings.Repeat("0123456789", 60), Task: "\nWhy?"}
	for kind, want := range map[string][2]string{
		"book": {"0123456789", "9"}, "code": {"0123456789", "9"},
		"question": {"0123456789", "\nWhy?"}, "extract": {"0123456789", "\n1."}, "needle": {"0123456789", "the lighthouse is"},
	} {
		w, err := NewWorkload(kind, text, bytesEncoder{})
		if err != nil {
			t.Fatal(err)
		}
		for _, depth := range []int{500, 40, 3, 0} {
			ids, err := w.Prompt(depth)
			if err != nil || len(ids) != depth+1 {
				t.Errorf("%s: %d tokens for depth %d, %v", kind, len(ids), depth, err)
			}
			if got := decode(ids); depth == 500 && !(strings.HasPrefix(got, want[0]) && strings.HasSuffix(got, want[1])) {
				t.Errorf("%s: %q", kind, got)
			}
		}
		ids, _ := w.Prompt(500)
		if at := strings.Index(decode(ids), "7481"); kind == "needle" && (at < 200 || at > 300) || kind != "needle" && at >= 0 {
			t.Errorf("%s: the needle is at %d", kind, at)
		}
		if _, err := w.Prompt(5000); !errors.Is(err, ErrShort) || !strings.Contains(err.Error(), "expected 5001") {
			t.Errorf("%s: %v", kind, err)
		}
		if !strings.HasPrefix(w.Sends, "book, ") {
			t.Errorf("%s says %q", kind, w.Sends)
		}
	}
	if _, err := NewWorkload("magic", text, bytesEncoder{}); err == nil || !strings.Contains(err.Error(), "--workload magic") {
		t.Error(err)
	}
}

func TestDataset(t *testing.T) {
	for _, c := range []struct{ line, format, body, task string }{
		{`{"short_book_title": "A", "publication_date": 1900, "url": "u", "text": "Long."}`, "PG-19", "Long.", ""},
		{`{"input": "Who?", "context": "Long.", "answers": ["x"], "length": 1, "dataset": "hotpotqa", "language": "en", "all_classes": null, "_id": "1"}`, "LongBench", "Long.", "\n\nWho?\nAnswer:"},
		{`{"input": "", "context": "code", "answers": ["x"], "dataset": "lcc"}`, "LongBench", "code", ""},
		{`{"index": 0, "input": "Magic.\nLong.\nWhat is it?", "outputs": ["7"], "length": 9, "answer_prefix": " It is"}`, "RULER", "Magic.\nLong.", "\nWhat is it? It is"},
		{`{"document": {"id": "d", "text": "Long."}, "question": {"text": "Who?", "tokens": ["Who"]}, "answers": [{"text": "x"}]}`, "NarrativeQA", "Long.", "\n\nQuestion: Who?\nAnswer:"},
	} {
		for _, data := range []string{c.line, c.line + "\n" + c.line, "[" + c.line + "]"} {
			texts, err := Dataset("f", []byte(data), 10)
			if err != nil || texts[0].Body != c.body || texts[0].Task != c.task || texts[0].Name != "f, "+c.format+" item 0" {
				t.Errorf("%s: %+v, %v", c.format, texts, err)
			}
		}
	}
	for data, want := range map[string]string{"": "found none", "{": "item 0 at offset 0", `{"a":1}`: "expected the fields of PG-19", "x": "item 0"} {
		if _, err := Dataset("f", []byte(data), 10); !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", data, err, want)
		}
	}
}

func FuzzDataset(f *testing.F) {
	f.Add([]byte(`{"text": "Long."}`))
	f.Add([]byte(`[{"document": {"text": "Long."}, "question": "Who?"}, {"input": "\n", "outputs": 1}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := Dataset("f", data, 4)
		if (err == nil) != (len(texts) > 0) || len(texts) > 4 {
			t.Errorf("%d texts, %v", len(texts), err)
		}
	})
}

func TestFolder(t *testing.T) {
	files := fstest.MapFS{
		"b.txt": {Data: []byte("B")}, "a/a.go": {Data: []byte("A")}, ".git/c.go": {Data: []byte("C")}, "d.go": {Data: []byte("D\xff")}, "e.bin": {Data: []byte("E")},
	}
	for kind, want := range map[string]string{"code": "// file: a/a.go\nA\n\n", "book": "B\n\n"} {
		if text, err := Folder(files, "f", kind); err != nil || text.Body != want {
			t.Errorf("%s: %q, %v", kind, text.Body, err)
		}
	}
	if _, err := Folder(fstest.MapFS{}, "f", "book"); !errors.Is(err, ErrDataset) {
		t.Error(err)
	}
}
