// Package server offers an engine over HTTP: OpenAI's API for completions and
// chats, llama-server's for tokens, properties and slots, Prometheus' metrics,
// and a page for people.
//
//	request ─ limits, key ─ openai.Read ─ slot (queue) ─ Session.Generate ─ feed ─ response
//
// A slot is a session of the engine; the sessions' passes are run together. A
// request waits for a slot in order of arrival. Its tokens go through a feed, so
// that a slow reader delays nobody, and a reader that goes away frees the slot
// after the pass under way. A Server is safe for concurrent use; it does not own
// the engine.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"triforce/engine"
)

// Options says how to serve.
type Options struct {
	// Name is the model's in requests and answers. Aliases are accepted too.
	Name    string
	Aliases []string
	// Parallel is how many requests generate at a time, and Queue how many more
	// may wait; further ones are refused.
	Parallel, Queue int
	// CacheBytes is the memory of caches: of requests that run, and of what they
	// leave for later ones with the same beginning. CacheDir, if not empty, is a
	// folder in which that is kept for the next server.
	CacheBytes int64
	CacheDir   string
	// MaxTokens bounds what a request may generate, and is what it gets if it
	// does not say.
	MaxTokens int
	// MaxBody is the largest body of a request in bytes.
	MaxBody int64
	// Timeout ends a request that takes longer, its time in the queue included;
	// 0 is never. WriteTimeout ends one whose reader takes nothing for that long.
	Timeout, WriteTimeout time.Duration
	// Drain is how long running requests may go on after the end was asked for.
	Drain time.Duration
	// Key, if not empty, must come with requests as a bearer token.
	Key string
	// Origins are the web origins that may call besides the server's own.
	Origins []string
	// Gen is what requests do not say.
	Gen     engine.GenOptions
	Log     *slog.Logger
	Version string
	// Now is the clock of chat templates that tell the date.
	Now func() time.Time
}

// Defaults are the options of a server for one machine's programs.
func Defaults() Options {
	return Options{
		Parallel: 8, Queue: 64, MaxTokens: 4096, MaxBody: 16 << 20,
		Timeout: 30 * time.Minute, WriteTimeout: time.Minute, Drain: 30 * time.Second,
		Gen: engine.GenDefaults(), Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
}

// maxParallel bounds slots, each of which has caches.
const maxParallel = 256

// Validate reports the first option that is out of range, by its flag. The
// error wraps engine.ErrUsage.
func (o *Options) Validate() error {
	if err := o.Gen.Validate(); err != nil {
		return err
	}
	for _, n := range []struct {
		flag            string
		value, min, max int64
	}{
		{"--parallel", int64(o.Parallel), 1, maxParallel},
		{"--queue", int64(o.Queue), 0, 1 << 20},
		{"--cache-ram", o.CacheBytes, 0, 1 << 50},
		{"--max-tokens", int64(o.MaxTokens), 1, 1 << 28},
		{"--max-body", o.MaxBody, 1 << 10, 1 << 32},
		{"--timeout", int64(o.Timeout), 0, int64(1000 * time.Hour)},
		{"--write-timeout", int64(o.WriteTimeout), int64(time.Millisecond), int64(1000 * time.Hour)},
		{"--drain", int64(o.Drain), 0, int64(1000 * time.Hour)},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%w: %s %d: expected %d to %d", engine.ErrUsage, n.flag, n.value, n.min, n.max)
		}
	}
	return nil
}

// Server answers requests.
type Server struct {
	e        *engine.Engine
	o        Options
	batcher  *engine.Batcher
	slots    *slots
	metrics  *metrics
	handler  http.Handler
	keeper   keeper
	draining atomic.Bool
	started  time.Time
}

// New makes a server. The options are valid. Close it when no request runs.
func New(e *engine.Engine, o Options) *Server {
	if o.CacheBytes == 0 {
		o.CacheBytes = e.CacheMemory(o.Parallel)
	}
	s := &Server{e: e, o: o, batcher: e.NewBatcher(o.CacheBytes), started: o.Now(), keeper: keeper{due: make(chan struct{}, 1)}}
	s.slots = newSlots(s.batcher, o.Parallel, o.Queue, e.Options().Context)
	s.metrics = newMetrics(s)
	s.handler = s.routes()
	return s
}

// Close ends the slots and the workers.
func (s *Server) Close() {
	s.slots.close()
	s.batcher.Close()
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Serve answers what comes to the listener until ctx ends. Then it refuses new
// requests, lets those under way finish for a while, and cancels the rest.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	hs := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelWarn),
	}
	kept := s.keepOn(base)
	ended := make(chan error, 1)
	go func() { ended <- hs.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.o.Log.Info("draining", "running", s.slots.running(), "waiting", s.slots.waiting(), "for", s.o.Drain)
	patience, stop := context.WithTimeout(context.Background(), s.o.Drain)
	defer stop()
	err := hs.Shutdown(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		s.o.Log.Warn("cancelling what still runs", "running", s.slots.running())
		cancel()
		last, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		err = errors.Join(hs.Shutdown(last), hs.Close())
	}
	cancel()
	<-kept
	err = errors.Join(err, s.keep())
	s.o.Log.Info("stopped")
	return err
}

// drainBody takes what is left of a body, so that the connection can be used
// again.
func drainBody(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 64<<10) }
