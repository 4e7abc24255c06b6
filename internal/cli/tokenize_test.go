package cli

import (
	"context"
	"reflect"
	"strings"
	"testing"
)

func TestTokenizeFlags(t *testing.T) {
	for _, c := range []struct {
		args  string
		want  tokenizeOptions
		fails string
	}{
		{args: "hi", want: tokenizeOptions{Text: "hi"}},
		{args: "-f a.txt --no-bos --no-special --json hi", want: tokenizeOptions{File: "a.txt", NoBOS: true, NoSpecial: true, JSON: true, Text: "hi"}},
		{args: "--json", fails: "TEXT"},
		{args: "a b", fails: "at most 1"},
	} {
		w := newWorld("", nil)
		c.want.Sys, c.want.Model = w.System, modelDefaults(w.System)
		err := parse(newTokenize(w.System, func(_ context.Context, got *tokenizeOptions) error {
			if !reflect.DeepEqual(*got, c.want) {
				t.Errorf("%q: got %+v", c.args, got)
			}
			return nil
		}), strings.Fields(c.args))
		if c.fails == "" && err != nil || c.fails != "" && (exitCode(err) != exitUsage || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%q: %v", c.args, err)
		}
	}
}

func TestTokenize(t *testing.T) {
	file := write(t, "text.txt", "Hel")
	for _, r := range []run{
		{name: "ids", args: []string{"tokenize", "--json", "Hello</s>"}, out: `{"ids":[1,445,289,4017,2],"count":5}` + "\n"},
		{name: "no marks", args: []string{"tokenize", "--json", "--no-bos", "Hello"}, out: `{"ids":[445,289,4017],"count":3}` + "\n"},
		{name: "special as text", args: []string{"tokenize", "--json", "--no-bos", "--no-special", "</s>"}, out: `{"ids":[4013,63,50,4021,65],"count":5}` + "\n"},
		{name: "a file and a text", args: []string{"tokenize", "--json", "-f", file, "lo"}, out: `{"ids":[1,445,289,4017],"count":4}` + "\n"},
		{name: "standard input", args: []string{"tokenize", "--json", "-f", "-"}, in: "Hello", out: `{"ids":[1,445,289,4017],"count":4}` + "\n"},
		{name: "nothing", args: []string{"tokenize", "--json", "--no-bos", ""}, out: `{"ids":[],"count":0}` + "\n"},
		{name: "a list", args: []string{"tokenize", "Hello"}, out: "      1  <s>\n    445  \" He\"\n    289  \"ll\"\n   4017  \"o\"\n", err: []string{"4 tokens"}},
		{name: "no such file", args: []string{"tokenize", "-f", file + ".no"}, code: exitFailed, err: []string{"text.txt.no"}},
	} {
		r.test(t)
	}
}
