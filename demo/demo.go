// Package demo holds the embedded pair of models, a target and its draft, so
// that triforce runs without any file.
//
// The functions are safe for concurrent use; each call makes a fresh copy,
// which the caller owns.
package demo

import (
	_ "embed"
	"fmt"
	"unsafe"

	"github.com/klauspost/compress/zstd"
)

// The pair as GGUF files in zstd frames: the folder train says how it was made,
// compress.go makes the frames; see LICENSE. Strings are constants, whose pages
// the system need not keep in memory.
var (
	//go:embed fable-target.gguf.zst
	target string
	//go:embed fable-draft.gguf.zst
	draft string
)

// Opening is a prompt for the target, for when the user has none.
const Opening = "Once upon a time, in a small house at the edge of the wood, there lived a girl who kept a lantern in her window. " +
	"Every night she lit it for the travellers on the road, and every morning she blew it out. " +
	"One evening, when the rain beat upon the glass, she heard a knock at the door."

// Target returns the GGUF file of the model that writes.
func Target() []byte { return decompress("target", target) }

// Draft returns the GGUF file of the small model that drafts for the target.
func Draft() []byte { return decompress("draft", draft) }

// decompress panics on an error: the frames are part of the program.
func decompress(name, frame string) []byte {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(fmt.Sprintf("demo: %v", err))
	}
	defer d.Close()
	data, err := d.DecodeAll(unsafe.Slice(unsafe.StringData(frame), len(frame)), nil)
	if err != nil {
		panic(fmt.Sprintf("demo: %s: %v", name, err))
	}
	return data
}
