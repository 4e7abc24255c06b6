package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jszwec/csvutil"

	"triforce/engine"
)

// Formats are the forms that results can be written in.
func Formats() []string { return []string{"md", "csv", "json", "jsonl", "html", "benchstat"} }

// Write prints the rows in one of the Formats.
func Write(w io.Writer, format string, rows []Row) error {
	switch format {
	case "md":
		return writeMarkdown(w, headLines(rows), rowsTable(rows), findings(rows))
	case "csv":
		return writeCSV(w, rows)
	case "html":
		return writeHTML(w, rows)
	case "benchstat":
		return writeBenchstat(w, rows)
	}
	return writeObjects(w, format, rows)
}

// headLines says what was measured and where, for a person.
func headLines(rows []Row) []string {
	at := slices.IndexFunc(rows, func(r Row) bool { return !r.Foreign() })
	if at < 0 {
		return nil
	}
	r := &rows[at]
	draft, machine := "", fmt.Sprintf("machine: %s, tier %s, %d threads", r.CPU, r.Tier, r.Threads)
	if r.Bandwidth > 0 {
		machine += fmt.Sprintf(", reads %.1f GB/s", r.Bandwidth/1e9)
	}
	if r.Draft != "" {
		draft = ", draft " + r.Draft
	}
	lines := []string{machine, fmt.Sprintf("model: %s, %v of weights%s, %s cache", r.Model, engine.Bytes(r.Size), draft, r.TypeK)}
	if peak := slices.MaxFunc(rows, func(a, b Row) int { return int(a.PeakBytes>>10 - b.PeakBytes>>10) }).PeakBytes; peak > 0 {
		lines[1] += fmt.Sprintf(", at most %v of memory", engine.Bytes(peak))
	}
	if r.Sent != "" {
		lines = append(lines, fmt.Sprintf("text: %s; seed %d", r.Sent, r.Seed))
	}
	for _, command := range commands(rows) {
		lines = append(lines, "command: "+command)
	}
	return lines
}

