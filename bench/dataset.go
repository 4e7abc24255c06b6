package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

// ErrDataset marks a file of texts that cannot be used.
var ErrDataset = errors.New("not a text or a known data set")

// item is one line of a published data set, in any of these forms:
//
//	PG-19        {"short_book_title", "publication_date", "url", "text"}
//	LongBench    {"input", "context", "answers", "length", "dataset", …}
//	RULER        {"index", "input", "outputs", "length", "answer_prefix"}
//	NarrativeQA  {"document": {"id", "text", …}, "question": {"text"}, "answers": […]}
type item struct {
	Text     string          `json:"text"`
	Context  string          `json:"context"`
	Input    string          `json:"input"`
	Outputs  json.RawMessage `json:"outputs"`
	Answers  json.RawMessage `json:"answers"`
	Prefix   string          `json:"answer_prefix"`
	Document struct {
		Text string `json:"text"`
	} `json:"document"`
	Question json.RawMessage `json:"question"`
}

// split parts an item into what is long and the task that follows it; format is
// "" if it is none of the known ones.
func (it *item) split() (text, task, format string) {
	switch {
	case it.Document.Text != "":
		var q struct {
			Text string `json:"text"`
		}
		if json.Unmarshal(it.Question, &q) != nil {
			_ = json.Unmarshal(it.Question, &q.Text)
		}
		return it.Document.Text, "\n\nQuestion: " + q.Text + "\nAnswer:", "NarrativeQA"
	case it.Context != "" && it.Answers != nil:
		if it.Input == "" { // code to be completed, or a text to be summed up
			return it.Context, "", "LongBench"
		}
		return it.Context, "\n\n" + it.Input + "\nAnswer:", "LongBench"
	case it.Input != "" && it.Outputs != nil:
		// The question is in the last paragraph, with the answer's beginning after
		// it in older files.
		body, question := it.Input, ""
		if at := strings.LastIndex(strings.TrimRight(body, "\n"), "\n"); at > 0 {
			body, question = body[:at], body[at:]
		}
		return body, question + it.Prefix, "RULER"
	case it.Text != "":
		return it.Text, "", "PG-19"
	}
	return "", "", ""
}

// Dataset reads texts in JSON lines, or in a JSON array. Errors wrap ErrDataset
// and say in which item and field; lines beyond most are not read.
func Dataset(name string, data []byte, most int) ([]Text, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		if _, err := d.Token(); err != nil {
			return nil, fmt.Errorf("%s: offset %d: %w: %w", name, d.InputOffset(), ErrDataset, err)
		}
	}
	var texts []Text
	for len(texts) < most && d.More() {
		var it item
		at := d.InputOffset()
		if err := d.Decode(&it); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("%s: item %d at offset %d: %w: %w", name, len(texts), at, ErrDataset, err)
		}
		text, task, format := it.split()
		if format == "" {
			return nil, fmt.Errorf("%s: item %d at offset %d: %w: expected the fields of PG-19 (text), LongBench (context, input, answers), "+
				"RULER (input, outputs) or NarrativeQA (document, question)", name, len(texts), at, ErrDataset)
		}
		texts = append(texts, Text{Name: fmt.Sprintf("%s, %s item %d", name, format, len(texts)), Body: text, Task: task})
	}
	if len(texts) == 0 {
		return nil, fmt.Errorf("%s: %w: expected JSON lines, found none", name, ErrDataset)
	}
	return texts, nil
}

// sources are the endings of files that the code workload reads.
var sources = []string{".go", ".py", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs", ".java", ".js", ".ts", ".rb", ".sh", ".md"}

// prose are those of the others.
var prose = []string{".txt", ".md", ".content"}

// maxFolder is the most bytes that are taken from a folder.
const maxFolder = 64 << 20

// Folder joins the texts of a folder in the order of their paths: source files
// headed by their paths for the code workload, and otherwise plain text.
// Hidden folders are left out.
func Folder(files fs.FS, name, kind string) (Text, error) {
	endings := prose
	if kind == "code" {
		endings = sources
	}
	var b strings.Builder
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains(endings, path.Ext(p)) || b.Len() > maxFolder:
			return nil
		}
		data, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		if !utf8.Valid(data) {
			return nil
		}
		if kind == "code" {
			fmt.Fprintf(&b, "// file: %s\n", p)
		}
		b.Write(data)
		b.WriteString("\n\n")
		return nil
	})
	if err == nil && b.Len() == 0 {
		err = fmt.Errorf("%s: %w: expected files that end in %s", name, ErrDataset, strings.Join(endings, ", "))
	}
	return Text{Name: name, Body: b.String()}, err
}
