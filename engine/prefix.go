package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"

	"triforce/internal/kernel"
	"triforce/kvcache"
)

// prefixes remembers what sessions have read, so that a text which several
// requests begin with is read once. It is a tree: each node is a page of keys
// and values with its tokens, which follow those of the node above. A page that
// is not full has nothing below it. When memory is short, the leaf that was used
// longest ago goes, if no session has it.
//
// It is safe for concurrent use. Pages are shared with sessions by the pool's
// count of holders.
type prefixes struct {
	e    *Engine
	pool *kvcache.Pool

	mu    sync.Mutex
	root  node
	clock int64
}

// node is a page and the tokens in it, at most kernel.Tile.
type node struct {
	tokens []int32
	page   *kvcache.Page
	above  *node
	below  []*node
	used   int64
}

func newPrefixes(e *Engine, bytes int64) *prefixes {
	p := &prefixes{e: e}
	store := kvcache.NewStore(e.model.KVShape(e.kv), e.set)
	p.pool = kvcache.NewPool(store, int(bytes/e.pageBytes()), p.evict)
	return p
}

func (e *Engine) pageBytes() int64 { return e.model.KVShape(e.kv).PageBytes(e.set) }

// newCache makes an empty cache with pages of the pool.
func (p *prefixes) newCache() *kvcache.Full {
	store := kvcache.NewStore(p.e.model.KVShape(p.e.kv), p.e.set)
	return kvcache.PooledFull(p.pool, store, p.e.opt.Context, p.e.model.Window)
}

// common counts the tokens that a and b begin with alike.
func common(a, b []int32) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// adopt gives an empty cache what is known of the tokens, and returns how many
// that are.
func (p *prefixes) adopt(cache *kvcache.Full, tokens []int32) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	var pages []*kvcache.Page
	length, at := 0, &p.root
	for {
		best, n := (*node)(nil), 0
		for _, child := range at.below {
			if c := common(child.tokens, tokens[length:]); c > n {
				best, n = child, c
			}
		}
		if best == nil {
			break
		}
		best.used = p.clock
		pages = append(pages, best.page)
		length += n
		if n < kernel.Tile {
			break
		}
		at = best
	}
	if length > 0 {
		p.pool.Hold(pages)
		cache.Adopt(pages, length)
	}
	return length
}

// remember keeps the pages of a cache, which hold the tokens.
func (p *prefixes) remember(cache *kvcache.Full, tokens []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock++
	at := &p.root
	for _, page := range cache.Pages() {
		run := tokens[:min(kernel.Tile, len(tokens))]
		tokens = tokens[len(run):]
		if at = p.place(at, run, page); at == nil {
			return
		}
	}
}

// place makes the run a node below at, unless it is there, and returns the node
// if a full page is at it.
func (p *prefixes) place(at *node, run []int32, page *kvcache.Page) *node {
	var found *node
	for _, child := range at.below {
		n := common(child.tokens, run)
		if n == len(run) {
			found = child // as much, or more
			break
		}
		if n == len(child.tokens) {
			p.pool.Keep(page) // more of the same
			p.pool.Forget(child.page)
			child.page, child.tokens = page, slices.Clone(run)
			found = child
			break
		}
	}
	if found == nil {
		p.pool.Keep(page)
		found = &node{tokens: slices.Clone(run), page: page, above: at}
		at.below = append(at.below, found)
	}
	found.used = p.clock
	if len(run) < kernel.Tile {
		return nil
	}
	return found
}

// evict lets go of the leaf that was used longest ago, and reports whether there
// was one.
func (p *prefixes) evict() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	var oldest *node
	p.leaves(&p.root, func(n *node) {
		if (oldest == nil || n.used < oldest.used) && p.pool.Idle(n.page) {
			oldest = n
		}
	})
	if oldest == nil {
		return false
	}
	p.pool.Forget(oldest.page)
	above := oldest.above
	above.below = slices.DeleteFunc(above.below, func(n *node) bool { return n == oldest })
	return true
}

