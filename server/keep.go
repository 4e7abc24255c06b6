package server

import (
	"context"
	"sync/atomic"
	"time"
)

// keeper writes what is remembered to CacheDir: after much was read, so that a
// crash loses little, and at the end.
type keeper struct {
	read atomic.Int64 // tokens since the last time
	due  chan struct{}
}

// keepEvery is how many tokens of prompts are read before what is remembered is
// written: some seconds of work for a small model.
const keepEvery = 1024

// observe counts tokens that were read.
func (k *keeper) observe(tokens int) {
	if k.read.Add(int64(tokens)) < keepEvery {
		return
	}
	select {
	case k.due <- struct{}{}:
	default:
	}
}

// keepOn writes whenever it is due, until ctx ends; then it closes the channel.
func (s *Server) keepOn(ctx context.Context) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-s.keeper.due:
				if err := s.keep(); err != nil {
					s.o.Log.Warn("the cache could not be kept", "error", err)
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ended
}

// keep writes what is remembered and is not there yet. It runs once at a time.
// What running requests leave no memory for has to wait for the next time.
func (s *Server) keep() error {
	s.keeper.read.Store(0)
	if s.o.CacheDir == "" {
		return nil
	}
	start, left := time.Now(), 0
	err := s.batcher.SaveCache(s.o.CacheDir, func(pages int) (func(), bool) {
		release, ok := s.slots.reserve(pages)
		if !ok {
			left++
		}
		return release, ok
	})
	s.o.Log.Info("kept the cache", "in", s.o.CacheDir, "left_out", left, "ms", time.Since(start).Milliseconds())
	return err
}

// Restore reads what an earlier server left in CacheDir. What cannot be used is
// logged and left out.
func (s *Server) Restore(progress func(done, total int)) {
	if s.o.CacheDir == "" {
		return
	}
	if err := s.batcher.LoadCache(s.o.CacheDir, progress); err != nil {
		s.o.Log.Warn("not all of the cache could be restored", "error", err)
	}
	u := s.batcher.CacheUse()
	s.o.Log.Info("restored", "tokens", u.Holding*u.PageTokens, "from", s.o.CacheDir)
}
