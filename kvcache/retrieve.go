package kvcache

import (
	"fmt"
	"slices"

	"triforce/internal/kernel"
	"triforce/internal/par"
)

// Rule says how chunks of a full cache are ranked for retrieval.
type Rule uint8

// The rules. ByMass ranks chunks by the attention that the newest rows of the
// last pass over the full cache gave them; ByMean by the dot product of the
// newest query with the mean of a chunk's keys (Sun et al. 2024, section 4.1).
const (
	ByMass Rule = iota
	ByMean
)

// View is a slice of a full cache, small enough to be read quickly: the sinks,
// the chunks that matter most, by layer and KV head, and the newest window,
// with the tokens that a level of speculation appends to it. Refresh brings it
// up to date after each pass over the full cache; only chunks that changed are
// copied.
//
// The view's slots hold the chosen chunks, in no particular order, and after
// them the window; keys are rotated by their place in the sequence, and softmax
// does not mind the order. While the whole sequence fits the budget, slot i
// holds token i, as in the full cache: then the view gives the same bits.
type View struct {
	*Store
	full *Full
	opt  ViewOptions
	team *par.Team
	pass Pass
	mass *Mass // of the newest pass over full that recorded it, or nil

	meant   int       // chunks that have mean keys; those of the window too, which are in memory
	choices []choice  // (layers·heads)
	rank    []ranking // by worker
	chosen  int       // chunks before the window
	start   int       // the chunk of the full cache with which the window begins
	budget  int       // that chosen and window came from, or 0
	synced  int       // tokens that are as in the full cache
	length  int
	refresh func(*par.Worker)
	stage   *Store // chunks that passes over a full cache on disk brought along
	anew    bool   // nothing is shown yet
}

// ViewOptions says what a view shows. All numbers are in tokens.
type ViewOptions struct {
	// Budget is what the view may show, the rows that are appended to it not
	// counted. 0 is what suits the text: see BudgetAt.
	Budget int
	// Chunk is how many consecutive tokens are chosen together, a multiple of
	// kernel.Chunk.
	Chunk int
	// Sinks and Window are the first and the newest tokens, always shown; a
	// Window of 0 is all that Budget leaves.
	Sinks, Window int
	Rule          Rule
}

// The budget that suits a text: at least leastBudget, and one in budgetShare of
// a long one's tokens. A round reads all of them once and the view a dozen times.
const (
	leastBudget = 512
	budgetShare = 32
)

// BudgetAt is the budget for a text of n tokens: Budget, if it is given.
func (o ViewOptions) BudgetAt(n int) int {
	if o.Budget > 0 {
		return o.Budget
	}
	b := leastBudget
	for b*budgetShare < n || b < o.Minimum() {
		b *= 2
	}
	return b
}

// windowAt is the window under a budget.
func (o ViewOptions) windowAt(budget int) int {
	if o.Window > 0 {
		return o.Window
	}
	return budget - chunks(o.Sinks)*kernel.Chunk
}

// Minimum is the smallest budget that leaves room for a chosen chunk.
func (o ViewOptions) Minimum() int { return chunks(o.Sinks)*kernel.Chunk + o.Window + o.Chunk }

// Slots is about how many slots the view of n tokens has.
func (o ViewOptions) Slots(n int) int {
	if budget := o.BudgetAt(n); n+spare > budget {
		return budget
	}
	return n
}

// Exchanges is about how many slots of the view of n tokens a Refresh copies that
// were chosen anew.
func (o ViewOptions) Exchanges(n int) int {
	if budget := o.BudgetAt(n); n+spare > budget {
		return (budget - o.windowAt(budget)) / exchanged
	}
	return 0
}

// NewView makes a view of full. It goes by the mass of the newest pass over full
// that recorded any.
func NewView(set *kernel.Set, full *Full, team *par.Team, opt ViewOptions) *View {
	store := NewStore(full.shape, set)
	v := &View{Store: store, full: full, opt: opt, team: team, pass: Pass{Store: store}}
	v.choices = make([]choice, store.shape.Layers*store.shape.Heads)
	for i := range v.choices {
		c := &v.choices[i]
		d := store.shape.Dim
		c.key, c.value = make([]float32, d), make([]float32, d)
	}
	v.rank = make([]ranking, team.Size())
	v.refresh = v.refreshShare
	if full.disk != nil {
		v.stage = NewStore(full.shape, set)
		v.stage.arena.Block = 0
		full.pass.took = v.take
	}
	return v
}

func chunks(tokens int) int { return (tokens + kernel.Chunk - 1) / kernel.Chunk }

// Len is the number of tokens that the view stands for.
func (v *View) Len() int { return v.length }

// slot is where token i of the window is.
func (v *View) slot(i int) int {
	return (v.chosen-v.start)*kernel.Chunk + i
}

// Bytes is the memory of what the view shows and of what a full cache on disk
// brings along.
func (v *View) Bytes() int64 {
	n := v.Store.Bytes()
	if v.stage != nil {
		n += v.stage.Bytes()
	}
	return n
}

// Begin makes room for rows after the newest token.
func (v *View) Begin(rows int, parents []int32) (*Pass, error) {
	checkParents(rows, parents)
	base := v.slot(v.length)
	v.reserve(base + rows)
	v.pass.plan(rows, parents, v.length, base, 0, 0)
	return &v.pass, nil
}

