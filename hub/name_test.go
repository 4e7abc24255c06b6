package hub

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Name{
		"org/repo":                        {Repo: "org/repo"},
		"gpt2":                            {Repo: "gpt2"},
		"org/repo:Q4_K_M":                 {Repo: "org/repo", Quant: "Q4_K_M"},
		"org/repo:q8_0@v1.0":              {Repo: "org/repo", Quant: "q8_0", Revision: "v1.0"},
		"org/repo@refs/pr/3":              {Repo: "org/repo", Revision: "refs/pr/3"},
		"org/re.po-x_1/sub/m.Q8_0.gguf":   {Repo: "org/re.po-x_1", File: "sub/m.Q8_0.gguf"},
		"hf.co/org/repo:Q8_0":             {Repo: "org/repo", Quant: "Q8_0"},
		"https://huggingface.co/org/repo": {Repo: "org/repo"},
		"hf://org/repo/m.gguf@main":       {Repo: "org/repo", File: "m.gguf", Revision: "main"},
	} {
		n, err := Parse(text)
		if err != nil || n != want {
			t.Errorf("%q: %+v, %v; expected %+v", text, n, err, want)
		}
	}
	for _, text := range []string{"", "/", "a/", "/b", "a//b", "../x", "a/..", "a/b/../c.gguf", "a/b/c.bin", "a/b/c.gguf:Q8_0", "a/b:", "a/b@", "a/b@../x",
		"a--b/c", "-a/b", "a/b-", "a b/c", "a/b:Q 8", "C:\\models\\x.gguf", "a/b/c\\d.gguf", "a/b@x/../y", "a/b/c/./d.gguf", "a/b\x00"} {
		if n, err := Parse(text); !errors.Is(err, ErrName) {
			t.Errorf("%q: %+v, %v", text, n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"org/repo:Q4_K_M@main", "a/b/c.gguf", "https://hf.co/a/b", "a/..", "a/b@../c"} {
		f.Add(s)
	}
	h := &Hub{Cache: filepath.FromSlash("/cache")}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := Parse(text)
		if err != nil {
			return
		}
		if again, err := Parse(n.String()); err != nil || again != n {
			t.Errorf("%q is %+v, but %q is %+v, %v", text, n, n, again, err)
		}
		for _, p := range []string{
			filepath.Join(h.folder(n.Repo), "refs", n.revision()),
			filepath.Join(h.folder(n.Repo), "snapshots", n.File),
		} {
			if !strings.HasPrefix(p, filepath.Join(h.Cache, "models--")) || strings.Count(h.folder(n.Repo), string(filepath.Separator)) != 2 {
				t.Errorf("%q leads to %s", text, p)
			}
		}
		if repo, ok := repoName(folderName(n.Repo)); !ok || repo != n.Repo {
			t.Errorf("%q: the folder of %q is that of %q", text, n.Repo, repo)
		}
	})
}

