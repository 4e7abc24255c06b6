package hub

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oracle runs the Python library that defined the cache, if there is one:
// TRIFORCE_HUB_PYTHON names an interpreter that has huggingface_hub.
func (r *rig) oracle(t *testing.T, args ...string) string {
	t.Helper()
	python := os.Getenv("TRIFORCE_HUB_PYTHON")
	if python == "" {
		t.Skip("TRIFORCE_HUB_PYTHON is not set")
	}
	cmd := exec.Command(python, append([]string{filepath.Join("testdata", "oracle.py")}, args...)...)
	cmd.Env = append(os.Environ(), "HF_ENDPOINT="+r.server.URL, "HF_HUB_CACHE="+r.Cache, "HF_HOME="+t.TempDir(),
		"HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_UPDATE_CHECK=1", "HF_HUB_DISABLE_PROGRESS_BARS=1", "NO_PROXY=*")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// TestOracleFindsOurs: what we pull, the library finds, and does not download
// again.
func TestOracleFindsOurs(t *testing.T) {
	r := newRig(t)
	r.server.Add(repo, "config.json", []byte("{}"))
	m, err := r.pull(t, repo)
	whole(t, m, err, weights)
	if got := r.oracle(t, "find", repo, "model-Q4_K_M.gguf"); got != m.Path {
		t.Errorf("found %s, expected %s", got, m.Path)
	}
	before := len(r.server.Requests())
	if got := r.oracle(t, "download", repo, "model-Q4_K_M.gguf"); got != m.Path {
		t.Errorf("downloaded %s, expected %s", got, m.Path)
	}
	for _, q := range r.server.Requests()[before:] {
		if q.Host == "storage" {
			t.Errorf("downloaded again: %+v", q)
		}
	}
	var scan struct {
		Warnings []string
		Repos    map[string]struct {
			Size  int64
			Refs  map[string]string
			Files []string
		}
	}
	if err := json.Unmarshal([]byte(r.oracle(t, "scan")), &scan); err != nil {
		t.Fatal(err)
	}
	got := scan.Repos[repo]
	if len(scan.Warnings) > 0 || got.Size != int64(len(weights)) || got.Refs["main"] != r.server.Commit || !slices.Equal(got.Files, []string{"model-Q4_K_M.gguf"}) {
		t.Errorf("%+v", scan)
	}
}

// TestWeFindTheOracles: what the library downloads, we find, list, and check
// without downloading it again.
func TestWeFindTheOracles(t *testing.T) {
	r := newRig(t)
	for _, f := range []string{"config.json", "sub/other.txt"} {
		r.server.Add("org/folder", f, []byte(f))
	}
	r.server.Add("org/folder", "model.safetensors", noise(5000))
	path := r.oracle(t, "download", repo, "model-Q8_0.gguf", "README.md")
	path, _, _ = strings.Cut(path, "\n")
	r.oracle(t, "download", "org/folder", "config.json", "model.safetensors", "sub/other.txt")

	m, err := r.Find(Name{Repo: repo})
	if err != nil || m.Path != path || m.Name.Quant != "Q8_0" || m.Bytes != 2000 {
		t.Errorf("%+v, %v; expected %s", m, err, path)
	}
	folder, err := r.Find(Name{Repo: "org/folder"})
	if err != nil || folder.Name.Quant != Safetensors || len(folder.Files) != 2 {
		t.Errorf("%+v, %v", folder, err)
	}
	if list, err := r.List(); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
	before := len(r.server.Requests())
	if _, err := r.Pull(context.Background(), Name{Repo: repo, Quant: "Q8_0"}); err != nil {
		t.Error(err)
	}
	for _, q := range r.server.Requests()[before:] {
		if !strings.HasPrefix(q.Path, "/api/") {
			t.Errorf("downloaded again: %+v", q)
		}
	}
}