// commands are those that measured the rows: several, if a run went on with
// another's.
func commands(rows []Row) []string {
	var all []string
	for i := range rows {
		if c := rows[i].Command; c != "" && !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// column is one of the table for people. It is shown if at least so many of its
// cells differ; those that are empty do not count.
type column struct {
	head  string
	least int
	cell  func(r *Row) string
}

func columns() []column {
	number := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprint(n)
	}
	// A prediction has no levels, only what was assumed.
	levels := func(of func(*Level) string, assumed func(*Row) string) func(*Row) string {
		return func(r *Row) string {
			var parts []string
			if len(r.Levels) == 0 && r.Accepted > 0 {
				return assumed(r)
			}
			for i := range r.Levels {
				if r.Levels[i].Proposed > 0 {
					parts = append(parts, of(&r.Levels[i]))
				}
			}
			return strings.Join(parts, " · ")
		}
	}
	return []column{
		{"test", 0, func(r *Row) string { return r.Test }},
		{"mode", 0, func(r *Row) string { return r.Mode }},
		{"model", 2, func(r *Row) string {
			if r.Foreign() {
				return ""
			}
			return r.Model
		}},
		{"text", 2, func(r *Row) string { return r.Sent }},
		{"cache", 2, func(r *Row) string { return r.TypeK }},
		{"threads", 2, func(r *Row) string { return number(r.Threads) }},
		{"temp", 2, func(r *Row) string {
			if r.Mode == Prefill || r.Foreign() {
				return ""
			}
			return fmt.Sprint(r.Temp)
		}},
		{"rule", 2, func(r *Row) string { return r.Accept }},
		{"budget", 2, func(r *Row) string { return number(r.Budget) }},
		{"chunk", 2, func(r *Row) string { return number(r.Chunk) }},
		{"window", 2, func(r *Row) string { return number(r.Window) }},
		{"outer", 2, func(r *Row) string { return number(r.Outer) }},
		{"inner", 2, func(r *Row) string { return number(r.Inner) }},
		{"tokens/s (min–max)", 1, func(r *Row) string {
			switch {
			case r.MedianTS == 0:
				return ""
			case len(r.TS) > 1:
				return fmt.Sprintf("%s (%s–%s)", figures(r.MedianTS), figures(r.MinTS), figures(r.MaxTS))
			case r.StddevTS > 0:
				return fmt.Sprintf("%s ± %s", figures(r.AvgTS), figures(r.StddevTS))
			}
			return figures(r.MedianTS)
		}},
		{"predicted", 1, func(r *Row) string {
			if r.PredictedTS == 0 {
				return ""
			}
			return figures(r.PredictedTS)
		}},
		{"× plain (min–max)", 0, func(r *Row) string {
			switch {
			case r.Ratio == 0:
				return ""
			case r.RatioMin == r.RatioMax:
				return fmt.Sprintf("%.2f", r.Ratio)
			}
			return fmt.Sprintf("%.2f (%.2f–%.2f)", r.Ratio, r.RatioMin, r.RatioMax)
		}},
		{"accepted", 1, levels(func(l *Level) string { return fmt.Sprintf("%.0f%%", 100*l.OfJudged()) },
			func(r *Row) string { return fmt.Sprintf("%.0f%%", 100*r.Accepted) })},
		{"a round", 1, levels(func(l *Level) string { return fmt.Sprintf("%.1f", l.MeanLength) },
			func(r *Row) string { return fmt.Sprintf("%.1f", r.MeanLength) })},
		{"of limit", 1, func(r *Row) string {
			if r.OfLimit == 0 {
				return ""
			}
			return fmt.Sprintf("%.0f%%", 100*r.OfLimit)
		}},
		{"keys, values", 1, func(r *Row) string {
			if r.KVBytes == 0 {
				return ""
			}
			return engine.Bytes(r.KVBytes).String()
		}},
		{"disk a token", 1, func(r *Row) string {
			if r.DiskRead == 0 {
				return ""
			}
			return engine.Bytes(int64(r.DiskRead)).String()
		}},
		{"disk wait", 1, func(r *Row) string {
			if r.DiskWait == 0 {
				return ""
			}
			return fmt.Sprintf("%.0f%%", 100*r.DiskWait)
		}},
	}
}

// legend explains the columns that are not plain.
func legend() []string {
	return []string{
		"× plain: the median over pairs with runs of plain decoding just before",
		"accepted: of the tokens that were judged; a round: the tokens that one yields; first those of the target, then of the level below",
		"disk a token, disk wait: what is read of keys and values on disk, and the share of the time that passes wait for it",
		"of limit: of what reading the weights and the cache once a token allows; beyond 100% no plain decoding can be on this machine, or caches help",
	}
}

// mostForeign is how many rows a table may have before those of another program
// that have no partner of ours are left to the plots.
const mostForeign = 16

// table is text in columns.
type table struct {
	head []string
	rows [][]string
}

func rowsTable(all []Row) *table {
	rows := slices.DeleteFunc(slices.Clone(all), func(r Row) bool { return r.Foreign() && r.Ratio == 0 && len(all) > mostForeign })
	t := &table{rows: make([][]string, len(rows))}
	for _, c := range columns() {
		cells, seen := make([]string, len(rows)), []string{}
		for i := range rows {
			cells[i] = c.cell(&rows[i])
			if cells[i] != "" && !slices.Contains(seen, cells[i]) {
				seen = append(seen, cells[i])
			}
		}
		if len(seen) < c.least {
			continue
		}
		t.head = append(t.head, c.head)
		for i := range rows {
			t.rows[i] = append(t.rows[i], cells[i])
		}
	}
	return t
}

// findings is what follows from the rows, for a person.
func findings(rows []Row) []string {
	return slices.Concat(crossovers(rows), accuracy(rows), disturbed(rows))
}

// unsteady is the difference of the fastest and the slowest sample, as a part of
// the median, from which on a row's speed is worth a warning.
const unsteady = 0.3

// disturbed names the rows whose samples differ so much that something else must
// have run, if there are any.
func disturbed(rows []Row) []string {
	var names []string
	n := 0
	for i := range rows {
		r := &rows[i]
		if r.Foreign() || len(r.NS) < 2 {
			continue
		}
		if n++; r.MaxTS-r.MinTS > unsteady*r.MedianTS {
			names = append(names, r.Test+" "+series(r, rows))
		}
	}
	const most = 4
	if more := len(names) - most; more > 0 {
		names = append(names[:most], fmt.Sprintf("and %d more", more))
	}
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("disturbed: the samples of these rows (of %d) differ by more than %.0f%%, so trust × plain rather than tokens/s, or measure again on a quieter machine: %s",
		n, 100*unsteady, strings.Join(names, "; "))}
}

// anyDepth is the row's setting without its depth, and without the budget that the
// depth gives it.
func anyDepth(r *Row) Setting {
	s := r.Setting
	spec := engine.Spec{Chunk: s.Chunk, Sinks: s.Sinks, Window: s.Window}
	if s.Budget == spec.BudgetAt(s.Depth) {
		s.Budget = 0
	}
	s.Depth, s.Test = 0, ""
	return s
}

// byDepth keeps the rows about generating whose setting was measured at several
// depths, and those of other programs. A budget is left to those that were asked for
// it.
func byDepth(rows []Row) []Row {
	depths := map[Setting]int{}
	for i := range rows {
		depths[anyDepth(&rows[i])]++
	}
	var kept []Row
	for _, r := range rows {
		if s := anyDepth(&r); r.Gen > 0 && (depths[s] > 1 || r.Foreign()) {
			r.Budget = s.Budget
			kept = append(kept, r)
		}
	}
	return kept
}

