package bench

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"triforce/engine"
)

// PlanOptions say for what to predict speeds.
type PlanOptions struct {
	Target  *engine.Shape
	Draft   *engine.Shape // or nil
	Engine  engine.Options
	Depths  []int // ascending
	Predict int
	Spec    engine.Spec
	// View and Drafted are the assumed shares of accepted tokens: of the middle
	// level's by the model, and of the draft's by whoever judges them.
	View, Drafted float64
	// Disk is where keys and values beyond Engine.KVRAM are, if that is not 0.
	Disk    engine.DiskSpeed
	Command string
}

// Planner predicts speeds from the costs of passes, which it measures on this
// machine with a model of the same shape and no weights:
//
//	        1 + a + a² + … + a^n
//	rate = -----------------------------------
//	        n·cost of a draft + cost of a pass over n + 1 rows
//
// for the n with the largest rate, where each proposed token is accepted with
// probability a if those before it were. The middle level's rate is that of the
// same formula one level below. Keys and values on disk are read while a pass
// computes, so it takes the longer of the two. A round of the retrieved level
// also brings its view up to date, and its first pass finds the caches cold.
type Planner struct {
	o             PlanOptions
	target, draft *engine.Costs
	near          int // the depth that these are for, or -1
	bandwidth     float64
}

// planRows are the widths of passes that are measured, and the widest one is
// what a round may verify.
func planRows() []int { return []int{1, 2, 3, 5, 9, 17, 33} }

// draftSees is how many tokens a draft's cache holds.
const draftSees = 256

// NewPlanner checks the options. Nothing is timed yet.
func NewPlanner(o PlanOptions) (*Planner, error) {
	if err := checkDepths(o.Depths); err != nil {
		return nil, err
	}
	if !(o.View > 0 && o.View <= 1 && o.Drafted > 0 && o.Drafted <= 1) {
		return nil, fmt.Errorf("%w: --acceptance %v,%v: expected shares above 0 and at most 1", engine.ErrUsage, o.View, o.Drafted)
	}
	return &Planner{o: o, near: -1}, nil
}

// middle is the tokens in the cache in the middle of a run.
func (p *Planner) middle(depth int) int { return depth + p.o.Predict/2 }

// time measures the passes over caches of these depths.
func (p *Planner) time(ctx context.Context, depths []int, progress func(done, total int)) (target, draft *engine.Costs, err error) {
	slices.Sort(depths)
	inMemory := p.o.Engine
	inMemory.KVRAM = 0
	target, err = p.o.Target.Time(ctx, inMemory, slices.Compact(depths), planRows(), progress)
	if err == nil && p.o.Draft != nil {
		draft, err = p.o.Draft.Time(ctx, inMemory, []int{0, draftSees}, planRows()[:2], nil)
	}
	return target, draft, err
}

// Near measures the passes over a cache of that depth, to be used by Beside. More
// calls for the depth, with runs of the model between them, average: so what the
// machine does meanwhile counts for both.
func (p *Planner) Near(ctx context.Context, depth int) error {
	seen, _ := p.view(&p.o.Spec, p.middle(depth))
	target, draft, err := p.time(ctx, []int{seen, p.middle(depth)}, nil)
	if err != nil {
		return err
	}
	if p.near == depth {
		target.Average(p.target)
		if draft != nil {
			draft.Average(p.draft)
		}
	}
	p.target, p.draft, p.near = target, draft, depth
	return nil
}

// view is how many slots the retrieved view of n tokens has, and the seconds that
// bringing it up to date takes.
func (p *Planner) view(spec *engine.Spec, n int) (slots int, refresh float64) {
	return p.o.Target.View(p.o.Engine, spec, n)
}

// onDisk is the bytes of keys and values that do not fit into memory.
func (p *Planner) onDisk(depth int) int64 {
	if p.o.Engine.KVRAM <= 0 {
		return 0
	}
	return max(p.o.Target.KVBytes(p.o.Engine, depth)-p.o.Engine.KVRAM, 0)
}

