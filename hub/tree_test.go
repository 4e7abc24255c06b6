package hub

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	sha1Of   = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	sha256Of = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

func TestEntry(t *testing.T) {
	for text, want := range map[string]file{
		`{"path":"a.json","size":3,"oid":"` + sha1Of + `"}`:                                                       {"a.json", 3, sha1Of},
		`{"path":"s/b.gguf","size":130,"oid":"` + sha1Of + `","lfs":{"oid":"` + sha256Of + `","size":9}}`:         {"s/b.gguf", 9, sha256Of},
		`{"path":"b.gguf","size":9,"oid":"` + sha1Of + `","lfs":{"oid":"sha256:` + sha256Of + `","size":9}}`:      {"b.gguf", 9, sha256Of},
		`{"path":"../b","size":9,"oid":"` + sha1Of + `"}`:                                                         {},
		`{"path":"/b","size":9,"oid":"` + sha1Of + `"}`:                                                           {},
		`{"path":"a/../../b","size":9,"oid":"` + sha1Of + `"}`:                                                    {},
		`{"path":"a\\b","size":9,"oid":"` + sha1Of + `"}`:                                                         {},
		`{"path":"a\u001b[2J","size":9,"oid":"` + sha1Of + `"}`:                                                   {},
		`{"path":"b","size":-9,"oid":"` + sha1Of + `"}`:                                                           {},
		`{"path":"b","size":9,"oid":"../../x"}`:                                                                   {},
		`{"path":"b","size":9,"oid":""}`:                                                                          {},
		`{"path":"b","size":9,"oid":"` + sha1Of + `","lfs":{"oid":"` + sha1Of + `","size":9}}`:                    {},
		`{"path":"b","size":9,"oid":"` + sha1Of + `","lfs":{"oid":"` + strings.ToUpper(sha256Of) + `","size":9}}`: {},
	} {
		var e entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if got, err := e.file(); got != want || (err == nil) != (want != file{}) {
			t.Errorf("%s: %+v, %v; expected %+v", text, got, err, want)
		}
	}
}

// FuzzEntry lets no listing lead out of a repository's folder.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(`{"path":"s/b.gguf","size":130,"oid":"` + sha1Of + `","lfs":{"oid":"` + sha256Of + `","size":9}}`))
	f.Add([]byte(`{"path":"../../b","size":1,"oid":"` + sha1Of + `"}`))
	h := &Hub{Cache: filepath.FromSlash("/cache")}
	f.Fuzz(func(t *testing.T, data []byte) {
		var e entry
		if json.Unmarshal(data, &e) != nil {
			return
		}
		got, err := e.file()
		if err != nil {
			return
		}
		for _, p := range []string{
			filepath.Join(h.folder("a/b"), "snapshots", sha1Of, filepath.FromSlash(got.path)),
			filepath.Join(h.folder("a/b"), "blobs", got.hash),
		} {
			if !strings.HasPrefix(p, h.folder("a/b")+string(filepath.Separator)) {
				t.Errorf("%s leads to %s", data, p)
			}
		}
		if slices.Contains(strings.Split(got.path, "/"), "..") { // though names such as "..b" are fine
			t.Errorf("%s goes up: %s", data, got.path)
		}
		if got.size < 0 || got.newHash() == nil {
			t.Errorf("%+v", got)
		}
		variants([]string{got.path, "config.json"})
	})
}
