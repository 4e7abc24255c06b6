package engine

import (
	"context"
	"math"
	"testing"
)

// A cache on disk makes passes dearer, by as much whatever their rows, and what
// the disk was seen to do counts.
func TestExpectDisk(t *testing.T) {
	ctx := context.Background()
	const depth = 4000
	expected := func(ram int64) (one, many, rate, bytes float64) {
		e := open(t, "", func(o *Options) { o.Context, o.KVRAM = 8192, ram })
		s := e.NewSession()
		defer s.Close()
		if err := s.fill(ctx, depth); err != nil {
			t.Fatal(err)
		}
		expect := s.expectFull()
		for { // what is read ahead may end meanwhile, and change the rate
			rate = s.Disk().Bandwidth()
			one, many = expect(1), expect(33)
			if s.Disk().Bandwidth() == rate {
				return one, many, rate, float64(s.cache.PassBytes())
			}
		}
	}
	one, many, _, bytes := expected(0)
	if bytes != 0 {
		t.Errorf("%v bytes of a cache in memory are on disk", bytes)
	}
	slowOne, slowMany, rate, bytes := expected(4 << 20)
	if rate == 0 {
		rate = diskRate
	}
	if bytes == 0 || slowOne < bytes/rate || slowMany/slowOne >= many/one {
		t.Errorf("one row %v s, 33 rows %v s; on disk, %v bytes at %v a second, %v s and %v s", one, many, bytes, rate, slowOne, slowMany)
	}
}

// How fast memory is read shows in passes over one row, unless what they read is in
// a cache; and a machine that was slow for a while is not taken for one that computes
// for nothing.
func TestExpectReading(t *testing.T) {
	e := open(t, "", nil)
	for _, c := range []struct {
		depth      int
		rate, want float64
	}{{0, 30e9, readRate}, {30000, 30e9, 30e9}, {30000, 24e9, 24e9}, {30000, 4e9, readRate}} {
		var r rates
		w := e.Work(c.depth, 1)
		bytes := float64(w.Weights + w.KV)
		read := cachedBytes/cacheRate + (bytes-cachedBytes)/c.rate
		multiply := float64(w.Products+w.Attention) / r.multiply(e)
		for range 3 {
			r.observeOne(e, c.depth, math.Hypot(read, multiply)+layerSeconds*float64(e.model.Layers))
		}
		if got := max(readRate, r.read); math.Abs(got-c.want) > 0.01*c.want {
			t.Errorf("after %d tokens, read at %.3g: %.3g bytes a second, want %.3g", c.depth, c.rate, got, c.want)
		}
	}
}
