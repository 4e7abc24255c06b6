package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"image/color"
	"io"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Figure is one plot over the rows.
type Figure struct {
	Name    string // of its file, without ending
	Caption string
	plot    func(*theme) (*plot.Plot, error)
}

// Figures are the plots that these rows have the data for.
func Figures(rows []Row) []Figure {
	var all []Figure
	add := func(name, caption string, enough bool, p func(*theme) (*plot.Plot, error)) {
		if enough {
			all = append(all, Figure{name, caption, p})
		}
	}
	deep := byDepth(rows)
	speeds, only := few(lines(deep, "depth", func(r *Row) (x, y float64) { return float64(r.Depth), speed(r) }, generated))
	add("speed-by-depth", "Tokens a second by tokens in the cache. Dashed: predicted, or another program."+only, longest(speeds) > 1, func(t *theme) (*plot.Plot, error) {
		return t.lines("Speed by depth", "tokens in the cache", "tokens/s", speeds, depthAxis, logAxis)
	})
	ratios, only := few(lines(deep, "depth", func(r *Row) (x, y float64) { return float64(r.Depth), r.Ratio }, func(r *Row) bool { return r.Ratio > 0 && r.Gen > 0 && !r.Foreign() }))
	add("ratio-by-depth", "Times as fast as plain decoding. A mode pays where its line is above 1."+only, longest(ratios) > 1, func(t *theme) (*plot.Plot, error) {
		return t.lines("Against plain decoding", "tokens in the cache", "× plain", ratios, depthAxis, zeroAxis)
	})
	deepest := 0
	for i := range rows {
		if rows[i].Budget > 0 {
			deepest = max(deepest, rows[i].Depth)
		}
	}
	at := func(r *Row) bool { return r.Depth == deepest && r.Accepted > 0 }
	budgets := varying(rows, at, func(r *Row) float64 { return float64(r.Budget) })
	for _, f := range []struct {
		name, caption, title, label string
		y                           func(r *Row) float64
	}{
		{"acceptance-by-budget", "Accepted of the tokens that the target judged, by the tokens that the middle level sees.", "Acceptance by budget", "accepted", func(r *Row) float64 { return r.Accepted }},
		{"speed-by-budget", "Tokens a second by the tokens that the middle level sees.", "Speed by budget", "tokens/s", speed},
	} {
		l := lines(budgets, "budget", func(r *Row) (x, y float64) { return float64(r.Budget), f.y(r) }, at)
		add(f.name, f.caption, longest(l) > 2, func(t *theme) (*plot.Plot, error) {
			return t.lines(fmt.Sprintf("%s, at depth %d", f.title, deepest), "budget", f.label, l, budgetAxis, plainAxis)
		})
	}
	temps := varying(rows, at, func(r *Row) float64 { return r.Temp })
	byTemp := lines(temps, "temp", func(r *Row) (x, y float64) { return r.Temp, r.Accepted }, at)
	add("acceptance-by-temperature", "Accepted of the tokens that the target judged, by temperature.", longest(byTemp) > 2, func(t *theme) (*plot.Plot, error) {
		return t.lines(fmt.Sprintf("Acceptance by temperature, at depth %d", deepest), "temperature", "accepted", byTemp, plainAxis, plainAxis)
	})
	shares := timeShares(rows)
	add("time-by-level", "Where the time of a token goes: passes of each level, and the rest (drafts without a model, choosing, copying).", len(shares) > 1, func(t *theme) (*plot.Plot, error) {
		return t.stacks(fmt.Sprintf("Time by level, at depth %d, temperature %v", shares[0].Depth, shares[0].Temp), "ms a token", shares)
	})
	return all
}

// generated picks rows about generating.
func generated(r *Row) bool { return r.Mode != Prefill && r.Gen > 0 && speed(r) > 0 }

// speed is what was measured, or else predicted.
func speed(r *Row) float64 { return cmp.Or(r.MedianTS, r.PredictedTS) }

// line is a series of points under a name.
type line struct {
	name   string
	mode   string
	temp   float64
	dashed bool
	points plotter.XYs
}

