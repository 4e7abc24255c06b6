package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"triforce/engine"
)

type perplexityOptions struct {
	Sys   *System
	Model modelOptions
	File  string
	IDs   string // file
	JSON  bool
}

type perplexityReport struct {
	Tokens     int     `json:"tokens"`
	MeanNLL    float64 `json:"mean_nll"`
	Perplexity float64 `json:"perplexity"`
}

func newPerplexity(sys *System, run func(context.Context, *perplexityOptions) error) *cobra.Command {
	o := &perplexityOptions{Sys: sys, Model: modelDefaults(sys)}
	cmd := &cobra.Command{
		Use:   "perplexity",
		Short: "Measure how well a model predicts a text",
		Long: `Measure how well a model predicts a text: the mean negative log-likelihood, in
nats, of each token but the first given all tokens before it, and its
exponential, the perplexity. The whole text must fit into the context.`,
		Example: `  triforce perplexity -f chapter.txt
  triforce perplexity -m model.gguf -f chapter.txt --kv-type f32 --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (o.File == "") == (o.IDs == "") {
				return usagef("either --file or --ids is needed")
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.Model.bindRun(f)
	f.StringVarP(&o.File, "file", "f", "", "`file` with the text, - for standard input")
	f.StringVar(&o.IDs, "ids", "", "`file` with a JSON array of token ids instead, - for standard input")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runPerplexity(ctx context.Context, o *perplexityOptions) error {
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	ids, err := o.tokens(file)
	if err != nil {
		return err
	}
	if len(ids) < 2 {
		return usagef("the text has %d tokens, expected at least 2", len(ids))
	}
	if err := file.CheckLength("text", len(ids), o.Model.Options); err != nil {
		return err
	}
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	p := o.Sys.progress("scoring")
	nll, err := e.Score(ctx, ids, p.tokens)
	p.done()
	if err != nil {
		return err
	}
	r := perplexityReport{Tokens: len(ids)}
	for _, x := range nll {
		r.MeanNLL += x
	}
	r.MeanNLL /= float64(len(nll))
	r.Perplexity = math.Exp(r.MeanNLL)
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	_, err = fmt.Fprintf(o.Sys.Out, "perplexity %.4f, mean negative log-likelihood %.6f nats, %s tokens\n", r.Perplexity, r.MeanNLL, grouped(r.Tokens))
	return err
}

// tokens reads the text or the ids.
func (o *perplexityOptions) tokens(f *engine.File) ([]int32, error) {
	if o.IDs == "" {
		text, err := readText(o.Sys, o.File)
		if err != nil {
			return nil, err
		}
		warnLost(o.Sys, f, text)
		return f.Encode(text), nil
	}
	text, err := readText(o.Sys, o.IDs)
	if err != nil {
		return nil, err
	}
	var ids []int32
	if err := json.Unmarshal([]byte(text), &ids); err != nil {
		return nil, usagef("--ids %s: expected a JSON array of token ids: %w", o.IDs, err)
	}
	return ids, nil
}
