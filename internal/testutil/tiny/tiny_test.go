package tiny_test

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"triforce/internal/testutil/tiny"
	"triforce/tensor"
	"triforce/tokenizer"
	"triforce/tokenizer/load"
	"triforce/weights/gguf"
	"triforce/weights/safetensors"
)

// The same options give the same file, which is small.
func TestModel(t *testing.T) {
	o := tiny.Options{Seed: 1, KVHeads: 2, Untied: true}
	a, err := os.ReadFile(tiny.Model(t, o))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(tiny.Model(t, o))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) || len(a) > 200<<10 {
		t.Errorf("two files of the same options have %d and %d bytes, expected the same, up to 200 KiB", len(a), len(b))
	}
}

// A draft shares the tensors that it has with its target.
func TestDraftShares(t *testing.T) {
	target := map[string][]byte{}
	for _, x := range tiny.Tensors(tiny.Options{Seed: 2, Layers: 3}) {
		target[x.Name] = x.Data
	}
	draft := tiny.Tensors(tiny.Options{Seed: 2, Layers: 1})
	for _, x := range draft {
		if !bytes.Equal(x.Data, target[x.Name]) {
			t.Errorf("%s differs", x.Name)
		}
	}
	if len(draft) != len(target)-2*9 {
		t.Errorf("%d tensors in the draft, %d in the target", len(draft), len(target))
	}
}

// The vocabularies of a file and of a folder encode alike, and decoding gives
// the text back.
func TestVocab(t *testing.T) {
	for _, v := range []tiny.Vocab{tiny.SentencePiece, tiny.ByteLevel} {
		o := tiny.Options{Vocab: v, Type: tensor.F16, Padding: 5}
		file, err := gguf.Open(tiny.Model(t, o))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		fromFile, err := tokenizer.FromGGUF(file.Meta())
		if err != nil {
			t.Fatal(err)
		}
		folder := tiny.Folder(t, o)
		source, err := safetensors.Open(folder)
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		fromFolder, err := load.Folder(folder)
		if err != nil {
			t.Fatal(err)
		}
		a, err := load.New(&fromFile)
		if err != nil {
			t.Fatal(err)
		}
		b, err := load.New(&fromFolder)
		if err != nil {
			t.Fatal(err)
		}
		if err := tokenizer.Compatible(a.Vocab(), b.Vocab()); err != nil {
			t.Error(err)
		}
		for _, text := range []string{"The king was in the land of the others.", "and ... the\n\tzoo\x00, 12 + é = 世界 🙂"} {
			x, y := a.Encode(nil, text, tokenizer.Options{}), b.Encode(nil, text, tokenizer.Options{})
			if !slices.Equal(x, y) {
				t.Errorf("vocabulary %d: %q is %v in the file and %v in the folder", v, text, x, y)
			}
			if got := tokenizer.Decode(a.Vocab(), x, tokenizer.DecodeOptions{}); got != text {
				t.Errorf("vocabulary %d: %q comes back as %q", v, text, got)
			}
		}
	}
}
