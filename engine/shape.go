package engine

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"triforce/demo"
	"triforce/internal/kernel"
	"triforce/internal/par"
	"triforce/kvcache"
	"triforce/model"
	"triforce/model/llama"
	"triforce/tensor"
	"triforce/weights"
	"triforce/weights/gguf"
	"triforce/weights/safetensors"
)

// Shape is what metadata says of a model: enough to time its passes on this
// machine without its weights.
type Shape struct{ source *outline }

// OpenShape reads the header of a GGUF file, which may end after it, or a
// config.json, or the one in a folder; "" is the embedded model, EmbeddedDraft
// its draft. For a config.json, weightType names the format that the matrices
// will have; otherwise it must be "".
func OpenShape(path, weightType string) (*Shape, error) {
	config := path
	if _, folder, err := safetensorsFolder(path); err != nil {
		return nil, err
	} else if folder && !strings.HasSuffix(path, ".json") {
		config = filepath.Join(path, "config.json")
	}
	o := &outline{path: path}
	var err error
	if strings.HasSuffix(config, ".json") {
		err = o.config(config, weightType)
	} else if weightType != "" {
		err = fmt.Errorf("%w: --weight-type is for a config.json; %s has weights of its own", ErrUsage, path)
	} else {
		err = o.header(path)
	}
	if err != nil {
		return nil, err
	}
	s := &Shape{o}
	_, err = llama.ParseConfig(o)
	return s, err
}

// Name is the path of the model, or Embedded.
func (s *Shape) Name() string { return s.source.path }

// Context is the number of tokens that the model was made for.
func (s *Shape) Context() int { return s.config().Context }

func (s *Shape) config() llama.Config {
	c, _ := llama.ParseConfig(s.source) // OpenShape has looked at it
	return c
}

// WeightBytes is the memory that the packed weights take.
func (s *Shape) WeightBytes(o Options) int64 {
	tier, _ := o.tier()
	return llama.PackedBytes(s.source, tier)
}

// Forecast says what a model of this shape will take, as that of a File does.
func (s *Shape) Forecast(o Options) (*Forecast, error) {
	config := s.config()
	return forecast(s.source, &config, o)
}

// KVBytes is the memory of the keys and values of a context.
func (s *Shape) KVBytes(o Options, context int) int64 {
	tier, _ := o.tier()
	kv, _ := kernel.ParseKVType(o.KVType)
	c := s.config()
	if c.Window > 0 {
		context = min(context, c.Window)
	}
	shape := c.KVShape(kv)
	return shape.PageBytes(kernel.For(tier)) * int64(context) / kernel.Tile
}

// View is how many slots the retrieved view of n tokens has, and the seconds that
// it takes to bring it up to date after a round.
func (s *Shape) View(o Options, spec *Spec, n int) (slots int, refresh float64) {
	v := spec.view()
	return v.Slots(n), float64(v.Exchanges(n)) * float64(s.KVBytes(o, kernel.Tile)) / kernel.Tile / refreshRate
}

// outline is a model's metadata and its tensors without their data: a
// weights.Source whose weights are all 0.
type outline struct {
	path    string
	meta    weights.Meta
	names   []string
	tensors map[string]tensor.Tensor
	zeros   []byte
}

func (o *outline) Path() string       { return o.path }
func (o *outline) Meta() weights.Meta { return o.meta }
func (o *outline) Names() []string    { return o.names }
func (o *outline) Release(string)     {}
func (o *outline) Close() error       { return nil }

func (o *outline) Tensor(name string) (tensor.Tensor, bool) {
	t, ok := o.tensors[name]
	if ok && o.zeros != nil {
		t.Data = o.zeros[:t.Rows*t.DType.RowBytes(t.Cols)]
	}
	return t, ok
}

func (o *outline) add(name string, d tensor.DType, rows, cols int) {
	if o.tensors == nil {
		o.tensors = map[string]tensor.Tensor{}
	}
	o.names = append(o.names, name)
	o.tensors[name] = tensor.Tensor{Name: name, DType: d, Rows: rows, Cols: cols}
}

