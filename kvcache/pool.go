package kvcache

import (
	"errors"
	"fmt"
	"sync"

	"triforce/internal/kernel"
	"triforce/internal/mem"
)

// ErrNoPages is returned by Begin when a pool has no page left.
var ErrNoPages = errors.New("no memory is left for keys and values")

// Pool hands out pages of one shape to several full caches, up to a limit, and
// takes them back. A page may have several holders, caches of the same beginning
// and whoever remembers it; nobody writes to it then: Full.Begin makes a copy of
// what it is about to change. A Pool is safe for concurrent use.
type Pool struct {
	size  int
	limit int
	spare func() bool

	mu    sync.Mutex
	arena mem.Arena
	all   []*Page
	free  []*Page
}

// Page is a page of a pool.
type Page struct {
	data    []byte
	holders int // guarded by the pool
	kept    bool
}

// NewPool makes a pool of up to limit pages for caches like store's. When they
// are used up, spare is asked to let go of one; it returns false if it cannot.
func NewPool(store *Store, limit int, spare func() bool) *Pool {
	p := &Pool{size: store.pageBytes(), limit: limit, spare: spare}
	p.arena.Block, p.arena.Most = store.arena.Block, store.arena.Most
	return p
}

// PooledFull makes a full cache as NewFull does, with pages of the pool.
func PooledFull(pool *Pool, store *Store, context, window int) *Full {
	store.pool = pool
	return NewFull(store, context, window)
}

// Limit is the number of pages that there may be.
func (p *Pool) Limit() int { return p.limit }

// InUse counts the pages that somebody holds besides the one who keeps them.
func (p *Pool) InUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, page := range p.all {
		if page.holders > 1 || page.holders == 1 && !page.kept {
			n++
		}
	}
	return n
}

// Held counts the pages that somebody holds.
func (p *Pool) Held() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all) - len(p.free)
}

// take returns a page that nobody else holds.
func (p *Pool) take() (*Page, error) {
	for {
		if page := p.try(); page != nil {
			return page, nil
		}
		if !p.spare() {
			return nil, ErrNoPages
		}
	}
}

func (p *Pool) try() *Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	var page *Page
	if last := len(p.free) - 1; last >= 0 {
		page, p.free = p.free[last], p.free[:last]
	} else if len(p.all) < p.limit {
		page = &Page{data: p.arena.Take(p.size)}
		p.all = append(p.all, page)
	} else {
		return nil
	}
	page.holders = 1
	return page
}

// Drop takes a holder from pages.
func (p *Pool) Drop(pages []*Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, page := range pages {
		page.holders--
		switch {
		case page.holders < 0:
			panic("kvcache: a page was dropped too often")
		case page.holders == 0:
			page.kept = false
			p.free = append(p.free, page)
		}
	}
}

// Keep makes the caller a holder of the page, who remembers it for others.
func (p *Pool) Keep(page *Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	page.holders++
	page.kept = true
}

// Forget undoes Keep.
func (p *Pool) Forget(page *Page) {
	p.mu.Lock()
	page.kept = false
	p.mu.Unlock()
	p.Drop([]*Page{page})
}

// Idle reports whether the page has only one holder.
func (p *Pool) Idle(page *Page) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return page.holders == 1
}

// Hold adds a holder to pages: a cache that is to adopt them.
func (p *Pool) Hold(pages []*Page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, page := range pages {
		page.holders++
	}
}

// Pages returns the pages of the cache's tokens. They are the cache's: others
// Keep them.
func (c *Full) Pages() []*Page { return c.held[:tiles(c.length)] }

// Adopt fills an empty cache with pages that hold its first n tokens. The caller
// has made it their holder.
func (c *Full) Adopt(pages []*Page, n int) {
	c.Clear()
	for _, page := range pages {
		c.held = append(c.held, page)
		c.pages = append(c.pages, page.data)
	}
	c.length = n
}

// Clear empties a cache and gives its pages back to the pool.
func (c *Full) Clear() {
	c.pool.Drop(c.held)
	c.held, c.pages, c.length = nil, nil, 0
}

// pooled makes room for rows from slot base on, in pages that are the cache's
// alone.
func (c *Full) pooled(base, rows int) error {
	for t := base / kernel.Tile; t*kernel.Tile < base+rows; t++ {
		if t < len(c.held) && c.pool.Idle(c.held[t]) {
			continue
		}
		page, err := c.pool.take()
		if err != nil {
			return fmt.Errorf("kvcache: %d tokens and %d more: %w", base, rows, err)
		}
		if t == len(c.held) {
			c.held, c.pages = append(c.held, page), append(c.pages, page.data)
			continue
		}
		old := c.held[t]
		copy(page.data, old.data)
		c.held[t], c.pages[t] = page, page.data
		c.pool.Drop([]*Page{old})
	}
	return nil
}
