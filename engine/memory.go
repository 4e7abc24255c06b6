package engine

import (
	"fmt"

	"triforce/internal/kernel"
	"triforce/kvcache"
	"triforce/model/llama"
	"triforce/weights"
)

// Forecast is the memory that a model will take, in bytes.
type Forecast struct {
	Weights int64
	// Context is the number of tokens of the forecast, and KV the memory of
	// their keys and values.
	Context int
	KV      int64
	// RAM is the part of the cache that is in memory if the rest, Disk, is in a
	// file; 0 if all is in memory.
	RAM, Disk int64
	// Scratch is the memory of one session's passes over Batch tokens.
	Scratch int64
	Batch   int
	// Available is what this machine, or this container, can still give, or 0
	// if that is not known.
	Available int64

	set   *kernel.Set
	shape kvcache.Shape
}

// Forecast says what the model will take with the given options, for the
// context in o or else the one that the model was made for.
func (f *File) Forecast(o Options) (*Forecast, error) {
	config, err := f.config()
	if err != nil {
		return nil, err
	}
	return forecast(f.source, &config, o)
}

func forecast(source weights.Source, config *llama.Config, o Options) (*Forecast, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	tier, _ := o.tier()
	kv, _ := kernel.ParseKVType(o.KVType)
	c := &Forecast{
		Weights: llama.PackedBytes(source, tier),
		Context: config.Context,
		// The set only sizes tiles here, which are the same on all tiers.
		set: kernel.For(tier), shape: config.KVShape(kv),
		Available: availableBytes(),
	}
	if o.Context > 0 {
		c.Context = o.Context
	}
	if o.Batch == 0 {
		o.Batch = defaultBatch(c.Weights)
	}
	c.Batch, c.Scratch = o.Batch, scratchBytes(config, o.Batch)
	c.KV = c.shape.ContextBytes(c.set, c.Context)
	return c, c.share(&o)
}

// Total is the memory of everything.
func (c *Forecast) Total() int64 { return c.Weights + c.KV + c.Scratch }

// Fits reports whether the machine has that much, as far as is known.
func (c *Forecast) Fits() bool { return c.Available == 0 || c.Total() <= c.Available }

// String says what is needed and what is there.
func (c *Forecast) String() string {
	s := fmt.Sprintf("weights %s + %s cache of %d tokens %s + scratch %s = %s",
		Bytes(c.Weights), c.shape.Type, c.Context, Bytes(c.KV), Bytes(c.Scratch), Bytes(c.Total()))
	if c.Disk > 0 {
		s += fmt.Sprintf(", besides %s on disk", Bytes(c.Disk))
	}
	if c.Available > 0 {
		s += fmt.Sprintf(", available %s", Bytes(c.Available))
	}
	return s
}

// CacheMemory is a memory of caches for n sessions at once that leaves room for
// others on this machine: twice what they need with full contexts, but at most
// half of what is available, and at least what one needs with a full context.
func (e *Engine) CacheMemory(n int) int64 {
	one := int64((e.opt.Context+kernel.Tile-1)/kernel.Tile+1) * e.pageBytes()
	most := 2 * int64(n) * one
	if available := availableBytes(); available > 0 {
		most = min(most, available/2)
	}
	return max(most, one)
}

// fit returns the context to use: what was asked for, or as much of the model's
// own as there is memory for.
func (c *Forecast) fit(asked int) (int, error) {
	if c.Fits() {
		return c.Context, nil
	}
	if c.RAM > 0 {
		return 0, fmt.Errorf("%w: %s; lower --kv-ram", ErrMemory, c)
	}
	spare := c.Available - c.Weights - c.Scratch
	pages := spare / c.shape.PageBytes(c.set)
	if asked > 0 && pages > 0 {
		return 0, fmt.Errorf("%w: %s; lower --ctx-size to %d", ErrMemory, c, pages*kernel.Tile)
	}
	if pages < 1 {
		return 0, fmt.Errorf("%w: %s", ErrMemory, c)
	}
	return int(pages * kernel.Tile), nil
}

// scratchBytes is about what a llama.Session takes.
func scratchBytes(c *llama.Config, rows int) int64 {
	perRow := 4*c.Dim + 3*c.FFN + 3*c.Heads*c.HeadDim + 2*c.KVHeads*c.HeadDim
	return int64(rows)*int64(perRow)*5 + int64(c.Vocab+c.HeadRows())*5
}

// Bytes is a size that prints itself readably.
type Bytes int64

// String gives three digits and a binary unit, such as "93.8 MiB".
func (b Bytes) String() string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if b < 1<<10 {
		return fmt.Sprintf("%d B", int64(b))
	}
	x := float64(b) / (1 << 10)
	for x >= 1023.5 && len(units) > 1 {
		x /= 1 << 10
		units = units[1:]
	}
	switch {
	case x < 9.995:
		return fmt.Sprintf("%.2f %s", x, units[0])
	case x < 99.95:
		return fmt.Sprintf("%.1f %s", x, units[0])
	}
	return fmt.Sprintf("%.0f %s", x, units[0])
}
