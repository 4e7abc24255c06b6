package demo

import (
	"testing"

	"triforce/weights/gguf"
)

func TestPair(t *testing.T) {
	for name, data := range map[string][]byte{"fable-target": Target(), "fable-draft": Draft()} {
		f, err := gguf.Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Meta().String("general.name", ""); got != name {
			t.Errorf("general.name is %q, expected %q", got, name)
		}
		if _, ok := f.Tensor("token_embd.weight"); !ok {
			t.Errorf("%s has no token_embd.weight", name)
		}
	}
}

func BenchmarkTarget(b *testing.B) {
	b.SetBytes(int64(len(Target())))
	for b.Loop() {
		Target()
	}
}
