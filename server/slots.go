package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"triforce/engine"
)

// errBusy is returned when the queue is full.
var errBusy = errors.New("the queue is full")

// slots are the sessions, the memory for them, and the queue for both.
type slots struct {
	mu       sync.Mutex
	all      []*slot
	free     []*slot
	pages    int       // of memory that nobody has been promised
	queue    []*ticket // the oldest first
	maxQueue int
}

// slot is a session and what it is doing.
type slot struct {
	id      int
	session *engine.Session
	pages   int // promised to the request that has it

	mu     sync.Mutex
	status slotStatus
}

// slotStatus is what /slots says of a slot.
type slotStatus struct {
	ID           int       `json:"id"`
	Processing   bool      `json:"is_processing"`
	Context      int       `json:"n_ctx"`
	Request      string    `json:"request,omitempty"`
	Started      time.Time `json:"started,omitzero"`
	PromptTokens int       `json:"n_prompt_tokens"`
	Read         int       `json:"n_prompt_tokens_processed"`
	Decoded      int       `json:"n_decoded"`
}

func newSlots(b *engine.Batcher, n, queue, context int) *slots {
	s := &slots{maxQueue: queue, pages: b.CacheUse().Limit}
	for i := range n {
		s.all = append(s.all, &slot{id: i, session: b.NewSession(), status: slotStatus{Context: context}})
	}
	s.free = append(s.free, s.all...)
	return s
}

func (s *slots) close() {
	for _, slot := range s.all {
		slot.session.Close()
	}
}

// ticket is a place in the queue, or a slot already.
type ticket struct {
	s     *slots
	pages int
	slot  chan *slot
}

// enter joins the queue for slots with so many pages each, all or none; none
// returns errBusy.
func (s *slots) enter(pages []int) ([]*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*ticket
	for _, n := range pages {
		t := &ticket{s: s, pages: n, slot: make(chan *slot, 1)}
		list = append(list, t)
		s.queue = append(s.queue, t)
	}
	s.serve()
	if len(s.queue) <= s.maxQueue {
		return list, nil
	}
	for _, t := range list {
		s.remove(t)
	}
	return nil, errBusy
}

// serve gives free slots to those who wait longest. s.mu is held.
func (s *slots) serve() {
	for len(s.queue) > 0 && len(s.free) > 0 && s.queue[0].pages <= s.pages {
		t, last := s.queue[0], len(s.free)-1
		slot := s.free[last]
		s.queue, s.free = s.queue[1:], s.free[:last]
		slot.pages = t.pages
		s.pages -= t.pages
		t.slot <- slot
	}
}

// remove takes a ticket out of the queue, or gives its slot back if nobody has
// taken it. s.mu is held.
func (s *slots) remove(t *ticket) {
	if i := slices.Index(s.queue, t); i >= 0 {
		s.queue = slices.Delete(s.queue, i, i+1)
	}
	select {
	case slot := <-t.slot:
		s.back(slot)
	default:
	}
	s.serve()
}

// back makes a slot free. s.mu is held.
func (s *slots) back(slot *slot) {
	s.free = append(s.free, slot)
	s.pages += slot.pages
	slot.pages = 0
}

// wait returns the slot once it is there. Without one the ticket is given back.
func (t *ticket) wait(ctx context.Context) (*slot, error) {
	select {
	case slot := <-t.slot:
		return slot, nil
	case <-ctx.Done():
		t.s.mu.Lock()
		defer t.s.mu.Unlock()
		t.s.remove(t)
		return nil, ctx.Err()
	}
}

// release gives the slot and its memory to whoever waits longest.
func (s *slots) release(slot *slot) {
	slot.session.Forget()
	slot.set(func(st *slotStatus) { *st = slotStatus{Context: st.Context} })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back(slot)
	s.serve()
}

// reserve takes pages from what requests may be promised, until they are
// released. It reports whether they can be had now.
func (s *slots) reserve(pages int) (release func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pages > s.pages {
		return nil, false
	}
	s.pages -= pages
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pages += pages
		s.serve()
	}, true
}

func (s *slots) running() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all) - len(s.free)
}

func (s *slots) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue)
}

// set changes what the slot shows of itself.
func (s *slot) set(change func(*slotStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status)
}

func (s *slot) get() slotStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status
	st.ID = s.id
	return st
}
