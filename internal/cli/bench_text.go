package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"triforce/bench"
	"triforce/engine"
)

// maxItems is how many items of a data set are looked at for a long one.
const maxItems = 1 << 10

// texts reads what was named, and says which kind of workload suits it.
func (o *benchOptions) texts() ([]bench.Text, string, error) {
	if o.File == "-" {
		text, err := readText(o.Sys, o.File)
		return []bench.Text{{Name: "standard input", Body: text}}, "book", err
	}
	info, err := os.Stat(o.File)
	if err != nil {
		return nil, "", fmt.Errorf("text: %w", err)
	}
	if info.IsDir() {
		text, err := bench.Folder(os.DirFS(o.File), o.File, o.Workload)
		return []bench.Text{text}, "book", err
	}
	data, err := os.ReadFile(o.File)
	if err != nil {
		return nil, "", fmt.Errorf("text: %w", err)
	}
	if ending := filepath.Ext(o.File); ending != ".jsonl" && ending != ".json" {
		return []bench.Text{{Name: o.File, Body: string(data)}}, "book", nil
	}
	texts, err := bench.Dataset(o.File, data, maxItems)
	if err != nil {
		return nil, "", err
	}
	kind := "book"
	if texts[0].Task != "" {
		kind = "question"
	}
	if o.Item >= len(texts) {
		return nil, "", usagef("--item %d: %s has %d items", o.Item, o.File, len(texts))
	}
	if o.Item >= 0 {
		texts = texts[o.Item : o.Item+1]
	}
	return texts, kind, nil
}

// workload is made of the first text that is long enough, or else of the
// longest one: then the depths that it does not reach are left out.
func (o *benchOptions) workload(file *engine.File) (*bench.Workload, error) {
	texts, kind, err := o.texts()
	if err != nil {
		return nil, err
	}
	if o.Workload != "" {
		kind = o.Workload
	}
	reached := func(w *bench.Workload) []int {
		return slices.DeleteFunc(slices.Clone(o.Bench.Depths), func(d int) bool {
			_, err := w.Prompt(d)
			return err != nil
		})
	}
	var best *bench.Workload
	var depths []int
	for _, text := range texts {
		w, err := bench.NewWorkload(kind, text, file)
		if err != nil {
			return nil, err
		}
		if d := reached(w); best == nil || len(d) > len(depths) {
			best, depths = w, d
		}
		if len(depths) == len(o.Bench.Depths) {
			break
		}
	}
	if len(depths) == 0 {
		_, err := best.Prompt(slices.Min(o.Bench.Depths))
		return nil, usagef("--file %s: too few tokens for --depths %d: %w", o.File, slices.Min(o.Bench.Depths), err)
	}
	if len(depths) < len(o.Bench.Depths) {
		_, err := best.Prompt(slices.Max(o.Bench.Depths))
		o.Sys.warn("depths beyond %d are left out: %v", slices.Max(depths), err)
		o.Bench.Depths = depths
	}
	return best, nil
}