// pass is the cost of a pass of the target over the full cache, in seconds.
func (p *Planner) pass(depth, rows int) float64 {
	seconds := p.target.At(depth, rows)
	if n := p.onDisk(depth); n > 0 {
		seconds = max(seconds, float64(n)/p.o.Disk.Read)
	}
	return seconds
}

// tokens is how many a round yields that proposes n.
func tokens(n int, accept float64) float64 {
	sum, p := 1.0, 1.0
	for range n {
		p *= accept
		sum += p
	}
	return sum
}

// best is the largest rate, over the number of tokens proposed; fixed, if not
// 0, is that number.
func best(accept float64, fixed int, cost func(n int) float64) (rate float64, depth int) {
	widest := planRows()[len(planRows())-1] - 1
	for n := 1; n <= widest; n++ {
		if fixed > 0 && n != min(fixed, widest) {
			continue
		}
		if r := tokens(n, accept) / cost(n); r > rate {
			rate, depth = r, n
		}
	}
	return rate, depth
}

// speed predicts the tokens a second of a mode at a depth, the most that a
// round proposes, and whether it can tell.
func (p *Planner) speed(mode string, spec *engine.Spec, depth int, view, drafted float64) (rate float64, proposed int, ok bool) {
	at := p.middle(depth)
	pass := func(rows int) float64 { return p.pass(at, rows) }
	seen, refresh := p.view(spec, at)
	refresh += p.target.Cold(seen, at)
	switch mode {
	case engine.SpecPlain:
		return 1 / pass(1), 0, true
	case engine.SpecDraft:
		if p.draft == nil {
			return 0, 0, false
		}
		rate, proposed = best(drafted, spec.Outer, func(n int) float64 { return float64(n)*p.draft.At(draftSees, 1) + pass(n+1) })
	case engine.SpecRetrieval, engine.SpecStream:
		rate, proposed = best(view, spec.Outer, func(n int) float64 { return refresh + float64(n)*p.target.At(seen, 1) + pass(n+1) })
	case engine.SpecTriForce:
		if p.draft == nil {
			return 0, 0, false
		}
		middle, _ := best(drafted, spec.Inner, func(n int) float64 { return float64(n)*p.draft.At(draftSees, 1) + p.target.At(seen, n+1) })
		rate, proposed = best(view, spec.Outer, func(n int) float64 { return refresh + float64(n)/middle + pass(n+1) })
	default:
		return 0, 0, false
	}
	return rate, proposed, true
}

