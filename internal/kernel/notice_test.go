package kernel

import "testing"

// NOTICE from the lead to the two workers in this package; delete this file's
// part once you have read it (products worker: delete TestNoticeProducts;
// attention worker: delete TestNoticeAttention; last one deletes the file).

func TestNoticeAttention(t *testing.T) {
	t.Fatal(`SPEC CHANGE in ref/attention.go: Q8Store spreads keys by an (unnormalized) Walsh-Hadamard transform before quantizing,
Q8Query spreads queries too and divides scale by n (a power of two, exact). See ref.spread. Butterflies at distance 1, 2, 4, … in that order (bit exact).
Attend itself is unchanged. Please give Store and Query of the AVX tiers fast Hadamard code for D = 64 and 128 (general: any D), zero allocations.
Also new: KVKernels.Move (plain Go is fine), ref.CopyChunk.`)
}
