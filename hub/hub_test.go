package hub

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"triforce/internal/testutil/hubtest"
)

const repo = "org/some-model-GGUF"

// noise is bytes of a file, the same in every run.
func noise(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 7))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

var (
	weights = noise(300_000)
	card    = []byte("# A model\n")
)

// rig is a hub with a model, and a client with an empty cache that does not
// really wait.
type rig struct {
	*Hub
	server *hubtest.Server
	waits  []time.Duration
	notes  []string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{server: hubtest.New(t)}
	r.server.Add(repo, "model-Q4_K_M.gguf", weights)
	r.server.Add(repo, "model-Q8_0.gguf", noise(2000))
	r.server.Add(repo, "README.md", card)
	env := map[string]string{"HF_HUB_CACHE": t.TempDir(), "HF_ENDPOINT": r.server.URL + "/", "HF_TOKEN": "hf_secret\n"}
	r.Hub = New(func(key string) string { return env[key] })
	var mu sync.Mutex
	r.sleep = func(ctx context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		r.waits = append(r.waits, d)
		return ctx.Err()
	}
	r.Note = func(text string) { r.notes = append(r.notes, text) }
	return r
}

func (r *rig) pull(t *testing.T, name string) (*Model, error) {
	t.Helper()
	n, err := Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return r.Pull(context.Background(), n)
}

// whole says that the model is there, and what it should be.
func whole(t *testing.T, m *Model, err error, want []byte) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(m.Path); err != nil || !bytes.Equal(data, want) {
		t.Errorf("%s: %d bytes, %v; expected %d others", m.Path, len(data), err, len(want))
	}
}

// absent says that nothing became a model: no blob, no snapshot, no branch.
func (r *rig) absent(t *testing.T) {
	t.Helper()
	for _, sub := range []string{"snapshots", "refs"} {
		if _, err := os.Stat(filepath.Join(r.folder(repo), sub)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there: %v", sub, err)
		}
	}
	blobs, _ := filepath.Glob(filepath.Join(r.folder(repo), "blobs", "*"))
	for _, b := range blobs {
		if !strings.HasSuffix(b, ".incomplete") {
			t.Errorf("blob %s is there", b)
		}
	}
	if list, err := r.List(); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestPull(t *testing.T) {
	r := newRig(t)
	m, err := r.pull(t, repo)
	whole(t, m, err, weights)
	if m.Name.Quant != "Q4_K_M" || m.Bytes != int64(len(weights)) {
		t.Errorf("%+v", m)
	}
	link, err := os.Readlink(m.Path)
	if want := filepath.Join("..", "..", "blobs", hubtest.Hash(weights)); err != nil || link != want {
		t.Errorf("%s points to %q, %v; expected %q", m.Path, link, err, want)
	}
	if data, err := os.ReadFile(filepath.Join(r.folder(repo), "refs", "main")); err != nil || string(data) != r.server.Commit {
		t.Errorf("refs/main is %q, %v", data, err)
	}
	for _, q := range r.server.Requests() {
		if (q.Token != "") != (q.Host == "hub") {
			t.Errorf("%+v: the token is for the hub alone", q)
		}
	}
	before := len(r.server.Requests())
	if _, err := r.pull(t, repo+":q4_k_m"); err != nil {
		t.Fatal(err)
	}
	for _, q := range r.server.Requests()[before:] {
		if !strings.HasPrefix(q.Path, "/api/") {
			t.Errorf("what is there was asked for again: %+v", q)
		}
	}
	found, err := r.Find(Name{Repo: repo})
	if err != nil || found.Path != m.Path {
		t.Errorf("%+v, %v", found, err)
	}
	m, err = r.pull(t, repo+"/model-Q8_0.gguf")
	whole(t, m, err, noise(2000))
	list, err := r.List()
	if err != nil || len(list) != 2 || list[0].Name.String() != repo+":Q4_K_M" || list[1].Name.String() != repo+":Q8_0" {
		t.Errorf("%v, %v", list, err)
	}
}

// TestFaults pulls through everything that may pass.
func TestFaults(t *testing.T) {
	const name = "model-Q4_K_M.gguf"
	for _, c := range []struct {
		name   string
		path   string
		faults []hubtest.Fault
		waits  []time.Duration
		notes  string
		ranges []string // of the requests for the bytes
	}{
		{name: "none", path: name, ranges: []string{""}},
		{name: "cut connections", path: name, faults: []hubtest.Fault{{Cut: 100_000}, {Cut: 1}, {Cut: 99_999}}, notes: "cut off after 100000 of 300000",
			waits: []time.Duration{time.Second, time.Second, time.Second}, ranges: []string{"", "bytes=100000-", "bytes=100001-", "bytes=200000-"}},
		{name: "errors of the server", path: name, faults: []hubtest.Fault{{Status: 500}, {Status: 503}, {Status: 502}}, notes: "503",
			waits: []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}, ranges: []string{"", "", "", ""}},
		{name: "slow down", path: name, faults: []hubtest.Fault{{Status: 429, RetryAfter: "17"}}, notes: "429",
			waits: []time.Duration{17 * time.Second}, ranges: []string{"", ""}},
		{name: "slow down, listing", path: "", faults: []hubtest.Fault{{Status: 429, RetryAfter: "3"}, {Status: 429}}, notes: "429",
			waits: []time.Duration{3 * time.Second, 2 * time.Second}, ranges: []string{""}},
		{name: "no ranges", path: name, faults: []hubtest.Fault{{Cut: 100_000}, {NoRange: true}}, notes: "cut off",
			waits: []time.Duration{time.Second}, ranges: []string{"", "bytes=100000-"}},
		{name: "silence", path: name, faults: []hubtest.Fault{{Stall: time.Minute}}, notes: "sends nothing",
			waits: []time.Duration{time.Second}, ranges: []string{"", "bytes=1-"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.stall = 2 * time.Second
			r.server.Fail(c.path, c.faults...)
			m, err := r.pull(t, repo)
			whole(t, m, err, weights)
			if !slices.Equal(r.waits, c.waits) {
				t.Errorf("waited %v, expected %v", r.waits, c.waits)
			}
			if all := strings.Join(r.notes, "\n"); !strings.Contains(all, c.notes) {
				t.Errorf("notes %q, expected %q among them", all, c.notes)
			}
			var ranges []string
			for _, q := range r.server.Requests() {
				if q.Host == "storage" {
					ranges = append(ranges, q.Range)
				}
			}
			if !slices.Equal(ranges, c.ranges) {
				t.Errorf("asked for %q, expected %q", ranges, c.ranges)
			}
		})
	}
}

