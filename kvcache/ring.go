package kvcache

import (
	"sync"
	"sync/atomic"
	"time"

	"triforce/internal/mem"
	"triforce/internal/par"
)

// Segment is how many tiles are folded into one attention state, and therefore
// how many pages of a layer are waited for at a time.
const Segment = 4

// ring reads slabs ahead of the workers of a pass, in the order in which they
// need them: layer after layer, and in each the pages from lo on. Behind the
// last layer it begins again with the first, for the pass to come. Slabs are
// numbered as they are asked for, and number k is in slot k mod the number of
// slots.
type ring struct {
	d        *disk
	slots    []slot
	memory   []byte // (slots, slab)
	run      int    // slabs that are read at a time, at most
	requests chan request
	ended    sync.WaitGroup

	lo, n  int // the pages of the pass: [lo, lo+n)
	layers int
	base   int            // the number of the first slab of the pass
	left   []atomic.Int32 // by segment: workers that have released it
	err    atomic.Pointer[error]
	waited time.Duration

	mu    sync.Mutex
	came  *sync.Cond
	next  int // the number to be asked for next
	freed int // slabs before this number are no longer needed
	asked int // slabs that are being read

	meterMu  sync.Mutex
	inFlight int
	since    time.Duration
	reading  time.Duration
	bytes    int64
}

// slot is what was read last into a part of the ring's memory.
type slot struct {
	number int
	err    error
}

// request is for consecutive slabs of a layer.
type request struct{ number, slabs, layer, page int }

const (
	readers  = 4       // requests in flight
	runBytes = 1 << 20 // about the size of one
)

func (r *ring) init(d *disk, slots int) {
	r.d, r.layers = d, d.s.shape.Layers
	r.came = sync.NewCond(&r.mu)
	r.slots = make([]slot, slots)
	for i := range r.slots {
		r.slots[i].number = -1
	}
	r.run = min(max(1, runBytes/d.slab), Segment)
}

func (r *ring) open() {
	r.memory = mem.AllocAt(len(r.slots)*r.d.slab, FileBlock)
	r.requests = make(chan request, len(r.slots))
	for range readers {
		r.ended.Go(r.reader)
	}
}

func (r *ring) close() {
	close(r.requests)
	r.ended.Wait()
}

func (r *ring) reader() {
	slab := r.d.slab
	for q := range r.requests {
		first := q.number % len(r.slots)
		buf := r.memory[first*slab : (first+q.slabs)*slab]
		r.count(0)
		err := r.d.read(buf, q.layer, q.page)
		r.count(len(buf))
		r.mu.Lock()
		for i := range q.slabs {
			r.slots[first+i] = slot{q.number + i, err}
		}
		r.asked -= q.slabs
		r.mu.Unlock()
		r.came.Broadcast()
	}
}

// count meters reading: n is 0 at the beginning of a request.
func (r *ring) count(n int) {
	now := r.d.opt.Clock()
	r.meterMu.Lock()
	defer r.meterMu.Unlock()
	if n == 0 {
		if r.inFlight == 0 {
			r.since = now
		}
		r.inFlight++
		return
	}
	r.bytes += int64(n)
	if r.inFlight--; r.inFlight == 0 {
		r.reading += now - r.since
	}
}

func (r *ring) meter() (bytes int64, reading time.Duration) {
	r.meterMu.Lock()
	defer r.meterMu.Unlock()
	return r.bytes, r.reading
}

// plan prepares for a pass that needs the pages from lo on. What was read ahead
// for it is used.
func (r *ring) plan(lo int) {
	r.err.Store(nil)
	n := max(0, r.d.first-lo)
	if end := r.base + r.layers*r.n; r.freed == end && lo == r.lo && n >= r.n {
		r.base = end
	} else {
		r.reset()
	}
	r.lo, r.n = lo, n
	for len(r.left) <= r.d.first/Segment {
		r.left = make([]atomic.Int32, 2*len(r.left)+8)
	}
	r.mu.Lock()
	r.issue()
	r.mu.Unlock()
}

// reset waits for all that was asked for, and forgets it.
func (r *ring) reset() {
	r.mu.Lock()
	for r.asked > 0 {
		r.came.Wait()
	}
	r.mu.Unlock()
	for i := range r.left {
		r.left[i].Store(0)
	}
	r.lo, r.n, r.base, r.freed = 0, 0, r.next, r.next
}

