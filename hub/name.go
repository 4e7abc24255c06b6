package hub

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Name says which model of the hub is meant.
type Name struct {
	Repo     string // ORG/REPO
	Quant    string // such as Q4_K_M, "safetensors", or "" for the usual one
	File     string // a file of the repository, instead of Quant
	Revision string // branch, tag or commit; "" is main
}

// repoPart is what the hub allows in names.
const repoPart = `[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?`

var (
	repoPattern     = regexp.MustCompile(`^` + repoPart + `(?:/` + repoPart + `)?$`)
	quantPattern    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,40}$`)
	revisionPattern = regexp.MustCompile(`^[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*$`)
)

// Parse reads ORG/REPO[:QUANT][@REVISION] or ORG/REPO/FILE.gguf[@REVISION],
// after hf.co/, hf: or the address of the hub's page if there is one. Errors
// wrap ErrName.
func Parse(text string) (Name, error) {
	var n Name
	rest := text
	for _, prefix := range []string{"https://", "hf://", "huggingface.co/", "hf.co/"} {
		rest = strings.TrimPrefix(rest, prefix)
	}
	fail := func(what string) (Name, error) {
		return Name{}, fmt.Errorf("%q: %w: %s; expected ORG/REPO, ORG/REPO:QUANT or ORG/REPO/FILE.gguf", text, ErrName, what)
	}
	var ok bool
	if rest, n.Revision, ok = strings.Cut(rest, "@"); ok && !validRevision(n.Revision) {
		return fail(fmt.Sprintf("the revision %q", n.Revision))
	}
	if rest, n.Quant, ok = strings.Cut(rest, ":"); ok && !quantPattern.MatchString(n.Quant) {
		return fail(fmt.Sprintf("the quantization %q", n.Quant))
	}
	n.Repo = rest
	if parts := strings.SplitN(rest, "/", 3); len(parts) == 3 {
		n.Repo, n.File = parts[0]+"/"+parts[1], parts[2]
		if n.Quant != "" || !validFile(n.File) || !strings.HasSuffix(n.File, ".gguf") {
			return fail(fmt.Sprintf("the file %q", n.File))
		}
	}
	if !repoPattern.MatchString(n.Repo) || strings.Contains(n.Repo, "--") || strings.Contains(n.Repo, "..") {
		return fail(fmt.Sprintf("the repository %q", n.Repo))
	}
	return n, nil
}

// String is a text that Parse reads.
func (n Name) String() string {
	s := n.Repo
	switch {
	case n.File != "":
		s += "/" + n.File
	case n.Quant != "":
		s += ":" + n.Quant
	}
	if n.Revision != "" {
		s += "@" + n.Revision
	}
	return s
}

func (n Name) revision() string {
	if n.Revision == "" {
		return "main"
	}
	return n.Revision
}

func validRevision(r string) bool {
	return revisionPattern.MatchString(r) && validFile(r)
}

// validFile reports whether a path from outside stays within its folder, on any
// system, and does nothing to a terminal.
func validFile(p string) bool {
	if p == "" || path.IsAbs(p) || path.Clean(p) != p || strings.ContainsAny(p, "\\:") || strings.ContainsFunc(p, unicode.IsControl) || !utf8.ValidString(p) {
		return false
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." || part == "." {
			return false
		}
	}
	return true
}
