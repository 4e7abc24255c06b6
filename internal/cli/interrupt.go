package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// interrupts says what an interrupt does: end the command, unless somebody
// takes it.
type interrupts struct {
	mu   sync.Mutex
	take func()
}

// during makes interrupts call f instead of ending the command while run runs.
func (i *interrupts) during(f, run func()) {
	i.set(f)
	defer i.set(nil)
	run()
}

func (i *interrupts) set(f func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.take = f
}

// taken lets somebody take an interrupt, and reports whether anybody did.
func (i *interrupts) taken() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.take == nil {
		return false
	}
	i.take()
	return true
}

// watch returns a context that ends with the first interrupt that nobody takes,
// or when the process is asked to end; after that, signals end the process.
func (i *interrupts) watch() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == os.Interrupt && i.taken() {
					continue
				}
				cancel()
			case <-ctx.Done():
			}
			signal.Stop(signals)
			return
		}
	}()
	return ctx, cancel
}
