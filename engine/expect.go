package engine

import (
	"math"

	"triforce/internal/kernel"
)

// rates is what a session's passes have come to: by it, speculation judges what
// passes will cost that nobody has timed yet. How the costs of passes compare
// counts, not what they are: that is soon measured.
type rates struct {
	work    float64 // multiply-accumulates of passes over prompts, the older counting less
	seconds float64 // of those passes
	read    float64 // bytes a second that passes over one row were seen to read, 0 = none was
}

const (
	// readRate is the bytes a second that memory is taken to give before it was
	// read, and at least: what servers and desktops give to a few cores. The first
	// cachedBytes, which are in a cache, come at cacheRate.
	readRate    = 16e9
	cacheRate   = 48e9
	cachedBytes = 8 << 20
	// lastBytes are more than the last cache of most machines holds.
	lastBytes = 64 << 20
	// multiplyRate is the multiply-accumulates a second that a worker is taken to
	// do before it has read a prompt.
	multiplyRate = 20e9
	// diskRate is the bytes a second that a disk is taken to give before it was
	// read.
	diskRate = 1e9
	// layerSeconds is what a layer costs however little there is to do.
	layerSeconds = 5e-6
	// ratesRows is the fewest rows of a pass that measures multiplying.
	ratesRows = 24
	// ratesDecay is the weight of a pass after the next one.
	ratesDecay = 0.8
	// slowGain is the weight of a pass that read more slowly than those before:
	// whatever disturbs one makes it longer.
	slowGain = 0.1
)

// observe records a pass over rows of a prompt after depth tokens.
func (r *rates) observe(e *Engine, depth, rows int, seconds float64) {
	if rows < ratesRows || seconds <= 0 {
		return
	}
	w := e.Work(depth, rows)
	head := int64(e.model.HeadRows()) * int64(e.model.Dim) // only the last row's is computed, if any
	r.work = ratesDecay*r.work + float64(w.Products-int64(rows)*head+w.Attention)
	r.seconds = ratesDecay*r.seconds + seconds
}

// observeOne records a pass over one row after depth tokens.
func (r *rates) observeOne(e *Engine, depth int, seconds float64) {
	w := e.Work(depth, 1)
	bytes := float64(w.Weights + w.KV)
	if bytes < lastBytes {
		return // it may all be in a cache
	}
	multiply := float64(w.Products+w.Attention) / r.multiply(e)
	seconds -= layerSeconds * float64(e.model.Layers)
	reading := math.Sqrt(max(0, seconds*seconds-multiply*multiply)) - cachedBytes/cacheRate
	bytes -= cachedBytes
	rate := min(bytes/max(reading, 1e-9), cacheRate)
	if r.read == 0 || rate > r.read {
		r.read = rate
	}
	r.read += slowGain * (rate - r.read)
}

// multiply is the multiply-accumulates a second of all workers.
func (r *rates) multiply(e *Engine) float64 {
	if r.seconds == 0 {
		return multiplyRate * float64(e.opt.Threads)
	}
	return r.work / r.seconds
}

// expect returns the seconds expected of a pass of e's model over rows, each of
// which sees the given number of slots.
func (s *Session) expect(e *Engine, slots func() int) func(rows float64) float64 {
	m := e.model
	one := e.Work(0, 1)
	slot := e.Work(1, 1).Attention - one.Attention
	slotBytes := e.slotBytes()
	return func(rows float64) float64 {
		n := float64(slots())
		if m.Window > 0 {
			n = min(n, float64(m.Window))
		}
		bytes := float64(one.Weights) + slotBytes*n
		cached := min(bytes, cachedBytes)
		read := cached/cacheRate + (bytes-cached)/max(readRate, s.rates.read)
		multiply := rows * (float64(one.Products) + float64(slot)*n) / s.rates.multiply(e)
		return math.Sqrt(read*read+multiply*multiply) + layerSeconds*float64(m.Layers)
	}
}

// expectFull is the same of passes over the full cache. What of it is on disk is
// read while they compute, and takes its time however many rows there are.
func (s *Session) expectFull() func(rows float64) float64 {
	computing := s.expect(s.e, s.cache.Len)
	return func(rows float64) float64 {
		bytes := float64(s.cache.PassBytes())
		if bytes == 0 {
			return computing(rows)
		}
		rate := s.Disk().Bandwidth()
		if rate == 0 {
			rate = diskRate
		}
		return math.Hypot(computing(rows), bytes/rate)
	}
}

// slotBytes is the memory of a token's keys and values.
func (e *Engine) slotBytes() float64 {
	return float64(e.model.KVShape(e.kv).PageBytes(e.set)) / kernel.Tile
}
