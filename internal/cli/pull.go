package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"triforce/engine"
	"triforce/hub"
)

type pullOptions struct {
	Sys   *System
	Name  string
	Draft string // name or path, "none", or "" for the catalogue's
	JSON  bool
}

type pullReport struct {
	Model string `json:"model"`
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
	Draft string `json:"draft,omitempty"`
}

func newPull(sys *System, run func(context.Context, *pullOptions) error) *cobra.Command {
	o := &pullOptions{Sys: sys}
	cmd := &cobra.Command{
		Use:   "pull NAME[:QUANT]",
		Short: "Download a model, and the draft that belongs to it",
		Long: `Download a model from the Hugging Face hub into the cache that other tools share,
check it, and print where it is. A download that was cut off goes on where it
ended; one that is there is only checked. The name then stands for the model:
triforce chat -m NAME.

NAME is ORG/REPO, with :QUANT, @REVISION or /FILE.gguf after it, or one of these:

` + catalogueTable() + `
Variables: HF_HOME, HF_HUB_CACHE (where to), HF_ENDPOINT (where from), HF_TOKEN,
HF_HUB_OFFLINE (look into the cache only).`,
		Example: `  triforce pull smollm2
  triforce pull bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M
  triforce pull ORG/REPO --draft small.gguf`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("expected one NAME, found %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: pullNames(sys),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Draft, "draft", "d", "", "draft to use with it from now on: `file`, name to pull too, or none (default: the catalogue's)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

// catalogueTable lists the pairs of the catalogue.
func catalogueTable() string {
	var out strings.Builder
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, p := range hub.Catalogue() {
		draft := ""
		if p.Draft != (hub.Name{}) {
			draft = "; with a draft"
		}
		fmt.Fprintf(w, "    %s\t%s%s\n", p.Name, p.About, draft)
	}
	_ = w.Flush()
	return out.String()
}

func runPull(ctx context.Context, o *pullOptions) error {
	draft := o.Draft
	if p, ok := hub.Lookup(o.Name); ok && draft == "" && p.Draft != (hub.Name{}) {
		draft = p.Draft.String()
	}
	target, err := o.get(ctx, o.Name)
	if err != nil {
		return err
	}
	r := pullReport{Model: o.Name, Path: target.Name(), Bytes: target.bytes}
	defer target.Close()
	switch draft {
	case "", "none":
		if o.Draft == "none" {
			err = o.Sys.drafts().Record(target.File, o.Name, "")
		}
	default:
		r.Draft = draft
		err = o.pair(ctx, target, draft)
	}
	if err != nil {
		return err
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	o.Sys.note("try it: triforce chat -m %s", quoted(o.Name))
	_, err = fmt.Fprintln(o.Sys.Out, r.Path)
	return err
}

// pair gets the draft and records it.
func (o *pullOptions) pair(ctx context.Context, target *pulled, draft string) error {
	small, err := o.get(ctx, draft)
	if err != nil {
		return fmt.Errorf("draft: %w", err)
	}
	defer small.Close()
	if err := target.CanDraft(small.File); err != nil {
		return usageError{err}
	}
	o.Sys.note("%s drafts for %s from now on", draft, o.Name)
	return o.Sys.drafts().Record(target.File, o.Name, draft)
}

// pulled is an opened model with the size of its files.
type pulled struct {
	*engine.File
	bytes int64
}

// get brings a model here, unless name is a file, and sees whether it can run.
func (o *pullOptions) get(ctx context.Context, name string) (*pulled, error) {
	path, bytes := name, int64(0)
	if info, err := os.Stat(name); err == nil {
		bytes = info.Size()
	} else {
		m, err := o.download(ctx, name)
		if err != nil {
			return nil, err
		}
		path, bytes = m.Path, m.Bytes
		o.Sys.note("%s: %s, %v", name, m.Name, engine.Bytes(m.Bytes))
	}
	f, err := engine.OpenFile(path, engine.Rope{})
	if err != nil {
		return nil, err
	}
	c, err := f.Forecast(engine.Defaults())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s is here, but triforce cannot run it: %w", name, err), f.Close())
	}
	if !c.Fits() {
		o.Sys.warn("%s: %v; with a shorter context (-c) it may fit", name, c)
	}
	return &pulled{f, bytes}, nil
}

// download shows what comes of each file.
func (o *pullOptions) download(ctx context.Context, name string) (*hub.Model, error) {
	n, err := pulledName(name)
	if err != nil {
		return nil, err
	}
	h := o.Sys.hub()
	var bar *progress
	clear := func() {
		if bar != nil {
			bar.done()
			bar = nil
		}
	}
	defer clear()
	h.Progress = func(file string, done, total int64) {
		if bar == nil || bar.label != file {
			clear()
			bar = o.Sys.progress(file)
		}
		bar.bytes(done, total)
	}
	h.Note = func(text string) {
		clear()
		o.Sys.warn("%s", text)
	}
	m, err := h.Pull(ctx, n)
	if ctx.Err() != nil {
		clear()
		o.Sys.note("stopped; the same command goes on where this one ended")
	}
	return m, err
}
