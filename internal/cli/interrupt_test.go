package cli

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// TestInterrupts sends real signals to this process.
func TestInterrupts(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot interrupt itself")
	}
	me, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	var i interrupts
	ctx, stop := i.watch()
	defer stop()
	const patience = 10 * time.Second
	taken := make(chan struct{}, 1)
	i.during(func() { taken <- struct{}{} }, func() {
		if err := me.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		select {
		case <-taken:
		case <-time.After(patience):
			t.Error("nobody took the interrupt")
		}
	})
	if ctx.Err() != nil {
		t.Error("an interrupt that was taken ended the command")
	}
	if err := me.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("an interrupt did not end the command")
	}
}