// crossovers says from which depth on each mode pays, if there are several
// depths to tell that from.
func crossovers(rows []Row) []string {
	type line struct {
		name string
		from int // -1: slower at the greatest depth
	}
	rows = byDepth(rows)
	var lines []line
	at := map[Setting]int{}
	for i := range rows {
		r := &rows[i]
		if r.Ratio == 0 || r.Mode == engine.SpecPlain || r.Foreign() {
			continue
		}
		key := anyDepth(r)
		if _, ok := at[key]; !ok {
			at[key] = len(lines)
			lines = append(lines, line{name: series(r, rows), from: -1})
		}
		l := &lines[at[key]]
		switch faster := r.Ratio > 1; {
		case !faster:
			l.from = -1
		case l.from < 0:
			l.from = r.Depth
		}
	}
	var text, slower []string
	for _, l := range lines {
		if l.from < 0 {
			slower = append(slower, l.name)
		} else {
			text = append(text, fmt.Sprintf("%s: faster from depth %d on", l.name, l.from))
		}
	}
	if len(slower) > 0 {
		text = append(text, "slower at the greatest depth: "+strings.Join(slower, "; "))
	}
	return text
}

// series names what rows of different depths share: the mode, and what else
// differs between rows of that mode, but for the columns named.
func series(r *Row, rows []Row, but ...string) string {
	name := r.Mode
	for _, c := range columns() {
		cell := c.cell(r)
		if !slices.Contains([]string{"cache", "threads", "temp", "rule", "budget", "chunk", "window", "outer", "inner"}, c.head) || cell == "" || slices.Contains(but, c.head) {
			continue
		}
		if slices.ContainsFunc(rows, func(o Row) bool { return o.Mode == r.Mode && c.cell(&o) != cell }) {
			name += ", " + c.head + " " + cell
		}
	}
	return name
}

// figures writes a number with three digits or all before the point.
func figures(x float64) string {
	digits := 0
	for limit := 99.95; digits < 3 && x < limit; limit /= 10 {
		digits++
	}
	return fmt.Sprintf("%.*f", digits, x)
}

// writeMarkdown prints lines as a list, the table, whose source is aligned as
// well, and what follows from it.
func writeMarkdown(w io.Writer, lines []string, t *table, findings []string) error {
	var b strings.Builder
	for _, line := range lines {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	b.WriteString("\n")
	widths := make([]int, len(t.head))
	rule := make([]string, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell), 3)
		}
	}
	for i, n := range widths {
		rule[i] = strings.Repeat("-", n)
	}
	for _, row := range append([][]string{t.head, rule}, t.rows...) {
		for j, cell := range row {
			b.WriteString("| " + cell + strings.Repeat(" ", widths[j]-utf8.RuneCountInString(cell)) + " ")
		}
		b.WriteString("|\n")
	}
	if len(findings) > 0 {
		b.WriteString("\nFindings:\n\n- " + strings.Join(findings, "\n- ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCSV prints all fields of the rows; lists are JSON in a cell.
func writeCSV[T any](w io.Writer, rows []T) error {
	c := csv.NewWriter(w)
	e := csvutil.NewEncoder(c)
	e.Tag = "json"
	err := e.Encode(rows)
	c.Flush()
	if err == nil {
		err = c.Error()
	}
	return err
}

// writeObjects prints a JSON array, or for "jsonl" an object a line.
func writeObjects[T any](w io.Writer, format string, objects []T) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	if format == "json" {
		e.SetIndent("", "  ")
		return e.Encode(append([]T{}, objects...))
	}
	for _, o := range objects {
		if err := e.Encode(o); err != nil {
			return err
		}
	}
	return nil
}

// writeBenchstat prints a line for each sample as Go's benchmarks do; an
// operation is one token.
func writeBenchstat(w io.Writer, rows []Row) error {
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\n", runtime.GOOS, runtime.GOARCH)
	if len(rows) > 0 {
		fmt.Fprintf(&b, "cpu: %s\n", rows[0].CPU)
	}
	clean := strings.NewReplacer(" ", "_", "/", "_").Replace
	for i := range rows {
		r := &rows[i]
		name := fmt.Sprintf("Generate/depth=%d/mode=%s/temp=%v", r.Depth, clean(r.Mode), r.Temp)
		if r.Mode == Prefill {
			name = fmt.Sprintf("Read/depth=%d/tokens=%d", r.Depth, r.Prompt)
		}
		if r.Accept != "" {
			name += "/rule=" + r.Accept
		}
		if r.Budget > 0 {
			name += fmt.Sprintf("/budget=%d/chunk=%d", r.Budget, r.Chunk)
		}
		if r.Outer > 0 || r.Inner > 0 {
			name += fmt.Sprintf("/outer=%d/inner=%d", r.Outer, r.Inner)
		}
		name += fmt.Sprintf("/cache=%s/model=%s", r.TypeK, clean(r.Model))
		for _, ns := range r.NS {
			fmt.Fprintf(&b, "Benchmark%s-%d %d %.1f ns/op %.2f tokens/s\n", name, r.Threads, r.Tokens(),
				float64(ns)/float64(r.Tokens()), 1e9*float64(r.Tokens())/float64(ns))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
