package hub

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// file is one of a repository.
type file struct {
	path string
	size int64
	hash string // SHA-256 if it has 64 digits, else git's
}

// entry is a file as the hub lists it.
type entry struct {
	Type, Path, OID string
	Size            int64
	LFS             *struct {
		OID  string
		Size int64
	}
}

// file checks what the hub says.
func (e *entry) file() (file, error) {
	f := file{e.Path, e.Size, e.OID}
	if e.LFS != nil {
		f.size, f.hash = e.LFS.Size, strings.TrimPrefix(e.LFS.OID, "sha256:")
	}
	if !validFile(f.path) || f.size < 0 || !hexHash.MatchString(f.hash) || e.LFS != nil && len(f.hash) != 64 {
		return file{}, fmt.Errorf("an entry that makes no sense: path %.80q, size %d, hash %.80q", f.path, f.size, f.hash)
	}
	return f, nil
}

var (
	hexHash   = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)
	hexCommit = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// commit asks which commit a revision is.
func (h *Hub) commit(ctx context.Context, n Name) (string, error) {
	if hexCommit.MatchString(n.Revision) {
		return n.Revision, nil
	}
	var answer struct {
		SHA string `json:"sha"`
	}
	address := h.Endpoint + "/api/models/" + n.Repo + "/revision/" + url.PathEscape(n.revision())
	if _, err := h.list(ctx, address, &answer); err != nil {
		return "", err
	}
	if !hexCommit.MatchString(answer.SHA) {
		return "", fmt.Errorf("hub: %s: expected a commit, found %.80q; check HF_ENDPOINT", address, answer.SHA)
	}
	return answer.SHA, nil
}

// maxFiles and maxPages bound what a listing may make us keep.
const (
	maxFiles = 100_000
	maxPages = 1000
)

// tree lists the files of a commit.
func (h *Hub) tree(ctx context.Context, n Name, commit string) (map[string]file, error) {
	files := map[string]file{}
	address := h.Endpoint + "/api/models/" + n.Repo + "/tree/" + commit + "?recursive=true&expand=false"
	for page := 0; address != ""; page++ {
		var entries []entry
		next, err := h.list(ctx, address, &entries)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if e.Type != "file" {
				continue
			}
			f, err := e.file()
			if err != nil {
				return nil, fmt.Errorf("hub: %s: %w", n.Repo, err)
			}
			files[f.path] = f
		}
		if len(files) > maxFiles || page == maxPages {
			return nil, fmt.Errorf("hub: %s: more than %d files or %d pages", n.Repo, maxFiles, maxPages)
		}
		address = next
	}
	return files, nil
}
