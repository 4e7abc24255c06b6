package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestCompletion(t *testing.T) {
	_, env := newHub(t)
	(&run{name: "pull", args: []string{"pull", fableRepo, "--draft", draftRepo}, env: env, any: true}).test(t)
	for _, c := range []struct {
		args []string
		want []string
		file bool // whether shells go on with files
	}{
		{[]string{"generate", "--spec", ""}, []string{"auto", "plain", "ngram", "draft", "stream", "retrieval", "triforce"}, false},
		{[]string{"chat", "-m", ""}, []string{fableRepo + ":Q8_0", draftRepo + ":Q8_0"}, true},
		{[]string{"chat", "-m", "ORG/fable-d"}, []string{draftRepo + ":Q8_0"}, true},
		{[]string{"bench", "-d", "n"}, []string{"none"}, true},
		{[]string{"generate", "-m", "./"}, nil, true},
		{[]string{"serve", "--kv-type", ""}, []string{"q8_0", "f16", "f32"}, false},
		{[]string{"bench", "--modes", "plain,ng"}, []string{"plain,ngram"}, false},
		{[]string{"bench", "--modes", "ngram,n"}, nil, false},
		{[]string{"pull", "smollm2-"}, []string{"smollm2-135m"}, false},
		{[]string{"pull", "org/fable-G"}, []string{fableRepo + ":Q8_0"}, false},
		{[]string{"pull", "smollm2", ""}, nil, false},
		{[]string{"list", ""}, nil, false},
	} {
		w := (&run{name: strings.Join(c.args, " "), args: append([]string{cobra.ShellCompRequestCmd}, c.args...), env: env, any: true}).test(t)
		lines := strings.Split(strings.TrimSpace(w.out.String()), "\n")
		var got []string
		for _, line := range lines[:len(lines)-1] {
			name, _, _ := strings.Cut(line, "\t")
			got = append(got, name)
		}
		if file := lines[len(lines)-1] == ":0"; !slices.Equal(got, c.want) || file != c.file {
			t.Errorf("%v: %q, files %v; expected %q, %v", c.args, got, file, c.want, c.file)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		w := (&run{name: shell, args: []string{"completion", shell}, env: env, any: true}).test(t)
		if !strings.Contains(w.out.String(), "triforce") {
			t.Errorf("%s: %q", shell, w.out.String())
		}
	}
}

// TestMan writes a page for each command that people see.
func TestMan(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man1")
	(&run{name: "man", args: []string{"man", dir}, err: []string{dir}}).test(t)
	for _, cmd := range newRoot(newWorld("", nil).System).Commands() {
		data, err := os.ReadFile(filepath.Join(dir, "triforce-"+cmd.Name()+".1"))
		switch {
		case cmd.Hidden:
			if err == nil {
				t.Errorf("%s is hidden but has a page", cmd.Name())
			}
		case err != nil:
			t.Error(err)
		case !strings.Contains(string(data), strings.ReplaceAll(cmd.Short, "-", `\-`)) && !strings.Contains(string(data), cmd.Short):
			t.Errorf("the page of %s does not say %q", cmd.Name(), cmd.Short)
		}
	}
	(&run{name: "no folder", args: []string{"man"}, code: exitUsage, err: []string{"DIR"}}).test(t)
	(&run{name: "not a folder", args: []string{"man", write(t, "x", "")}, code: exitFailed, err: []string{"man: "}}).test(t)
}