// lines are the points of rows that differ in x, the column called axis, alone.
// A row with a prediction beside its measurement gives a point on a second line.
func lines(rows []Row, axis string, xy func(*Row) (x, y float64), keep func(*Row) bool) []line {
	type key struct {
		name   string
		dashed bool
	}
	at := map[key]int{}
	var all []line
	put := func(k key, r *Row, x, y float64) {
		if _, ok := at[k]; !ok {
			at[k] = len(all)
			all = append(all, line{name: k.name, mode: r.Mode, temp: r.Temp, dashed: k.dashed})
		}
		l := &all[at[k]]
		if !slices.ContainsFunc(l.points, func(p plotter.XY) bool { return p.X == x }) {
			l.points = append(l.points, plotter.XY{X: x, Y: y})
		}
	}
	kept := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !keep(&r) })
	for i := range rows {
		r := &rows[i]
		if !keep(r) {
			continue
		}
		x, y := xy(r)
		name := series(r, kept, axis)
		if _, speeds := xy(&Row{MedianTS: 1, PredictedTS: 1}); speeds == 1 && r.PredictedTS > 0 {
			put(key{name + ", predicted", true}, r, x, r.PredictedTS)
			if r.MedianTS == 0 {
				continue
			}
		}
		put(key{name, r.Foreign()}, r, x, y)
	}
	for i := range all {
		slices.SortFunc(all[i].points, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
	}
	return all
}

// varying keeps the rows of those settings of which x takes more than two
// values.
func varying(rows []Row, keep func(*Row) bool, x func(*Row) float64) []Row {
	type key struct {
		mode string
		temp float64
	}
	var kept []Row
	for _, of := range []func(r *Row) key{func(r *Row) key { return key{r.Mode, r.Temp} }, func(r *Row) key { return key{r.Mode, float64(r.Budget)} }} {
		values := map[key]map[float64]bool{}
		for i := range rows {
			if r := &rows[i]; keep(r) {
				if values[of(r)] == nil {
					values[of(r)] = map[float64]bool{}
				}
				values[of(r)][x(r)] = true
			}
		}
		kept = kept[:0]
		for i := range rows {
			if r := &rows[i]; keep(r) && len(values[of(r)]) > 2 {
				kept = append(kept, rows[i])
			}
		}
		if len(kept) > 0 {
			break
		}
	}
	return kept
}

// mostLines is how many a plot shows.
const mostLines = 8

// few keeps, of too many lines, one of each mode: of those at the least temperature
// the first with the most points. If it leaves any out, it returns a sentence that
// says so.
func few(l []line) (kept []line, only string) {
	if len(l) <= mostLines {
		return l, ""
	}
	for _, x := range l {
		i := slices.IndexFunc(kept, func(k line) bool { return k.mode == x.mode && k.dashed == x.dashed })
		switch {
		case i < 0:
			kept = append(kept, x)
		case x.temp < kept[i].temp, x.temp == kept[i].temp && len(x.points) > len(kept[i].points):
			kept[i] = x
		}
	}
	return kept, " One line of each mode, at the least temperature."
}

func longest(l []line) int {
	n := 0
	for i := range l {
		n = max(n, len(l[i].points))
	}
	return n
}

// timeShares is one row of each mode, at the greatest depth and the least
// temperature there.
func timeShares(rows []Row) []Row {
	var best []Row
	for _, r := range rows {
		if len(r.Levels) == 0 || len(r.NS) == 0 {
			continue
		}
		if len(best) > 0 && (r.Depth > best[0].Depth || r.Depth == best[0].Depth && r.Temp < best[0].Temp) {
			best = nil
		}
		if len(best) == 0 || r.Depth == best[0].Depth && r.Temp == best[0].Temp && !slices.ContainsFunc(best, func(b Row) bool { return b.Mode == r.Mode }) {
			best = append(best, r)
		}
	}
	return best
}

// theme is the colours of a plot.
type theme struct {
	back, ink, grid color.Color
}

func light() *theme {
	return &theme{back: color.White, ink: color.Gray{0x22}, grid: color.Gray{0xdd}}
}

func dark() *theme {
	return &theme{back: color.Gray{0x16}, ink: color.Gray{0xdd}, grid: color.Gray{0x38}}
}

// palette is Okabe and Ito's, which people who see few colours can tell apart.
func palette() []color.RGBA {
	return []color.RGBA{
		{0x80, 0x80, 0x80, 0xff}, {0xe6, 0x9f, 0x00, 0xff}, {0x56, 0xb4, 0xe9, 0xff}, {0x00, 0x9e, 0x73, 0xff},
		{0xcc, 0x79, 0xa7, 0xff}, {0x00, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0x00, 0xff}, {0xa0, 0x8a, 0x20, 0xff},
	}
}

