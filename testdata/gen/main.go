// Command gen writes the tiny models of internal/testutil/tiny to a folder, for
// trying commands by hand and for tests of other programs:
//
//	go run ./testdata/gen [-o FOLDER]
//
// or, with a shape, one model of that size with random weights, to time passes:
//
//	go run ./testdata/gen -shape docs/shapes/llama-3.1-8b.json -type Q4_K -o llama-8b.gguf
//
// The repository's own tests make their models as they run.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"triforce/internal/testutil/tiny"
	"triforce/tensor"
)

// models names what is written. Those of the same seed are target and draft.
var models = []struct {
	name string
	tiny.Options
}{
	{"target", tiny.Options{Seed: 1, KVHeads: 2, Layers: 4, Type: tensor.Q8_0}},
	{"draft", tiny.Options{Seed: 1, KVHeads: 2, Layers: 1, Type: tensor.Q8_0}},
	{"mha", tiny.Options{Type: tensor.Q4_1, Untied: true}},
	{"mqa", tiny.Options{KVHeads: 1, Vocab: tiny.ByteLevel, Padding: 3}},
	{"linear", tiny.Options{Rope: tiny.RopeLinear}},
	{"llama3", tiny.Options{Rope: tiny.RopeLlama3, Vocab: tiny.ByteLevel}},
	{"factors", tiny.Options{Rope: tiny.RopeFactors, Vocab: tiny.ByteLevel}},
	{"yarn", tiny.Options{Rope: tiny.RopeYarn}},
	{"window", tiny.Options{Window: 64}},
}

func main() {
	out := flag.String("o", "tiny-models", "the `folder` to write to, or with -shape the file")
	shape := flag.String("shape", "", "a config.json `file` that says how large the model is to be")
	format := flag.String("type", "Q4_K", "the `format` of matrices, with -shape")
	flag.Parse()
	err := error(nil)
	if *shape == "" {
		err = write(*out)
	} else {
		err = writeShape(*out, *shape, *format)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func write(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, m := range models {
		if err := tiny.WriteFile(filepath.Join(folder, m.name+".gguf"), m.Options); err != nil {
			return err
		}
	}
	for _, t := range []tensor.DType{tensor.F32, tensor.F16, tensor.BF16} {
		if err := tiny.WriteFolder(filepath.Join(folder, "folder-"+t.String()), tiny.Options{Seed: 1, KVHeads: 2, Type: t}); err != nil {
			return err
		}
	}
	return nil
}