// End makes the rows of the pass part of the view.
func (v *View) End() {
	v.length += len(v.pass.Rows)
	v.pass.Rows = v.pass.Rows[:0]
}

// Rewind forgets all tokens from the n-th on. If that reaches behind the
// window, the view is empty until Refresh.
func (v *View) Rewind(n int) {
	if n < 0 || n > v.length {
		panic(fmt.Sprintf("kvcache: rewind to %d of %d tokens", n, v.length))
	}
	v.length, v.synced = n, min(v.synced, n)
	v.meant = min(v.meant, n/kernel.Chunk)
	if n < v.start*kernel.Chunk {
		v.clear()
	}
}

// clear empties the view but for mean keys.
func (v *View) clear() {
	v.chosen, v.start, v.budget, v.length, v.synced = 0, 0, 0, 0, 0
	for i := range v.choices {
		c := &v.choices[i]
		c.at = c.at[:0]
		c.likely, c.missing = c.likely[:0], c.missing[:0]
		clear(c.chosen)
	}
}

// Keep forgets all rows from the base-th token on but those in path.
func (v *View) Keep(base int, path []int32) {
	v.keep(v.slot(base), path)
	v.length = base + len(path)
	v.synced = min(v.synced, base)
}

// exchanged is the part of the chosen chunks that a Refresh exchanges, more or
// less.
const exchanged = 8

// Lacks is about how many tokens' keys and values a Refresh would go through.
func (v *View) Lacks() int {
	n := v.full.Len()
	lacks := max(0, n-v.length) + v.chosen*kernel.Chunk/exchanged
	if v.length == 0 {
		lacks = min(n, v.opt.BudgetAt(n))
	}
	if v.opt.Rule == ByMean && n+spare > v.opt.BudgetAt(n) {
		lacks += max(0, n-v.meant*kernel.Chunk)
	}
	return lacks
}

// Refresh makes the view stand for all tokens of the full cache: it chooses
// chunks anew and copies what it lacks. It fails only if the full cache is on
// disk, and then the view is empty.
func (v *View) Refresh() error {
	n := v.full.Len()
	if m := v.full.pass.Mass; m != nil {
		v.mass = m
	}
	v.meant = min(v.meant, n/kernel.Chunk)
	budget := max(v.opt.BudgetAt(n), v.budget)
	if n < v.start*kernel.Chunk || n+spare <= budget && v.chosen > 0 {
		v.clear()
		budget = v.opt.BudgetAt(n)
	}
	window := v.opt.windowAt(budget)
	v.anew = v.chosen == 0
	if n+spare > budget && (v.chosen == 0 || n-v.start*kernel.Chunk > window+spare) {
		v.start, v.budget = max(0, n-window)/kernel.Chunk, budget
		v.chosen = min((budget-window)/v.opt.Chunk*(v.opt.Chunk/kernel.Chunk), v.start)
		v.synced = v.start * kernel.Chunk
	}
	v.synced = min(v.synced, n)
	if v.length == 0 || v.anew && v.chosen > 0 {
		v.settle(v.slot(n) + kernel.Tile)
	}
	v.reserve(v.slot(n))
	if v.stage != nil {
		v.stage.reserve(hopes(v.chosen) * kernel.Chunk)
	}
	if err := v.averageFromDisk(); err != nil {
		v.clear()
		return err
	}
	v.team.Run(v.refresh)
	if err := v.readMissing(); err != nil {
		v.clear()
		return err
	}
	v.length, v.synced = n, n
	if v.chosen > 0 {
		v.meant = n / kernel.Chunk
	}
	return nil
}

// refreshShare does the layers and heads that fall to a worker.
func (v *View) refreshShare(w *par.Worker) {
	for i := range w.Each(len(v.choices)) {
		layer, head := i/v.shape.Heads, i%v.shape.Heads
		if v.chosen > 0 {
			c := &v.choices[i]
			c.ranking = &v.rank[w.ID]
			if v.opt.Rule == ByMean {
				v.average(layer, head, c, v.meant, v.full.Len()/kernel.Chunk)
			}
			v.choose(layer, head, c)
		}
		for c := v.synced / kernel.Chunk; c < chunks(v.full.Len()); c++ {
			v.get(layer, head, &v.choices[i], v.slot(0)/kernel.Chunk+c, c)
		}
	}
}

// average makes the mean keys of whole chunks, from the from-th to before the
// to-th, which follow those that have them.
func (v *View) average(layer, head int, c *choice, from, to int) {
	d := v.shape.Dim
	c.keys = slices.Grow(c.keys[:min(len(c.keys), from*d)], (to-from)*d)
	for at := from; at < to; at++ {
		mean := c.keys[at*d : (at+1)*d]
		clear(mean)
		for slot := at * kernel.Chunk; slot < (at+1)*kernel.Chunk; slot++ {
			v.full.Get(layer, head, slot, c.key, c.value)
			for i, k := range c.key {
				mean[i] += k / kernel.Chunk
			}
		}
		c.keys = c.keys[:(at+1)*d]
	}
}