// TestPartFromBefore goes on with what an earlier download left, even if that
// is wrong or too long.
func TestPartFromBefore(t *testing.T) {
	for _, c := range []struct {
		name   string
		part   []byte
		ranges []string
	}{
		{"right", weights[:250_000], []string{"bytes=250000-"}},
		{"whole", weights, nil},
		{"wrong", []byte("wrong"), []string{"bytes=5-", ""}},
		{"whole and wrong", append([]byte{weights[0] ^ 1}, weights[1:]...), []string{""}},
		{"too long", append(slices.Clone(weights), 0), []string{""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.putBlob(t, hubtest.Hash(weights)+".incomplete", c.part)
			m, err := r.pull(t, repo)
			whole(t, m, err, weights)
			var ranges []string
			for _, q := range r.server.Requests() {
				if q.Host == "storage" {
					ranges = append(ranges, q.Range)
				}
			}
			if !slices.Equal(ranges, c.ranges) {
				t.Errorf("asked for %q, expected %q", ranges, c.ranges)
			}
		})
	}
}

func (r *rig) putBlob(t *testing.T, name string, data []byte) {
	t.Helper()
	path := filepath.Join(r.folder(repo), "blobs", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedBlob finds out that what is in the cache is not what its name says.
func TestDamagedBlob(t *testing.T) {
	r := newRig(t)
	r.putBlob(t, hubtest.Hash(weights), append([]byte{weights[0] ^ 1}, weights[1:]...))
	m, err := r.pull(t, repo)
	whole(t, m, err, weights)
	if len(r.notes) != 1 || !strings.Contains(r.notes[0], "expected hash") {
		t.Errorf("%q", r.notes)
	}
}

// TestFailures pulls through what cannot pass: there must be a good error, and
// nothing that looks like a model.
func TestFailures(t *testing.T) {
	const name = "model-Q4_K_M.gguf"
	five := func(f hubtest.Fault) []hubtest.Fault { return []hubtest.Fault{f, f, f, f, f} }
	for _, c := range []struct {
		name   string
		change func(r *rig)
		pull   string
		want   error
		says   []string
		left   bool // something to go on with
	}{
		{"a wrong hash", func(r *rig) { r.server.Fail(name, hubtest.Fault{Flip: true}) }, repo, ErrCorrupt,
			[]string{name, "expected hash " + hubtest.Hash(weights), "not kept"}, false},
		{"a wrong hash after a cut", func(r *rig) {
			r.server.Fail(name, hubtest.Fault{Cut: 10}, hubtest.Fault{Flip: true}, hubtest.Fault{Flip: true})
		}, repo, ErrCorrupt,
			[]string{"expected hash"}, false},
		{"a shorter file", func(r *rig) { r.server.Fail(name, hubtest.Fault{Size: 299_999}) }, repo, ErrCorrupt, []string{"expected 300000 bytes, the server sends 299999"}, false},
		{"a longer file", func(r *rig) { r.server.Fail(name, hubtest.Fault{Size: 300_001}) }, repo, ErrCorrupt, []string{"expected 300000 bytes"}, false},
		{"cut off at once, again and again", func(r *rig) {
			r.server.Fail(name, append([]hubtest.Fault{{Cut: 5}}, five(hubtest.Fault{Status: 500})...)...)
		}, repo, nil, []string{"500", "5 attempts"}, true},
		{"an error without end", func(r *rig) { r.server.Fail(name, five(hubtest.Fault{Status: 503})...) }, repo, nil, []string{"503", "5 attempts"}, true},
		{"slow down for hours", func(r *rig) { r.server.Fail(name, hubtest.Fault{Status: 429, RetryAfter: "7200"}) }, repo, nil, []string{"429", "come back in 2h"}, true},
		{"no token", func(r *rig) { r.server.Token, r.Token = "x", "" }, repo, ErrDenied, []string{"set HF_TOKEN"}, false},
		{"a wrong token", func(r *rig) { r.server.Token = "x" }, repo, ErrDenied, []string{"this token may not"}, false},
		{"terms", func(r *rig) { r.server.Fail("", hubtest.Fault{Status: 403, Code: "GatedRepo"}) }, repo, ErrDenied, []string{"accept the model's terms"}, false},
		{"the storage refuses", func(r *rig) { r.server.Fail(name, hubtest.Fault{Status: 403}) }, repo, ErrDenied, []string{"403"}, true},
		{"no such model", func(*rig) {}, "org/other", ErrNotFound, []string{"no such model"}, false},
		{"no such revision", func(*rig) {}, repo + "@v2", ErrNotFound, []string{"no such revision"}, false},
		{"no such quantization", func(*rig) {}, repo + ":Q2_K", ErrNotFound, []string{repo + ":Q4_K_M, " + repo + ":Q8_0"}, false},
		{"no such file", func(*rig) {}, repo + "/x.gguf", ErrNotFound, []string{"x.gguf"}, false},
		{"offline", func(r *rig) { r.Offline = true }, repo, ErrOffline, []string{"HF_HUB_OFFLINE"}, false},
		{"no hub", func(r *rig) { r.Endpoint = "http://127.0.0.1:1" }, repo, nil, []string{"refused", "5 attempts"}, false},
		{"not an address", func(r *rig) { r.Endpoint = "hub" }, repo, nil, []string{"HF_ENDPOINT"}, false},
		{"another server", func(r *rig) { r.Endpoint = r.server.Storage }, repo, ErrDenied, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			c.change(r)
			m, err := r.pull(t, c.pull)
			if err == nil {
				t.Fatalf("got %+v", m)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v: expected it to be %v", err, c.want)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v: expected %q in it", err, part)
				}
			}
			if strings.Contains(err.Error(), "hf_secret") || strings.Contains(err.Error(), "signature") {
				t.Errorf("%v: has a secret in it", err)
			}
			r.absent(t)
			parts, _ := filepath.Glob(filepath.Join(r.Cache, "*", "blobs", "*"))
			if c.left != (len(parts) > 0) {
				t.Errorf("left %q", parts)
			}
		})
	}
}

