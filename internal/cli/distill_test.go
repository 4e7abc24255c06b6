package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triforce/internal/testutil/tiny"
)

func TestDistillOptions(t *testing.T) {
	for _, c := range []struct {
		args string
		out  string
		fail string
	}{
		{args: "--text a.txt", out: "fable-draft.gguf"},
		{args: "-m dir/model.gguf --self 100", out: "model-draft.gguf"},
		{args: "--text a -o x.gguf --steps 5", out: "x.gguf"},
		{args: "", fail: "nothing to learn from"},
		{args: "--text a --steps 5 --minutes 3", fail: "--minutes has no effect"},
		{args: "--text a --dim 33", fail: "--dim 33"},
		{args: "--text a --minutes -1", fail: "--minutes -1"},
		{args: "--text a --from b.gguf --vocab-head 99", fail: "--vocab-head has no effect with --from"},
	} {
		var got *distillOptions
		err := parse(newDistill(newWorld("", nil).System, func(_ context.Context, o *distillOptions) error {
			got = o
			return nil
		}), strings.Fields(c.args))
		switch {
		case c.fail != "":
			if err == nil || !strings.Contains(err.Error(), c.fail) || exitCode(err) != exitUsage {
				t.Errorf("%s: %v, expected %q", c.args, err, c.fail)
			}
		case err != nil:
			t.Errorf("%s: %v", c.args, err)
		case got.Out != c.out || got.Work != c.out+".work":
			t.Errorf("%s: draft %s, folder %s", c.args, got.Out, got.Work)
		}
	}
}

// A draft that was made belongs to its model from then on.
func TestDistillRecords(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(dir, "model.gguf")
	if err := tiny.WriteFile(model, tiny.Options{Layers: 1}); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(dir, "texts", "a.txt")
	if err := os.MkdirAll(filepath.Dir(text), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte(strings.Repeat("It is the best of the times. ", 900)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "texts", "b.bin"), make([]byte, 100), 0o644); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"XDG_DATA_HOME": dir}
	out := filepath.Join(dir, "draft.gguf")
	s := newWorld("", env)
	if code := Run(t.Context(), strings.Fields("distill -m "+model+" --text "+filepath.Dir(text)+" -o "+out+
		" --dim 32 --vocab-head 100 --steps 2 --labels 6 --batch 1 --json"), s.System); code != exitOK {
		t.Fatalf("exit code %d: %s", code, s.err.String())
	}
	var r struct {
		Steps  int
		Labels int
		Head   int
	}
	if err := json.Unmarshal(s.out.Bytes(), &r); err != nil || r.Steps != 2 || r.Labels != 6*512 || r.Head != 100 {
		t.Errorf("%s: %v", s.out.String(), err)
	}
	s = newWorld("", env)
	if code := Run(t.Context(), strings.Fields("inspect --json -m "+out), s.System); code != exitOK || !strings.Contains(s.out.String(), `"head":100,`) {
		t.Errorf("inspect: %d: %.200s", code, s.out.String())
	}
	s = newWorld("", env)
	if code := Run(t.Context(), strings.Fields("generate --json --raw --spec draft -n 8 -m "+model+" It"), s.System); code != exitOK {
		t.Fatalf("exit code %d: %s", code, s.err.String())
	}
	var g struct{ Draft string }
	if err := json.Unmarshal(s.out.Bytes(), &g); err != nil || g.Draft != out {
		t.Errorf("the draft is %q, expected %q: %v", g.Draft, out, err)
	}
	s = newWorld("", env)
	if code := Run(t.Context(), strings.Fields("distill -m "+model+" --text "+filepath.Dir(text)+" --from "+out+" -o "+out+
		" --steps 1 --labels 6 --batch 1 --json"), s.System); code != exitOK {
		t.Fatalf("exit code %d: %s", code, s.err.String())
	}
	if err := json.Unmarshal(s.out.Bytes(), &r); err != nil || r.Steps != 1 || r.Head != 100 {
		t.Errorf("from the draft: %s: %v", s.out.String(), err)
	}
	s = newWorld("", env)
	if code := Run(t.Context(), strings.Fields("distill -m "+model+" --text "+filepath.Join(dir, "texts", "b.bin")), s.System); code != exitUsage {
		t.Errorf("zero bytes: exit code %d: %s", code, s.err.String())
	}
}