// modeColor is the same for a mode in every plot.
func modeColor(mode string) color.Color {
	p := palette()
	if i := slices.Index(modeOrder(), mode); i >= 0 {
		return p[i]
	}
	return p[len(p)-1]
}

func (t *theme) style(s *text.Style, size float64) {
	s.Color, s.Font.Variant, s.Font.Size = t.ink, "Sans", vg.Points(size)
}

// start is an empty plot.
func (t *theme) start(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = t.back
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(6)
	t.style(&p.Title.TextStyle, 12)
	t.style(&p.Legend.TextStyle, 9)
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		t.style(&a.Label.TextStyle, 10)
		t.style(&a.Tick.Label, 9)
		a.Color, a.Tick.Color = t.ink, t.ink
		a.Padding = vg.Points(4)
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = t.grid, t.grid
	p.Add(grid)
	p.Legend.Padding = vg.Points(2)
	p.Legend.ThumbnailWidth = vg.Points(18)
	return p
}

// lines draws series of points; x and y shape the axes once the data is known.
func (t *theme) lines(title, xLabel, yLabel string, series []line, x, y func(*plot.Axis, []float64)) (*plot.Plot, error) {
	p := t.start(title, xLabel, yLabel)
	var xs, ys []float64
	used := map[string]int{}
	for _, s := range series {
		l, points, err := plotter.NewLinePoints(s.points)
		if err != nil {
			return nil, fmt.Errorf("bench: plot %q: %w", title, err)
		}
		l.Color, l.Width = modeColor(s.mode), vg.Points(1.6)
		points.Color, points.Radius = l.Color, vg.Points(2.4)
		points.Shape = []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.PlusGlyph{}, draw.CrossGlyph{}, draw.RingGlyph{}, draw.SquareGlyph{}}[used[s.mode]%7]
		used[s.mode]++
		if s.dashed {
			l.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
		}
		p.Add(l)
		if len(s.points) <= 16 { // a dense line needs no marks
			p.Add(points)
		}
		p.Legend.Add(s.name, l, points)
		for _, point := range s.points {
			xs, ys = append(xs, point.X), append(ys, point.Y)
		}
	}
	x(&p.X, xs)
	y(&p.Y, ys)
	return p, nil
}

// rootScale spreads small depths without losing 0: 0, 2k, 8k and 32k are
// evenly spaced.
type rootScale struct{}

func (rootScale) Normalize(lo, hi, x float64) float64 { return math.Sqrt((x - lo) / (hi - lo)) }

// depthAxis has a tick at every depth there is, as far as there is room.
func depthAxis(a *plot.Axis, values []float64) {
	a.Min, a.Max, a.Scale = 0, max(slices.Max(values), 1), rootScale{}
	var ticks []plot.Tick
	place := -1.0
	for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
		tick := plot.Tick{Value: v}
		if at := math.Sqrt(v / a.Max); at-place > 0.07 {
			tick.Label, place = short(int(v)), at
		}
		ticks = append(ticks, tick)
	}
	a.Tick.Marker = plot.ConstantTicks(ticks)
}

// short writes a number of tokens as people do.
func short(n int) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dM", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dk", n>>10)
	case n >= 10<<10:
		return fmt.Sprintf("%.1fk", float64(n)/(1<<10))
	}
	return fmt.Sprint(n)
}

// logAxis has a tick at 1, 2 and 5 of each power of ten.
func logAxis(a *plot.Axis, values []float64) {
	lo, hi := slices.Min(values)/1.15, slices.Max(values)*1.15
	a.Min, a.Max, a.Scale = lo, hi, plot.LogScale{}
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(lo))); power <= hi; power *= 10 {
		for _, m := range []float64{1, 2, 5} {
			if v := m * power; v >= lo && v <= hi {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
			}
		}
	}
	a.Tick.Marker = plot.ConstantTicks(ticks)
}

// budgetAxis has a tick at every budget there is.
func budgetAxis(a *plot.Axis, values []float64) {
	logAxis(a, values)
	var ticks []plot.Tick
	for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
		ticks = append(ticks, plot.Tick{Value: v, Label: short(int(v))})
	}
	a.Tick.Marker = plot.ConstantTicks(ticks)
}