// leaves calls do with every node that has nothing below it.
func (p *prefixes) leaves(at *node, do func(*node)) {
	for _, child := range at.below {
		if len(child.below) == 0 {
			do(child)
		} else {
			p.leaves(child, do)
		}
	}
}

// path returns the tokens from the root to a node.
func (n *node) path() []int32 {
	if n.above == nil {
		return nil
	}
	return append(n.above.path(), n.tokens...)
}

// text is a remembered text: full pages, which give it its name, and what
// followed them last.
type text struct {
	tokens []int32
	full   int // tokens in full pages
}

// texts lists what is remembered, each text that does not go on in another by a
// full page.
func (p *prefixes) texts() []text {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []text
	var walk func(at *node)
	walk = func(at *node) {
		var rest *node // the page that is not full and was used last
		ends := true
		for _, child := range at.below {
			switch {
			case len(child.tokens) == kernel.Tile:
				ends = false
				walk(child)
			case rest == nil || child.used > rest.used:
				rest = child
			}
		}
		if !ends || at == &p.root {
			return
		}
		tokens := at.path()
		t := text{tokens, len(tokens)}
		if rest != nil {
			t.tokens = append(tokens, rest.tokens...)
		}
		all = append(all, t)
	}
	walk(&p.root)
	return all
}

// snapshotEnd is the ending of files that save writes.
const snapshotEnd = ".kv"

// folder is where what this model has read is kept within dir.
func (p *prefixes) folder(dir string) string {
	return filepath.Join(dir, p.e.file.Fingerprint()+"-"+p.e.opt.KVType)
}

// save writes every remembered text of at least a page to a file of its own,
// unless it is there, and takes away the files of texts that are not remembered
// any more. Texts for which reserve refuses pages are left out, and no file is
// taken away then.
func (p *prefixes) save(dir string, reserve func(pages int) (release func(), ok bool)) error {
	dir = p.folder(dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	wanted, all := map[string]bool{}, true
	for _, t := range p.texts() {
		name := textName(t.tokens[:t.full])
		wanted[name] = true
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		release, ok := reserve((len(t.tokens) + kernel.Tile - 1) / kernel.Tile)
		if !ok {
			all = false
			continue
		}
		err := p.saveText(path, t.tokens)
		release()
		if err != nil {
			return err
		}
	}
	old, err := filepath.Glob(filepath.Join(dir, "*"+snapshotEnd))
	for _, path := range old {
		if all && !wanted[filepath.Base(path)] {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// textName is the name of a text's file.
func textName(tokens []int32) string {
	h := xxhash.New()
	for _, t := range tokens {
		_, _ = h.Write([]byte{byte(t), byte(t >> 8), byte(t >> 16), byte(t >> 24)})
	}
	return fmt.Sprintf("%016x%s", h.Sum64(), snapshotEnd)
}

// saveText writes what is remembered of the tokens.
func (p *prefixes) saveText(path string, tokens []int32) error {
	cache := p.newCache()
	defer cache.Clear()
	n := p.adopt(cache, tokens) // less than all if some was let go since
	snap := kvcache.Snapshot{Model: p.e.file.Fingerprint(), Target: cache, Tokens: tokens[:n]}
	return snap.Save(path, nil)
}

// load reads what save wrote, as far as there is memory. Files that cannot be
// used are left out, and told of in the error.
func (p *prefixes) load(dir string, progress func(done, total int)) error {
	files, err := filepath.Glob(filepath.Join(p.folder(dir), "*"+snapshotEnd))
	for i, path := range files {
		if strings.HasPrefix(filepath.Base(path), ".") {
			continue
		}
		if loadErr := p.loadText(path); loadErr != nil && !errors.Is(loadErr, fs.ErrNotExist) {
			err = errors.Join(err, loadErr)
		}
		if progress != nil {
			progress(i+1, len(files))
		}
	}
	return err
}

func (p *prefixes) loadText(path string) error {
	cache := p.newCache()
	defer cache.Clear()
	snap := kvcache.Snapshot{Model: p.e.file.Fingerprint(), Target: cache}
	if err := snap.Load(path, nil); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	p.remember(cache, snap.Tokens[:cache.Len()])
	return nil
}
