package cli

import (
	"bufio"
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"triforce/tokenizer"
)

type tokenizeOptions struct {
	Sys       *System
	Model     modelOptions
	File      string
	Text      string
	NoBOS     bool
	NoSpecial bool
	JSON      bool
}

type tokenizeReport struct {
	IDs   []int32 `json:"ids"`
	Count int     `json:"count"`
}

func newTokenize(sys *System, run func(context.Context, *tokenizeOptions) error) *cobra.Command {
	o := &tokenizeOptions{Sys: sys, Model: modelDefaults(sys)}
	cmd := &cobra.Command{
		Use:   "tokenize [TEXT]",
		Short: "Show the tokens of a text",
		Example: `  triforce tokenize "Call me Ishmael."
  triforce tokenize -m model.gguf -f book.txt --json`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Text = args[0]
			} else if o.File == "" {
				return usagef("a TEXT or --file is needed")
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	o.Model.bindPath(f)
	f.StringVarP(&o.File, "file", "f", "", "`file` to tokenize, - for standard input; TEXT is appended")
	f.BoolVar(&o.NoBOS, "no-bos", false, "no tokens that begin and end the text")
	f.BoolVar(&o.NoSpecial, "no-special", false, "read special tokens in the text as plain text")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runTokenize(_ context.Context, o *tokenizeOptions) error {
	text := o.Text
	if o.File != "" {
		file, err := readText(o.Sys, o.File)
		if err != nil {
			return err
		}
		text = file + text
	}
	f, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer f.Close()
	opt := tokenizer.Options{Special: !o.NoSpecial}
	if o.NoBOS {
		opt.Marks = tokenizer.MarksNone
	}
	warnLost(o.Sys, f, text)
	ids := f.Tokenizer().Encode([]int32{}, text, opt)
	if o.JSON {
		return writeJSON(o.Sys.Out, tokenizeReport{IDs: ids, Count: len(ids)})
	}
	return listTokens(o.Sys, f.Tokenizer().Vocab(), ids)
}

// listTokens prints a line for each token: its id and what it stands for.
func listTokens(sys *System, v *tokenizer.Vocab, ids []int32) error {
	out := bufio.NewWriter(sys.Out)
	for _, id := range ids {
		text := strconv.Quote(v.Piece(id))
		if v.Piece(id) == "" {
			text = v.Token(id)
		}
		fmt.Fprintf(out, "%7d  %s\n", id, text)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(sys.Err, sys.dim(grouped(len(ids))+" tokens"))
	return err
}