// Rows measures the passes and predicts for all depths. progress, if not nil, is
// told how far it is.
func (p *Planner) Rows(ctx context.Context, progress func(done, total int)) ([]Row, error) {
	o := &p.o
	depths := []int{0}
	for _, d := range o.Depths {
		seen, _ := p.view(&o.Spec, p.middle(d))
		depths = append(depths, seen, p.middle(d))
	}
	p.near = -1
	var err error
	if p.bandwidth, err = engine.ReadBandwidth(o.Engine); err != nil {
		return nil, err
	}
	if p.target, p.draft, err = p.time(ctx, depths, progress); err != nil {
		return nil, err
	}
	where := Where{Setting: Setting{CPU: cpuName(), Tier: o.Engine.TierName(), Threads: o.Engine.Threads, TypeK: o.Engine.KVType, TypeV: o.Engine.KVType, Model: o.Target.Name(),
		Sent: fmt.Sprintf("none; predicted for %.0f%% acceptance of the middle level", 100*o.View)}}
	if o.Draft != nil {
		where.Draft = o.Draft.Name()
		where.Sent += fmt.Sprintf(" and %.0f%% of the draft", 100*o.Drafted)
	}
	var rows []Row
	for _, depth := range o.Depths {
		plain, _, _ := p.speed(engine.SpecPlain, &o.Spec, depth, 1, 1)
		for _, mode := range []string{engine.SpecPlain, engine.SpecDraft, engine.SpecRetrieval, engine.SpecTriForce} {
			rate, proposed, ok := p.speed(mode, &o.Spec, depth, o.View, o.Drafted)
			if !ok {
				continue
			}
			spec := o.Spec
			spec.Mode = mode
			spec = heeded(spec)
			spec.Budget = spec.BudgetAt(depth)
			s := (&aCase{spec: spec}).setting()
			s.Depth, s.Gen = depth, o.Predict
			r := Row{Setting: where.in(s), Size: o.Target.WeightBytes(o.Engine), Command: o.Command, Bandwidth: p.bandwidth, PredictedTS: rate,
				KVBytes: o.Target.KVBytes(o.Engine, depth), Levels: Levels{}, NS: Samples{}, TS: Speeds{}, PlainNS: Samples{}}
			r.LimitTS = p.bandwidth / float64(r.Size+o.Target.KVBytes(o.Engine, p.middle(depth)))
			r.OfLimit, r.Ratio = rate/r.LimitTS, rate/plain
			r.RatioMin, r.RatioMax = r.Ratio, r.Ratio
			if proposed > 0 {
				r.Accepted = o.View
				if mode == engine.SpecDraft {
					r.Accepted = o.Drafted
				}
				r.MeanLength = tokens(proposed, r.Accepted)
			}
			r.DiskRead = float64(p.onDisk(p.middle(depth))) / max(r.MeanLength, 1)
			rows = append(rows, r)
		}
	}
	return rows, nil
}

// Beside puts the prediction for a measured row beside its measurement: the time
// that the passes take which its levels ran, by their numbers and their rows. Near
// must have measured at its depth.
func (p *Planner) Beside(r *Row) {
	if r.Gen == 0 || r.Runs == 0 || r.Foreign() || r.Depth != p.near {
		return
	}
	at, spec := r.Depth+r.Gen/2, p.o.Spec
	spec.Mode, spec.Budget = r.Mode, cmp.Or(r.Budget, spec.Budget)
	seen, refresh := p.view(&spec, at)
	refresh += p.target.Cold(seen, at)
	seconds, rounds := 0.0, 0
	for i := range r.Levels {
		l := &r.Levels[i]
		cost := func(rows int) float64 { return p.target.At(seen, rows) }
		switch l.Name {
		case "target":
			cost = func(rows int) float64 { return p.pass(at, rows) }
			rounds = l.Rounds
		case "draft":
			if p.draft == nil {
				return
			}
			cost = func(rows int) float64 { return p.draft.At(min(draftSees, at), rows) }
		default:
			if l.Passes > 0 {
				seconds += float64(rounds) * refresh
			}
		}
		// Passes with proposals have so many rows on average, the others one.
		rows, part := math.Modf(1 + share(l.Proposed, l.Rounds))
		judging := (1-part)*cost(int(rows)) + part*cost(int(rows)+1)
		seconds += float64(l.Passes-l.Rounds)*cost(1) + float64(l.Rounds)*judging
	}
	r.PredictedTS = float64(r.Runs*r.Gen) / seconds
}

// accuracy says how far predictions are from measurements, if there are any.
func accuracy(rows []Row) []string {
	var off []float64
	worst := ""
	for i := range rows {
		r := &rows[i]
		if r.PredictedTS == 0 || r.MedianTS == 0 {
			continue
		}
		x := math.Abs(r.PredictedTS/r.MedianTS - 1)
		if len(off) == 0 || x > slices.Max(off) {
			worst = r.Test + " " + series(r, rows)
		}
		off = append(off, x)
	}
	if len(off) == 0 {
		return nil
	}
	median, _, most := spread(off)
	return []string{fmt.Sprintf("predictions are off the measured speeds by %.0f%% in the median, at most %.0f%% (%s)", 100*median, 100*most, worst)}
}
