package gemm

import (
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

// BenchmarkPeak is the kernel alone on data of the first cache, on every worker:
// what the products are to be compared with. Rows are no power of two apart, lest
// they compete for the same places in that cache.
func BenchmarkPeak(b *testing.B) {
	team := par.NewTeam(2)
	defer team.Close()
	set := kernel.For(cpu.Best())
	const k, rows, panels, times = 264, 12, 1, 4000
	work := func(w *par.Worker) {
		weights := floatBytes(make([]float32, k*kernel.Panel*panels))
		x, dst := make([]float32, rows*k), make([]float32, rows*panels*kernel.Panel)
		for range times {
			set.MatMulFloat[kernel.F32](dst, panels*kernel.Panel, weights, panels, x, k, rows, k)
		}
	}
	for b.Loop() {
		team.Run(work)
	}
	b.ReportMetric(2*2*k*rows*panels*kernel.Panel*times*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOPS")
}
