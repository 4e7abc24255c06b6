package cli

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"triforce/engine"
	"triforce/hub"
)

type listOptions struct {
	Sys  *System
	JSON bool
}

type listReport struct {
	Cache  string       `json:"cache"`
	Models []listedItem `json:"models"`
}

type listedItem struct {
	Name  string `json:"name"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Draft string `json:"draft,omitempty"`
	Time  string `json:"time"`
}

func newList(sys *System, run func(context.Context, *listOptions) error) *cobra.Command {
	o := &listOptions{Sys: sys}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the models that are on this machine",
		Long: `List the models in the cache of the Hugging Face hub, whichever tool pulled them.
Each name can be given to --model and --draft. triforce deletes none of them.`,
		Example: `  triforce list
  triforce list --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runList(_ context.Context, o *listOptions) error {
	h := o.Sys.hub()
	models, err := h.List()
	if err != nil {
		return err
	}
	drafts, err := o.Sys.drafts().All()
	if err != nil {
		o.Sys.warn("%v", err)
	}
	r := listReport{Cache: h.Cache, Models: []listedItem{}}
	for _, m := range models {
		r.Models = append(r.Models, listedItem{m.Name.String(), m.Path, m.Bytes, draftOf(&m, drafts), m.Time.UTC().Format("2006-01-02")})
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	if len(r.Models) == 0 {
		o.Sys.note("no models in %s; 'triforce pull -h' lists some to begin with", r.Cache)
		return nil
	}
	w := tabwriter.NewWriter(o.Sys.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSIZE\tSINCE\tDRAFT")
	for _, m := range r.Models {
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\n", m.Name, engine.Bytes(m.Bytes), m.Time, m.Draft)
	}
	return w.Flush()
}

// draftOf is the draft recorded for a model under a name that means it.
func draftOf(m *hub.Model, drafts map[string]engine.DraftRecord) string {
	for _, r := range drafts {
		n, err := pulledName(r.Model)
		if err == nil && n.Repo == m.Name.Repo && (n.Quant == "" || n.Quant == m.Name.Quant) && (n.File == "" || n.File == m.Files[0]) {
			return r.Draft
		}
	}
	return ""
}
