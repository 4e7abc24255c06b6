package engine

import (
	"bytes"
	"context"
	"testing"

	"triforce/demo"
)

// The bytes of an embedded model are there for whoever asks, and only then.
func TestEmbeddedRelease(t *testing.T) {
	f, err := OpenFile(EmbeddedDraft, Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	e := f.source.(*embedded)
	const name = "token_embd.weight"
	before, _ := f.Source().Tensor(name)
	for range 2 {
		if _, err := f.Load(context.Background(), Defaults()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Context(); err != nil || e.file != nil {
			t.Errorf("after loading, the unpacked file is still held (%v)", err)
		}
	}
	after, ok := f.Source().Tensor(name)
	if !ok || len(after.Data) == 0 || !bytes.Equal(before.Data, after.Data) || !bytes.Contains(demo.Draft(), after.Data) {
		t.Error("after its release, a tensor has other bytes")
	}
}
