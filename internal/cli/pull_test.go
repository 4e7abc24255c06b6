package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triforce/demo"
	"triforce/internal/testutil/hubtest"
	"triforce/internal/testutil/tiny"
)

const (
	fableRepo = "org/fable-GGUF"
	draftRepo = "org/fable-draft-GGUF"
)

// newHub is a hub with the embedded pair, and the environment to find it.
func newHub(t *testing.T) (*hubtest.Server, map[string]string) {
	t.Helper()
	s := hubtest.New(t)
	s.Add(fableRepo, "fable-Q8_0.gguf", demo.Target())
	s.Add(draftRepo, "fable-draft-Q8_0.gguf", demo.Draft())
	return s, map[string]string{"HOME": t.TempDir(), "HF_HUB_CACHE": t.TempDir(), "HF_ENDPOINT": s.URL}
}

// TestPullAndUse pulls a pair, lists it, and generates by name with the draft
// that was recorded.
func TestPullAndUse(t *testing.T) {
	_, env := newHub(t)
	var got pullReport
	(&run{name: "pull", args: []string{"pull", fableRepo, "--draft", draftRepo + ":Q8_0", "--json"}, env: env, any: true}).test(t).decode(t, &got)
	if got.Draft != draftRepo+":Q8_0" || got.Bytes != int64(len(demo.Target())) || !strings.HasSuffix(got.Path, "fable-Q8_0.gguf") {
		t.Fatalf("%+v", got)
	}
	var list listReport
	(&run{name: "list", args: []string{"list", "--json"}, env: env, any: true}).test(t).decode(t, &list)
	if len(list.Models) != 2 || list.Models[0].Name != fableRepo+":Q8_0" || list.Models[0].Draft != got.Draft || list.Models[1].Draft != "" {
		t.Errorf("%+v", list)
	}
	w := (&run{name: "list for people", args: []string{"list"}, env: env, any: true}).test(t)
	if !strings.Contains(w.out.String(), fableRepo+":Q8_0  ") {
		t.Error(w.out.String())
	}
	for _, args := range [][]string{{"--spec", "draft", "--outer-depth", "3"}, {"--spec", "draft", "--outer-depth", "3", "-d", draftRepo}} {
		var r report
		(&run{name: "generate", args: append([]string{"generate", "-m", fableRepo + ":q8_0", "-n", "8", "-t", "1", "--temp", "0", "--json", "Once"}, args...), env: env, any: true}).test(t).decode(t, &r)
		if r.Draft == nil || !strings.HasSuffix(*r.Draft, "fable-draft-Q8_0.gguf") || r.Timings.DraftN == 0 {
			t.Errorf("%v: %+v", args, r)
		}
	}
	(&run{name: "forget", args: []string{"pull", fableRepo, "--draft", "none"}, env: env, any: true}).test(t)
	(&run{name: "no draft", args: []string{"generate", "-m", fableRepo, "--spec", "draft", "x"}, env: env, code: exitUsage, err: []string{"needs a draft"}}).test(t)

	env["HF_HUB_OFFLINE"] = "1"
	(&run{name: "offline", args: []string{"pull", fableRepo}, env: env, out: got.Path + "\n"}).test(t)
}

func TestPullFails(t *testing.T) {
	s, env := newHub(t)
	s.Add("org/other", "model.gguf", []byte(strings.Repeat("GGUF", 500)))
	s.Add("org/stranger", "model.gguf", file(t, tiny.Model(t, tiny.Options{})))
	s.Add("org/damaged", "model.gguf", demo.Draft())
	s.Fail("model.gguf", hubtest.Fault{Flip: true})
	offline := map[string]string{"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": t.TempDir(), "HOME": t.TempDir()}
	for _, r := range []run{
		{name: "a wrong hash", args: []string{"pull", "org/damaged"}, code: exitFile, err: []string{"expected hash", "not kept"}},
		{name: "no name", args: []string{"pull"}, code: exitUsage, err: []string{"NAME"}},
		{name: "a bad name", args: []string{"pull", "a/b/../c"}, code: exitUsage, err: []string{"ORG/REPO:QUANT"}},
		{name: "no such model", args: []string{"pull", "org/none"}, code: exitFailed, err: []string{"no such model"}},
		{name: "no such quantization", args: []string{"pull", fableRepo + ":Q2_K"}, code: exitFailed, err: []string{fableRepo + ":Q8_0"}},
		{name: "not a model", args: []string{"pull", "org/other"}, code: exitFile, err: []string{"gguf", "version"}},
		{name: "another vocabulary", args: []string{"pull", fableRepo, "-d", "org/stranger"}, code: exitUsage, err: []string{"cannot draft for"}},
		{name: "offline", args: []string{"pull", fableRepo}, env: offline, code: exitFailed, err: []string{"HF_HUB_OFFLINE"}},
		{name: "unknown model", args: []string{"generate", "-m", "org/none", "x"}, code: exitFailed, err: []string{"triforce list", "triforce pull"}},
		{name: "unknown draft", args: []string{"generate", "-d", "org/none", "x"}, code: exitFailed, err: []string{"draft", "triforce pull"}},
	} {
		if r.env == nil {
			r.env = env
		}
		r.test(t)
	}
	w := (&run{name: "the one whole model", args: []string{"list"}, env: env, any: true}).test(t)
	if strings.Contains(w.out.String(), "damaged") {
		t.Error(w.out.String())
	}
	(&run{name: "an empty cache", args: []string{"list"}, env: offline, err: []string{"no models in"}}).test(t)
}

func file(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestDamagedRecords says so and goes on.
func TestDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "triforce"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "triforce", "drafts.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	(&run{name: "damaged", args: []string{"list"}, env: map[string]string{"XDG_DATA_HOME": dir, "HF_HUB_CACHE": dir}, err: []string{"drafts.json", "remove the file"}}).test(t)
}
