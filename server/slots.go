package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"triforce/engine"
)

// errBusy is returned when the queue is full.
var errBusy = errors.New("the queue is full")

// slots are the sessions, and the queue for them.
type slots struct {
	mu       sync.Mutex
	all      []*slot
	free     []*slot
	queue    []chan *slot // of those that wait, the oldest first
	maxQueue int
}

// slot is a session and what it is doing.
type slot struct {
	id      int
	session *engine.Session

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
	CacheBytes   int64     `json:"cache_bytes"`
}

func newSlots(b *engine.Batcher, n, queue int) *slots {
	s := &slots{maxQueue: queue}
	for i := range n {
		s.all = append(s.all, &slot{id: i, session: b.NewSession()})
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
	s    *slots
	slot chan *slot
}

// enter joins the queue for n slots, all or none; none returns errBusy.
func (s *slots) enter(n int) ([]*ticket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue)+max(0, n-len(s.free)) > s.maxQueue && n > len(s.free) {
		return nil, errBusy
	}
	var list []*ticket
	for range n {
		t := &ticket{s: s, slot: make(chan *slot, 1)}
		if last := len(s.free) - 1; last >= 0 && len(s.queue) == 0 {
			t.slot <- s.free[last]
			s.free = s.free[:last]
		} else {
			s.queue = append(s.queue, t.slot)
		}
		list = append(list, t)
	}
	return list, nil
}

// wait returns the slot once it is there. Without one the ticket is given back.
func (t *ticket) wait(ctx context.Context) (*slot, error) {
	select {
	case slot := <-t.slot:
		return slot, nil
	case <-ctx.Done():
		t.leave()
		return nil, ctx.Err()
	}
}

// leave gives back a ticket that nobody waits for.
func (t *ticket) leave() {
	t.s.mu.Lock()
	for i, c := range t.s.queue {
		if c == t.slot {
			t.s.queue = append(t.s.queue[:i], t.s.queue[i+1:]...)
			t.s.mu.Unlock()
			return
		}
	}
	t.s.mu.Unlock()
	select {
	case slot := <-t.slot:
		t.s.release(slot)
	default: // it was used
	}
}

// release gives the slot to whoever waits longest.
func (s *slots) release(slot *slot) {
	slot.set(func(st *slotStatus) { *st = slotStatus{} })
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 {
		s.queue[0] <- slot
		s.queue = s.queue[1:]
		return
	}
	s.free = append(s.free, slot)
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
