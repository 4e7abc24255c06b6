package bench

import (
	"cmp"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
)

//go:embed report.html
var reportPage string

// writeHTML prints one page that needs nothing else: the plots in light and in
// dark colours, the table, and how it was made.
func writeHTML(w io.Writer, rows []Row) error {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	type picture struct {
		Caption, Name string
		Light         template.URL
		Dark          template.Srcset
	}
	var pictures []picture
	for _, f := range Figures(rows) {
		p := picture{Caption: f.Caption, Name: f.Name}
		for _, t := range []*theme{light(), dark()} {
			svg, err := f.render("svg", t)
			if err != nil {
				return err
			}
			data := "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString(svg)
			p.Light, p.Dark = template.URL(cmp.Or(string(p.Light), data)), template.Srcset(data) //nolint:gosec // our own picture
		}
		pictures = append(pictures, p)
	}
	t := rowsTable(rows)
	return page.Execute(w, map[string]any{
		"Lines": headLines(rows), "Findings": findings(rows), "Pictures": pictures, "Head": t.head, "Rows": t.rows, "Legend": legend(),
	})
}
