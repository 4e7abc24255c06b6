package server

import (
	"sync"

	"triforce/engine"
	"triforce/server/openai"
)

// feed carries what the generations of a request yield to its writer. Putting
// never waits: a request's tokens are bounded, and a slow reader must not hold
// up the passes that others share.
type feed struct {
	stream bool // the writer wants each event, not all at the end
	mu     sync.Mutex
	events []event
	ready  chan struct{}
}

// event is one step of one choice.
type event struct {
	choice   int
	token    *engine.Token // its text is the event's own
	progress *openai.PromptProgress
	end      *outcome
}

// outcome is how a choice ended.
type outcome struct {
	result engine.Result
	levels []openai.Level
	err    error
}

func newFeed(stream bool) *feed { return &feed{stream: stream, ready: make(chan struct{}, 1)} }

func (f *feed) put(e event) {
	f.mu.Lock()
	f.events = append(f.events, e)
	f.mu.Unlock()
	if !f.stream && e.end == nil {
		return // waking the writer takes time from the pass that others wait for
	}
	select {
	case f.ready <- struct{}{}:
	default:
	}
}

// take returns what came since; ready says when there is something.
func (f *feed) take() []event {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.events
	f.events = nil
	return events
}