func TestQuantOf(t *testing.T) {
	for stem, want := range map[string]string{
		"model-Q4_K_M": "Q4_K_M", "model.Q8_0": "Q8_0", "smollm2-1.7b-instruct-q4_k_m": "Q4_K_M", "m-IQ4_XS": "IQ4_XS",
		"Q6_K/m-00001": "Q6_K", "m-bf16": "BF16", "m-UD-Q4_K_XL": "Q4_K_XL", "m-Q4_0_4_8": "Q4_0_4_8", "m.f16": "F16",
		"model": "", "Q4-fast-Q5_K_S": "Q5_K_S", "SQ4_K_M": "", "m-Q8_0-v2": "Q8_0", "m-MXFP4": "MXFP4", "m-f16-Q8_0": "Q8_0",
	} {
		if got := quantOf(stem); got != want {
			t.Errorf("%s: %q, expected %q", stem, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	many := []string{"README.md", "m-Q2_K.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-f16.gguf", "m.imatrix.gguf", "m-Q6_K-00001-of-00002.gguf"}
	for _, c := range []struct {
		name  Name
		files []string
		want  string // the first file, or part of the error
	}{
		{Name{}, many, "m-Q4_K_M.gguf"},
		{Name{Quant: "q2_k"}, many, "m-Q2_K.gguf"},
		{Name{Quant: "Q6_K"}, many, "there: r:Q2_K, r:Q4_K_M, r:Q8_0"},
		{Name{File: "m-Q8_0.gguf"}, many, "m-Q8_0.gguf"},
		{Name{File: "mmproj-f16.gguf"}, many, "not found"},
		{Name{}, []string{"a-Q2_K.gguf", "a-Q3_K_S.gguf"}, "there are several, name one: r:Q2_K"},
		{Name{}, []string{"a-Q2_K.gguf", "a-Q8_0.gguf"}, "a-Q8_0.gguf"},
		{Name{}, []string{"odd.gguf"}, "odd.gguf"},
		{Name{Quant: "Q8_0"}, []string{"a-Q8_0.gguf", "b-Q8_0.gguf"}, "r/a-Q8_0.gguf, r/b-Q8_0.gguf"},
		{Name{}, []string{"x.bin"}, "neither"},
		{Name{}, []string{"config.json", "model.safetensors"}, "model.safetensors"},
		{Name{}, []string{"model.safetensors"}, "neither"},
	} {
		c.name.Repo = "r"
		v, err := choose(c.name, c.files)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = v.files[0]
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%v of %v: %q, expected %q", c.name, c.files, got, c.want)
		}
	}
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		env            map[string]string
		cache, address string
		offline        bool
		token          string
	}{
		{map[string]string{"HOME": "/h"}, "/h/.cache/huggingface/hub", "https://huggingface.co", false, ""},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub", "https://huggingface.co", false, ""},
		{map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x", "HF_HOME": "~/hf", "HF_HUB_OFFLINE": "yes"}, "/h/hf/hub", "https://huggingface.co", true, ""},
		{map[string]string{"HF_HOME": "/hf", "HUGGINGFACE_HUB_CACHE": "/old", "HF_ENDPOINT": "http://mirror/"}, "/old", "http://mirror", false, ""},
		{map[string]string{"HF_HUB_CACHE": "$DISK/c", "DISK": "/d", "HUGGINGFACE_HUB_CACHE": "/old", "HF_TOKEN": " t\n"}, "/d/c", "https://huggingface.co", false, "t"},
		{map[string]string{"HF_HUB_CACHE": "/c", "HF_TOKEN": "t", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_HUB_OFFLINE": "0"}, "/c", "https://huggingface.co", false, ""},
		{map[string]string{"HF_HUB_CACHE": "/c", "HUGGING_FACE_HUB_TOKEN": "old"}, "/c", "https://huggingface.co", false, "old"},
	} {
		h := New(func(key string) string { return c.env[key] })
		if filepath.ToSlash(h.Cache) != c.cache || h.Endpoint != c.address || h.Offline != c.offline || h.Token != c.token {
			t.Errorf("%v: cache %s, endpoint %s, offline %v, token %q", c.env, h.Cache, h.Endpoint, h.Offline, h.Token)
		}
	}
}

func TestCatalogue(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range Catalogue() {
		for _, n := range []Name{p.Target, p.Draft} {
			if n == (Name{}) && n == p.Draft {
				continue
			}
			if again, err := Parse(n.String()); err != nil || again != n {
				t.Errorf("%s: %v, %v", p.Name, n, err)
			}
		}
		if seen[p.Name] || strings.Contains(p.Name, "/") || p.About == "" {
			t.Errorf("%+v", p)
		}
		seen[p.Name] = true
		if got, ok := Lookup(strings.ToUpper(p.Name)); !ok || got != p {
			t.Errorf("%+v", got)
		}
	}
	if _, ok := Lookup("no such"); ok {
		t.Error("found what is not there")
	}
}