// header takes over what a GGUF file says.
func (o *outline) header(path string) error {
	var f *gguf.File
	var err error
	switch path {
	case "", Embedded:
		f, err = gguf.Parse(Embedded, demo.Target())
	case EmbeddedDraft:
		f, err = gguf.Parse(EmbeddedDraft, demo.Draft())
	default:
		f, err = gguf.OpenHeader(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	o.path, o.meta = f.Path(), f.Meta()
	for _, name := range f.Names() {
		t, _ := f.Tensor(name)
		o.add(name, t.DType, t.Rows, t.Cols)
	}
	return nil
}

// config makes up the tensors of a model of this configuration.
func (o *outline) config(path, weightType string) error {
	meta, tied, err := safetensors.Config(path)
	if err != nil {
		return err
	}
	dtype := tensor.Q8_0
	if weightType != "" {
		i := slices.IndexFunc(tensor.DTypes(), func(d tensor.DType) bool { return strings.EqualFold(d.String(), weightType) })
		if i < 0 {
			return fmt.Errorf("%w: --weight-type %s: expected one of %v", ErrUsage, weightType, tensor.DTypes())
		}
		dtype = tensor.DTypes()[i]
	}
	o.path, o.meta = path, meta
	vocab := meta.Int("llama.vocab_size", 0)
	if vocab < 1 || vocab > maxContext {
		return fmt.Errorf("%s: vocab_size is %d, expected a positive number: %w", path, vocab, weights.ErrCorrupt)
	}
	// The configuration is complete but for the embedding, whose width is in it.
	o.add("token_embd.weight", dtype, int(vocab), int(meta.Int("llama.embedding_length", 0)))
	c, err := llama.ParseConfig(o)
	if err != nil {
		return err
	}
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	if c.Dim%dtype.BlockSize() != 0 || c.FFN%dtype.BlockSize() != 0 || q%dtype.BlockSize() != 0 {
		return fmt.Errorf("%w: --weight-type %v: its blocks of %d do not fit rows of %d, %d and %d", ErrUsage, dtype, dtype.BlockSize(), c.Dim, q, c.FFN)
	}
	if !tied {
		o.add("output.weight", dtype, c.Vocab, c.Dim)
	}
	o.add("output_norm.weight", tensor.F32, 1, c.Dim)
	for i := range c.Layers {
		for _, t := range []struct {
			name       string
			rows, cols int
		}{
			{"attn_norm", 1, c.Dim}, {"attn_q", q, c.Dim}, {"attn_k", kv, c.Dim}, {"attn_v", kv, c.Dim}, {"attn_output", c.Dim, q},
			{"ffn_norm", 1, c.Dim}, {"ffn_gate", c.FFN, c.Dim}, {"ffn_up", c.FFN, c.Dim}, {"ffn_down", c.Dim, c.FFN},
		} {
			d := dtype
			if t.rows == 1 {
				d = tensor.F32
			}
			o.add(fmt.Sprintf("blk.%d.%s.weight", i, t.name), d, t.rows, t.cols)
		}
	}
	return nil
}

// first is the outline with the first layers only, and weights of 0.
func (o *outline) first(layers int) *outline {
	part := &outline{path: o.path, meta: maps.Clone(o.meta)}
	part.meta["llama.block_count"] = int64(layers)
	size := 0
	for _, name := range o.names {
		var layer int
		if n, _ := fmt.Sscanf(name, "blk.%d.", &layer); n == 1 && layer >= layers {
			continue
		}
		t := o.tensors[name]
		part.add(name, t.DType, t.Rows, t.Cols)
		if n := t.Rows * t.DType.RowBytes(t.Cols); name != "rope_freqs.weight" {
			size = max(size, n)
		}
	}
	// Factors of 0 would be refused; they cost nothing.
	delete(part.tensors, "rope_freqs.weight")
	part.names = slices.DeleteFunc(part.names, func(name string) bool { return name == "rope_freqs.weight" })
	part.zeros = make([]byte, size) // never written, so it takes hardly any memory
	return part
}

// How much of a model is run: as many layers as no cache holds, or all of them
// if they are not much more; and keys and values up to about as much.
const (
	timedWeights = 256 << 20
	wholeWeights = 512 << 20
	timedKV      = 512 << 20
	timedRounds  = 5    // in which each kind of pass has its turn
	timedSeconds = 0.03 // of a kind's turn, which has one pass at least
)

// Costs are the seconds of passes by tokens in the cache and number of rows.
type Costs struct {
	depths, rows []int // ascending
	seconds      [][]float64
	cold         []float64 // by depth, or nil: see Cold
	bytes        float64   // of a token's keys and values
	window       int
	averaged     int // measurements that were taken in
}

// At is the cost of a pass, between and beyond what was measured by straight
// lines.
func (c *Costs) At(depth, rows int) float64 {
	if c.window > 0 {
		depth = min(depth, c.window)
	}
	column := func(r int) float64 {
		return along(c.depths, depth, func(d int) float64 { return c.seconds[d][r] })
	}
	return along(c.rows, rows, column)
}

// cachesHold is the bytes that the last cache is taken to hold: a pass that reads
// as much leaves nothing there for the next. Larger weights never stay.
const cachesHold = 32 << 20

// Cold is how much longer a pass of one row over seen tokens takes, in seconds,
// after a pass over depth tokens than after one like itself.
func (c *Costs) Cold(seen, depth int) float64 {
	if c.cold == nil {
		return 0
	}
	return along(c.depths, seen, func(d int) float64 { return c.cold[d] }) * min(1, float64(depth)*c.bytes/cachesHold)
}

// Average takes in what other measurements of the same passes came to.
func (c *Costs) Average(other *Costs) {
	weight := float64(1+other.averaged) / float64(2+c.averaged+other.averaged)
	c.averaged += 1 + other.averaged
	mean := func(to *float64, from float64) { *to += weight * (from - *to) }
	for d := range c.cold {
		mean(&c.cold[d], other.cold[d])
	}
	for d := range c.seconds {
		for r := range c.seconds[d] {
			mean(&c.seconds[d][r], other.seconds[d][r])
		}
	}
}

// smooth evens out what took longer than a larger pass did: whatever else runs on
// the machine disturbs some passes more than others.
func (c *Costs) smooth() {
	for d := range c.seconds {
		ascend(len(c.rows), func(r int) *float64 { return &c.seconds[d][r] })
	}
	for r := range c.rows {
		ascend(len(c.seconds), func(d int) *float64 { return &c.seconds[d][r] })
	}
}

// ascend replaces n values by those nearest to them that never fall: where they
// do, by the average of the run.
func ascend(n int, at func(i int) *float64) {
	type run struct {
		sum float64
		n   int
	}
	var runs []run
	for i := range n {
		runs = append(runs, run{*at(i), 1})
		for k := len(runs) - 1; k > 0 && runs[k].sum*float64(runs[k-1].n) < runs[k-1].sum*float64(runs[k].n); k-- {
			runs[k-1].sum += runs[k].sum
			runs[k-1].n += runs[k].n
			runs = runs[:k]
		}
	}
	i := 0
	for _, r := range runs {
		for range r.n {
			*at(i) = r.sum / float64(r.n)
			i++
		}
	}
}

// along draws straight lines through the values at ascending places.
func along(places []int, x int, value func(i int) float64) float64 {
	if len(places) == 1 {
		return value(0)
	}
	i := 1
	for i < len(places)-1 && places[i] < x {
		i++
	}
	lo, hi := value(i-1), value(i)
	return max(lo+(hi-lo)*float64(x-places[i-1])/float64(places[i]-places[i-1]), 0)
}

// Time measures passes of a model of this shape with weights of 0 over a cache
// of noise, which cost what those of the model cost. Of a large model it runs
// some layers, up to some depth, and scales. progress, if not nil, is told how
// far it is.
func (s *Shape) Time(ctx context.Context, o Options, depths, rows []int, progress func(done, total int)) (*Costs, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := s.config()
	whole := s.WeightBytes(o)
	layers := c.Layers
	one := &Shape{s.source.first(1)}
	if two := (&Shape{s.source.first(min(2, c.Layers))}).WeightBytes(o); whole > wholeWeights && c.Layers > 1 {
		layers = min(c.Layers, int(timedWeights/max(two-one.WeightBytes(o), 1))+1)
	}
	part := &Shape{s.source.first(layers)}
	costs := &Costs{rows: rows, window: c.Window, bytes: float64(s.KVBytes(o, kernel.Tile)) / kernel.Tile}
	costs.depths = part.timedDepths(o, depths, c.Window)
	o.Context = slices.Max(costs.depths) + slices.Max(rows)
	tier, _ := o.tier()
	kv, _ := kernel.ParseKVType(o.KVType)
	e := &Engine{file: &File{source: part.source}, opt: o, set: kernel.For(tier), kv: kv}
	team := par.NewTeam(o.Threads)
	var err error
	e.model, err = llama.Load(ctx, part.source, llama.Options{Set: e.set, Team: team})
	team.Close()
	if err != nil {
		return nil, err
	}
	session := e.NewSession()
	defer session.Close()
	mass := kvcache.NewMass(session.cache.Shape(), c.Heads/c.KVHeads, massRows)
	kinds := timedKinds(rows, layers < c.Layers)
	total := len(costs.depths) * timedRounds * len(kinds)
	for i, depth := range costs.depths {
		if err := session.fill(ctx, depth); err != nil {
			return nil, err
		}
		for round := range timedRounds {
			for k := range kinds {
				session.cache.Record(nil)
				if kinds[k].rows > 1 { // as in a round with a view
					session.cache.Record(mass)
				}
				if err := session.timeKind(ctx, depth, &kinds[k]); err != nil {
					return nil, err
				}
				if progress != nil {
					progress((i*timedRounds+round)*len(kinds)+k+1, total)
				}
			}
		}
		costs.seconds = append(costs.seconds, wholePasses(kinds, len(rows), float64(c.Layers-layers)/float64(layers)))
	}
	costs.smooth()
	if whole < cachesHold && len(costs.depths) > 1 {
		costs.cold, err = session.timeCold(ctx, costs.depths)
	}
	return costs, err
}

// timedKind is a kind of pass that is timed.
type timedKind struct {
	rows, logits int
	seconds      []float64 // of a pass, on the average of each round
}

// timedKinds are passes of all widths, with logits and, if layers alone have to
// be known, without them.
func timedKinds(rows []int, layers bool) []timedKind {
	var kinds []timedKind
	for _, n := range rows {
		kinds = append(kinds, timedKind{rows: n, logits: n})
	}
	for _, n := range rows {
		if layers {
			kinds = append(kinds, timedKind{rows: n})
		}
	}
	return kinds
}

// wholePasses are the seconds, medians over the rounds, of passes of each width
// with more layers than were timed, as a multiple of these. It forgets what was
// timed.
func wholePasses(kinds []timedKind, widths int, more float64) []float64 {
	line := make([]float64, widths)
	for i := range kinds {
		k := &kinds[i]
		slices.Sort(k.seconds)
		seconds := k.seconds[len(k.seconds)/2]
		if i < widths {
			line[i] = seconds
		} else {
			line[i-widths] += more * min(seconds, line[i-widths])
		}
		k.seconds = nil
	}
	return line
}

// timedDepths are those of the depths that are measured: as deep as there is
// memory for, and there two of them, so that a line can be drawn.
func (s *Shape) timedDepths(o Options, depths []int, window int) []int {
	token := max(s.KVBytes(o, kernel.Tile)/kernel.Tile, 1)
	most := max(int(timedKV/token)/kernel.Tile*kernel.Tile, 2*kernel.Tile)
	if window > 0 {
		most = min(most, window)
	}
	var timed []int
	for _, d := range depths {
		if d > most {
			timed = append(timed, most/2, most)
			break
		}
		timed = append(timed, d)
	}
	slices.Sort(timed)
	return slices.Compact(timed)
}

// timeCold times what Cold says, over all of the depths but the last, which the
// session's cache has: its pass is the one that comes before.
func (s *Session) timeCold(ctx context.Context, depths []int) ([]float64, error) {
	view := s.e.NewSession()
	defer view.Close()
	pass := func(s *Session) (float64, error) {
		depth, start := s.cache.Len(), time.Now()
		err := s.run.Forward(ctx, s.cache, model.Batch{Tokens: []int32{0}, Logits: 1})
		seconds := time.Since(start).Seconds()
		s.cache.Rewind(depth)
		return seconds, err
	}
	s.cache.Record(nil)
	var cold []float64
	for _, depth := range depths[:len(depths)-1] {
		if err := view.fill(ctx, depth); err != nil {
			return nil, err
		}
		var more []float64
		for range timedRounds {
			_, err := pass(s)
			first, err1 := pass(view)
			second, err2 := pass(view)
			if err := cmp.Or(err, err1, err2); err != nil {
				return nil, err
			}
			more = append(more, first-second)
		}
		slices.Sort(more)
		cold = append(cold, max(0, more[timedRounds/2]))
	}
	return append(cold, cold[len(cold)-1]), nil
}

// timeKind takes a round of passes of a kind over the cache. Decoding runs one
// after another, slow ones too, so their average counts; the first one warms up.
func (s *Session) timeKind(ctx context.Context, depth int, k *timedKind) error {
	batch := model.Batch{Tokens: make([]int32, k.rows), Logits: k.logits}
	sum, passes := 0.0, 0
	began := time.Now()
	for i := 0; i < 2 || time.Since(began).Seconds() < timedSeconds; i++ {
		start := time.Now()
		if err := s.run.Forward(ctx, s.cache, batch); err != nil {
			return err
		}
		if i > 0 {
			sum += time.Since(start).Seconds()
			passes++
		}
		s.cache.Rewind(depth)
	}
	k.seconds = append(k.seconds, sum/float64(passes))
	return nil
}
