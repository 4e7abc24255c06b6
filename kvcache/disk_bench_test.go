package kvcache

import (
	"sync"
	"testing"
	"time"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/mem"
	"triforce/internal/par"
	"triforce/internal/scratch"
)

// Reading a cache of the embedded model's shape, 100 MiB, layer by layer through
// the ring, beside reading the same file in pieces of 1 MiB by as many readers.
func BenchmarkDiskScan(b *testing.B) {
	shape := Shape{Layers: 6, Heads: 4, Dim: 64, Type: kernel.KVQ8}
	const context = 124 * kernel.Tile
	set := kernel.For(cpu.Best())
	var file *scratch.File
	start := time.Now()
	store := NewDiskStore(shape, set, DiskOptions{RAM: 4e6, Context: context, Rows: 256, Clock: func() time.Duration { return time.Since(start) },
		Create: func() (f File, err error) {
			file, err = scratch.Create(b.TempDir())
			return file, err
		}})
	c := NewFull(store, context, 0)
	for c.Len() < context {
		if _, err := c.Begin(kernel.Tile, nil); err != nil {
			b.Fatal(err)
		}
		for _, p := range store.pages[store.disk.first:] {
			for i := 0; i < len(p); i += 61 {
				p[i] = byte(i * c.Len())
			}
		}
		c.End()
	}
	team := par.NewTeam(2)
	defer team.Close()
	scan := func() float64 {
		before := time.Now()
		if err := c.scan(team, func(layer, head, lo, hi int) {}); err != nil {
			b.Fatal(err)
		}
		return float64(store.disk.first) * float64(store.disk.slab*shape.Layers) / time.Since(before).Seconds()
	}
	raw := func() float64 {
		var wg sync.WaitGroup
		before := time.Now()
		size := int64(shape.Layers) * store.disk.stride
		for i := range int64(readers) {
			wg.Go(func() {
				buf := mem.AllocAt(runBytes, FileBlock)
				for at := i * runBytes; at+runBytes <= size; at += readers * runBytes {
					if _, err := file.ReadAt(buf, at); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		return float64(size) / time.Since(before).Seconds()
	}
	scan() // the way of reading is chosen
	var ours, theirs float64
	for b.Loop() {
		ours += 1 / scan()
		theirs += 1 / raw()
	}
	b.ReportMetric(float64(b.N)/ours/1e6, "ring-MB/s")
	b.ReportMetric(float64(b.N)/theirs/1e6, "raw-MB/s")
	b.ReportMetric(theirs/ours, "ring/raw")
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
}
