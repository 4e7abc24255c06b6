//go:build ignore

// compress makes the embedded files, in the folder it is run in:
//
//	go run compress.go FOLDER FILE…
package main

import (
	"log"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range os.Args[2:] {
		data, err := os.ReadFile(filepath.Join(os.Args[1], name))
		if err != nil {
			log.Fatal(err)
		}
		if err := os.WriteFile(name+".zst", enc.EncodeAll(data, nil), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