// zeroAxis begins at 0 and has a tick at 1.
func zeroAxis(a *plot.Axis, values []float64) {
	a.Min, a.Max = 0, 1.1*slices.Max(values)
	step := 0.5
	for _, wider := range []float64{1, 2, 5, 10, 20, 50} {
		if a.Max/step > 8 {
			step = wider
		}
	}
	var ticks []plot.Tick
	if step > 1 {
		ticks = append(ticks, plot.Tick{Value: 1, Label: "1"})
	}
	for v := 0.0; v <= a.Max; v += step {
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprint(v)})
	}
	a.Tick.Marker = plot.ConstantTicks(ticks)
}

// plainAxis writes numbers no longer than they are.
func plainAxis(a *plot.Axis, _ []float64) {
	a.Tick.Marker = plot.TickerFunc(func(lo, hi float64) []plot.Tick {
		ticks := plot.DefaultTicks{}.Ticks(lo, hi)
		for i := range ticks {
			if ticks[i].Label != "" {
				ticks[i].Label = fmt.Sprintf("%.4g", ticks[i].Value)
			}
		}
		return ticks
	})
}

// stacks draws a bar for each row: the milliseconds of a token by level.
func (t *theme) stacks(title, yLabel string, rows []Row) (*plot.Plot, error) {
	p := t.start(title, "", yLabel)
	parts := []string{"target", "retrieved", "stream", "draft", "rest"}
	values := make([]plotter.Values, len(parts))
	var names []string
	for i := range rows {
		r := &rows[i]
		names = append(names, r.Mode)
		mean, _ := moments(r.NS)
		rest, perToken := mean/1e9, 1e3/float64(r.Tokens())
		for k := range parts {
			seconds := 0.0
			for _, l := range r.Levels {
				if l.Name == parts[k] {
					seconds += l.Seconds / float64(r.Runs)
				}
			}
			if rest -= seconds; parts[k] == "rest" {
				seconds = max(rest, 0)
			}
			values[k] = append(values[k], seconds*perToken)
		}
	}
	var below *plotter.BarChart
	colors := []int{5, 3, 4, 1, 0}
	for k, part := range parts {
		if slices.Max(values[k]) == 0 {
			continue
		}
		bar, err := plotter.NewBarChart(values[k], vg.Points(34))
		if err != nil {
			return nil, fmt.Errorf("bench: plot %q: %w", title, err)
		}
		bar.Color, bar.LineStyle.Width = palette()[colors[k]], 0
		if below != nil {
			bar.StackOn(below)
		}
		below = bar
		p.Add(bar)
		p.Legend.Add(part, bar)
	}
	p.NominalX(names...)
	plainAxis(&p.Y, nil)
	return p, nil
}

// The size of a figure, and the pixels of an inch of a PNG.
const (
	figureWidth  = 6.6 * vg.Inch
	figureHeight = 3.7 * vg.Inch
	figureDPI    = 200
)

// render draws a figure as "svg" or "png".
func (f *Figure) render(format string, t *theme) ([]byte, error) {
	p, err := f.plot(t)
	if err != nil {
		return nil, err
	}
	// The legend stands beside the plot, so that it hides nothing.
	legend := p.Legend
	p.Legend = plot.NewLegend()
	legend.Top, legend.Left = true, true
	var canvas vg.CanvasSizer
	var out io.WriterTo
	if format == "png" {
		c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(figureWidth, figureHeight), vgimg.UseDPI(figureDPI), vgimg.UseBackgroundColor(t.back))}
		canvas, out = c, c
	} else {
		c := vgsvg.New(figureWidth, figureHeight)
		canvas, out = c, c
	}
	all := draw.New(canvas)
	all.SetColor(t.back)
	all.Fill(all.Rectangle.Path())
	room := legend.Rectangle(all).Size().X + vg.Points(14)
	p.Draw(draw.Crop(all, vg.Points(4), -room, vg.Points(4), -vg.Points(4)))
	legend.Draw(draw.Crop(all, figureWidth-room+vg.Points(6), 0, 0, -vg.Points(30)))
	var b bytes.Buffer
	_, err = out.WriteTo(&b)
	return b.Bytes(), err
}

// Render draws a figure in light colours as "svg" or "png".
func (f *Figure) Render(format string) ([]byte, error) { return f.render(format, light()) }