// issue asks for as many slabs as there is room for. The caller holds mu.
func (r *ring) issue() {
	total := r.layers * r.n
	end := r.freed + len(r.slots)
	if r.n < len(r.slots) {
		end = min(end, r.base+total) // nothing of the pass to come
	}
	for r.next < end {
		k := (r.next - r.base) % total
		slabs := min(r.run, len(r.slots)-r.next%len(r.slots), r.n-k%r.n, end-r.next)
		r.requests <- request{r.next, slabs, k / r.n, r.lo + k%r.n}
		r.next += slabs
		r.asked += slabs
	}
}

// number is that of a page's slab.
func (r *ring) number(layer, page int) int { return r.base + layer*r.n + page - r.lo }

// pages are those of a segment that must be read.
func (r *ring) pages(segment int) (lo, hi int) {
	return max(r.lo, segment*Segment), min(r.lo+r.n, (segment+1)*Segment)
}

// fetch waits for a segment of a layer.
func (r *ring) fetch(layer, segment, worker int) error {
	lo, hi := r.pages(segment)
	if lo >= hi {
		return nil
	}
	if worker == 0 {
		start := r.d.opt.Clock()
		defer func() { r.waited += r.d.opt.Clock() - start }()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := r.number(layer, lo); lo < hi; lo, k = lo+1, k+1 {
		s := &r.slots[k%len(r.slots)]
		for s.number != k {
			r.came.Wait()
		}
		if err := s.err; err != nil {
			r.err.CompareAndSwap(nil, &err)
			return err
		}
	}
	return nil
}

// release says that one of the workers is through with a segment.
func (r *ring) release(segment, workers int) {
	lo, hi := r.pages(segment)
	if lo >= hi || int(r.left[segment].Add(1)) < workers {
		return
	}
	r.left[segment].Store(0)
	r.mu.Lock()
	r.freed += hi - lo
	r.issue()
	r.mu.Unlock()
}

// tile returns the memory of a tile between fetch and release.
func (r *ring) tile(layer, head, page int) []byte {
	size := r.d.s.tileBytes
	at := r.number(layer, page)%len(r.slots)*r.d.slab + head*size
	return r.memory[at : at+size : at+size]
}

// scan calls f on all tiles, layer by layer and segment by segment, which are in
// memory during the call. One worker takes all of a head. Tiles of forgotten
// tokens come too: what is on disk is fetched and released to its end.
func (c *Full) scan(team *par.Team, f func(layer, head, lo, hi int)) error {
	r := &c.disk.ring
	r.plan(0)
	tiles := max(tiles(c.length), c.disk.first)
	team.Run(func(w *par.Worker) {
		for l := range c.shape.Layers {
			for lo := 0; lo < tiles; lo += Segment {
				if r.fetch(l, lo/Segment, w.ID) != nil {
					return // all workers do
				}
				for h := w.ID; h < c.shape.Heads; h += team.Size() {
					f(l, h, lo, min(lo+Segment, tiles))
				}
				r.release(lo/Segment, team.Size())
			}
			w.Sync()
		}
	})
	if err := r.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Offloaded reports whether rows of the pass see tiles that must be fetched, a
// segment at a time, in ascending order of layers and segments.
func (p *Pass) Offloaded() bool { return p.disk != nil && p.disk.ring.n > 0 }

// Fetch waits until the tiles of a segment of a layer are in memory. Every
// worker calls it, and then Release; if it fails, the pass has failed, and
// Release must not be called.
func (p *Pass) Fetch(layer, segment, worker int) bool {
	return p.disk.ring.fetch(layer, segment, worker) == nil
}

// Release says that a worker needs the tiles of a segment no longer.
func (p *Pass) Release(layer, segment, worker, workers int) {
	if p.took != nil {
		lo, hi := p.disk.ring.pages(segment)
		for h := worker; h < p.shape.Heads; h += workers {
			p.took(layer, h, lo, hi)
		}
	}
	p.disk.ring.release(segment, workers)
}

// Err is why the pass has failed, or nil.
func (p *Pass) Err() error {
	if p.disk == nil {
		return nil
	}
	if err := p.disk.ring.err.Load(); err != nil {
		return *err
	}
	return nil
}