// TestInterrupted goes on after a cancellation.
func TestInterrupted(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(context.Background())
	r.server.Fail("model-Q4_K_M.gguf", hubtest.Fault{Cut: 123_456})
	r.sleep = func(context.Context, time.Duration) error { cancel(); return ctx.Err() }
	if _, err := r.Pull(ctx, Name{Repo: repo}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.absent(t)
	m, err := r.pull(t, repo)
	whole(t, m, err, weights)
	requests := r.server.Requests()
	if last := requests[len(requests)-1]; last.Range != "bytes=123456-" {
		t.Errorf("%+v", last)
	}
}

// TestTwoAtOnce lets two programs pull the same.
func TestTwoAtOnce(t *testing.T) {
	r := newRig(t)
	var wg sync.WaitGroup
	for range 2 {
		h := *r.Hub
		h.Note = nil
		wg.Go(func() {
			if _, err := h.Pull(context.Background(), Name{Repo: repo}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sent := 0
	for _, q := range r.server.Requests() {
		if q.Host == "storage" {
			sent++
		}
	}
	if sent != 1 {
		t.Errorf("sent %d times", sent)
	}
}

// TestTokenOrigin keeps the token from every other origin.
func TestTokenOrigin(t *testing.T) {
	r := newRig(t)
	r.server.Token = "hf_secret"
	m, err := r.pull(t, repo)
	whole(t, m, err, weights) // the listing's pages need it on each request
	for _, q := range r.server.Requests() {
		if q.Host == "storage" && q.Token != "" {
			t.Errorf("%+v", q)
		}
	}
}

func TestParts(t *testing.T) {
	r := newRig(t)
	for _, p := range []string{"Q8_0/big-Q8_0-00001-of-00002.gguf", "Q8_0/big-Q8_0-00002-of-00002.gguf"} {
		r.server.Add("org/big", p, noise(len(p)*100))
	}
	m, err := r.pull(t, "org/big")
	if err != nil || len(m.Files) != 2 || !strings.HasSuffix(m.Path, filepath.FromSlash("Q8_0/big-Q8_0-00001-of-00002.gguf")) {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(m.Path), "big-Q8_0-00002-of-00002.gguf")); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(filepath.Dir(m.Path), "big-Q8_0-00002-of-00002.gguf")); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Find(Name{Repo: "org/big"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("half a model was found: %+v, %v", m, err)
	}
}

func TestFolder(t *testing.T) {
	r := newRig(t)
	for _, f := range []string{"config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
		"model.safetensors.index.json", "consolidated.safetensors", "pytorch_model.bin", "onnx/model.onnx"} {
		r.server.Add("org/folder", f, noise(len(f)*50))
	}
	m, err := r.pull(t, "org/folder")
	if err != nil || len(m.Files) != 5 || m.Name.String() != "org/folder:safetensors" {
		t.Fatalf("%+v, %v", m, err)
	}
	entries, _ := os.ReadDir(m.Path)
	if len(entries) != 5 {
		t.Errorf("%v", entries)
	}
	if again, err := r.Find(Name{Repo: "org/folder", Quant: "SafeTensors"}); err != nil || again.Path != m.Path {
		t.Errorf("%+v, %v", again, err)
	}
}

// TestOlderSnapshot finds what was pulled before the branch moved on.
func TestOlderSnapshot(t *testing.T) {
	r := newRig(t)
	if _, err := r.pull(t, repo+":Q8_0"); err != nil {
		t.Fatal(err)
	}
	r.server.Commit = strings.Repeat("ab", 20)
	if _, err := r.pull(t, repo+":Q4_K_M"); err != nil {
		t.Fatal(err)
	}
	for _, quant := range []string{"Q8_0", "Q4_K_M", ""} {
		if m, err := r.Find(Name{Repo: repo, Quant: quant}); err != nil {
			t.Error(quant, err)
		} else if quant == "" && m.Name.Quant != "Q4_K_M" {
			t.Errorf("%+v", m)
		}
	}
	if list, err := r.List(); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// TestProgress is told of every byte, those of before too.
func TestProgress(t *testing.T) {
	r := newRig(t)
	last := int64(-1)
	r.Progress = func(file string, done, total int64) {
		if file != "model-Q4_K_M.gguf" || total != int64(len(weights)) || done < last || done > total {
			t.Errorf("%s: %d of %d after %d", file, done, total, last)
		}
		last = done
	}
	r.server.Fail("model-Q4_K_M.gguf", hubtest.Fault{Cut: 1000})
	_, err := r.pull(t, repo)
	if err != nil || last != int64(len(weights)) {
		t.Errorf("ended at %d, %v", last, err)
	}
}
