package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// world is a System over buffers.
type world struct {
	*System
	out, err bytes.Buffer
}

func newWorld(in string, env map[string]string) *world {
	w := &world{}
	w.System = &System{
		In: strings.NewReader(in), Out: &w.out, Err: &w.err,
		Getenv: func(key string) string { return env[key] },
		Now:    func() time.Time { return time.Date(2024, 3, 9, 0, 0, 0, 0, time.UTC) },
	}
	return w
}

// parse runs a command up to its run function.
func parse(cmd *cobra.Command, args []string) error {
	cmd.SetArgs(args)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	return cmd.ExecuteContext(context.Background())
}

// run is a row of a table of whole commands.
type run struct {
	name string
	args []string
	in   string
	env  map[string]string
	code int
	out  string // of standard output, exactly, unless any is set
	any  bool
	err  []string // parts of standard error
}

func (r *run) test(t *testing.T) *world {
	t.Helper()
	w := newWorld(r.in, r.env)
	code := Run(context.Background(), r.args, w.System)
	if code != r.code {
		t.Errorf("%s: exit code %d, expected %d; %s", r.name, code, r.code, w.err.String())
	}
	if !r.any && w.out.String() != r.out {
		t.Errorf("%s: output\n%q, expected\n%q", r.name, w.out.String(), r.out)
	}
	for _, part := range r.err {
		if !strings.Contains(w.err.String(), part) {
			t.Errorf("%s: %q on standard error, expected %q in it", r.name, w.err.String(), part)
		}
	}
	return w
}

// decode reads the one JSON object on standard output.
func (w *world) decode(t *testing.T, into any) {
	t.Helper()
	if strings.Count(w.out.String(), "\n") != 1 {
		t.Errorf("expected one line, got %q", w.out.String())
	}
	d := json.NewDecoder(&w.out)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// write makes a file for a test.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRoot(t *testing.T) {
	for _, r := range []run{
		{name: "nothing", any: true},
		{name: "help", args: []string{"--help"}, any: true},
		{name: "help of a command", args: []string{"generate", "--help"}, any: true},
		{name: "no such command", args: []string{"generat"}, code: exitUsage, err: []string{`no command "generat"`, `did you mean "generate"?`, "Try 'triforce --help'."}},
		{name: "no such flag", args: []string{"generate", "--speed"}, code: exitUsage, err: []string{"unknown flag: --speed", "Try 'triforce generate --help'."}},
		{name: "a bad value", args: []string{"generate", "-n", "many"}, code: exitUsage, err: []string{"many"}},
		{name: "too many arguments", args: []string{"version", "2"}, code: exitUsage, err: []string{"triforce: "}},
	} {
		w := r.test(t)
		if r.any && !strings.Contains(w.out.String(), "triforce generate -m model.gguf") {
			t.Errorf("%s: no examples in %q", r.name, w.out.String())
		}
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -123456: "-123,456"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s, expected %s", n, got, want)
		}
	}
}
