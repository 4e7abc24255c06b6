package kvcache

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// Refreshing a view of 31K tokens of the embedded model's shape: for the first
// time, and after a round that brought 8 tokens and moved some attention.
func BenchmarkRefresh(b *testing.B) {
	const tokens = 31 << 10
	shape := Shape{Layers: 6, Heads: 4, Dim: 64, Type: kernel.KVQ8}
	set := kernel.For(cpu.Best())
	team := par.NewTeam(2)
	defer team.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	full := NewFull(NewStore(shape, set), tokens+1<<16, 0)
	mass := NewMass(shape, 2, 1)
	full.Record(mass)
	k, v := make([]float32, shape.Dim), make([]float32, shape.Dim)
	feed := func(rows int) {
		p, err := full.Begin(rows, nil)
		if err != nil {
			b.Fatal(err)
		}
		for l := range shape.Layers {
			for h := range shape.Heads {
				for _, r := range p.Rows {
					for i := range k {
						k[i], v[i] = rng.Float32()-.5, rng.Float32()-.5
					}
					p.Store.Put(l, h, int(r.Slot), k, v)
				}
				// Much stays where it was from round to round.
				chunks := p.Mass.Chunks(l, h)
				for i := range chunks {
					chunks[i] = float32(i%97) + rng.Float32()
				}
			}
		}
		full.End()
	}
	for full.Len() < tokens {
		feed(256)
	}
	for _, rule := range []Rule{ByMass, ByMean} {
		opt := ViewOptions{Budget: 512, Chunk: 16, Sinks: 16, Window: 64, Rule: rule}
		b.Run(fmt.Sprintf("first/rule=%d", rule), func(b *testing.B) {
			view := NewView(set, full, team, opt)
			for b.Loop() {
				view.Rewind(0)
				if err := view.Refresh(); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("later/rule=%d", rule), func(b *testing.B) {
			view := NewView(set, full, team, opt)
			if err := view.Refresh(); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				b.StopTimer()
				if full.Len() > tokens+1<<12 {
					full.Rewind(tokens)
					view.Rewind(min(view.Len(), tokens))
				}
				feed(8)
				b.StartTimer()
				if err := view.Refresh(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
