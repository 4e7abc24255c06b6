package kernel

import "triforce/internal/kernel/ref"

// saturate brings all of x within the range of float16.
func saturate(x []float32) {
	for i, v := range x {
		x[i] = ref.Saturate16(v)
	}
}
