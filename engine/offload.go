package engine

import (
	"fmt"
	"os"
	"time"

	"triforce/internal/scratch"
	"triforce/kvcache"
)

// AutoRAM as Options.KVRAM takes what memory there is.
const AutoRAM = -1

// ErrDisk marks a failure of the file that holds what of a KV cache is not in
// memory. Text generated until then is whole; the session may go on.
var ErrDisk = kvcache.ErrDisk

// DiskStats is what a session's cache has on disk, and the traffic with it.
type DiskStats = kvcache.DiskStats

// DiskSpeed is what a disk does, in bytes per second.
type DiskSpeed = scratch.Speed

// MeasureDisk writes and reads a file of 128 MiB in the folder, past the
// system's cache where that is possible. An empty name is the folder for
// temporary files.
func MeasureDisk(dir string) (DiskSpeed, error) {
	s, err := scratch.Measure(KVFolder(dir))
	if err != nil {
		return s, fmt.Errorf("--kv-dir: %w", err)
	}
	return s, nil
}

// KVFolder is the folder that Options.KVDir stands for.
func KVFolder(dir string) string {
	if dir == "" {
		return os.TempDir()
	}
	return dir
}

// KVDir is where the sessions of the engine keep what is not in memory, or ""
// if all is.
func (e *Engine) KVDir() string {
	if e.opt.KVRAM == 0 {
		return ""
	}
	return KVFolder(e.opt.KVDir)
}

// KVDirKind says what is unfit about that folder: it is on a "memory" or
// "network" file system; "" if nothing is known.
func (e *Engine) KVDirKind() string {
	if e.opt.KVRAM == 0 {
		return ""
	}
	return KVFolderKind(e.opt.KVDir)
}

// KVFolderKind says the same of a folder.
func KVFolderKind(dir string) string { return scratch.Kind(KVFolder(dir)) }

// maxPass is the most rows of a pass over the full cache.
func (o *Options) maxPass() int { return max(o.Batch, maxLogits) }

// share settles how much of the cache is in memory: all of it (0), or as many
// bytes.
func (c *Forecast) share(o *Options) error {
	ram := o.KVRAM
	least := c.shape.LeastRAM(c.set, o.maxPass())
	if ram == AutoRAM {
		ram = c.KV
		if spare := (c.Available - c.Weights - c.Scratch) * 3 / 4; c.Available > 0 && c.KV > spare {
			ram = max(spare, least)
		}
	}
	if ram == 0 || ram >= c.KV {
		c.RAM = 0
		return nil
	}
	if ram < least {
		return fmt.Errorf("%w: --kv-ram %s: passes of %d tokens need at least %s; raise it, or lower --batch-size (-b)",
			ErrUsage, Bytes(ram), o.maxPass(), Bytes(least))
	}
	c.RAM, c.KV, c.Disk = ram, ram, c.shape.DiskBytes(c.set, c.Context)
	return nil
}

// newCache makes the full cache of a session. Close it.
func (e *Engine) newCache() *kvcache.Full {
	shape := e.model.KVShape(e.kv)
	if e.opt.KVRAM == 0 {
		return kvcache.NewFull(kvcache.NewStore(shape, e.set), e.opt.Context, e.model.Window)
	}
	create := e.opt.create
	if create == nil {
		dir := e.KVDir()
		create = func() (kvcache.File, error) { return scratch.Create(dir) }
	}
	start := time.Now()
	store := kvcache.NewDiskStore(shape, e.set, kvcache.DiskOptions{
		RAM: e.opt.KVRAM, Context: e.opt.Context, Rows: e.opt.maxPass(), Create: create,
		Unchecked: e.opt.KVUnchecked, Clock: func() time.Duration { return time.Since(start) },
	})
	return kvcache.NewFull(store, e.opt.Context, e.model.Window)
}

// checkSpace reports a disk that has no room for a cache of n tokens.
func (s *Session) checkSpace(n int) error {
	if s.e.opt.KVRAM == 0 {
		return nil
	}
	shape := s.cache.Shape()
	if shape.ContextBytes(s.e.set, n) <= s.e.opt.KVRAM {
		return nil
	}
	dir := s.e.KVDir()
	need, free := shape.DiskBytes(s.e.set, n)-s.cache.Disk().Bytes, scratch.Free(dir)
	if free >= 0 && need > free {
		return fmt.Errorf("%w: the KV cache of %d tokens takes %s of disk, %s has %s free; "+
			"name another folder with --kv-dir, or ask for less", ErrSpace, n, Bytes(need), dir, Bytes(free))
	}
	return nil
}

// Disk says what the session's cache has on disk; all zero if it is in memory.
func (s *Session) Disk() DiskStats { return s.cache.Disk() }
