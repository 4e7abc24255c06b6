package hub

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Model is a model in the cache.
type Model struct {
	Name  Name
	Path  string // what to open: a GGUF file or a folder
	Files []string
	Bytes int64
	Time  time.Time // when the newest of its files came
}

// folder is the place of a repository in the cache.
func (h *Hub) folder(repo string) string { return filepath.Join(h.Cache, folderName(repo)) }
func (h *Hub) locks(repo string) string  { return filepath.Join(h.Cache, ".locks", folderName(repo)) }

func folderName(repo string) string { return "models--" + strings.ReplaceAll(repo, "/", "--") }

// repoName undoes folderName.
func repoName(folder string) (string, bool) {
	name, ok := strings.CutPrefix(folder, "models--")
	name = strings.Replace(name, "--", "/", 1)
	return name, ok && repoPattern.MatchString(name)
}

// Find returns a model of the cache: of the commit that its revision is, or
// else of the newest one that has it. Errors wrap ErrNotFound if it is not
// there.
func (h *Hub) Find(n Name) (*Model, error) {
	var why error
	for _, commit := range h.snapshots(n) {
		m, err := h.inSnapshot(n, commit)
		if err == nil {
			return m, nil
		}
		why = cmp.Or(why, err)
	}
	if why != nil {
		return nil, fmt.Errorf("%w (in %s)", why, h.folder(n.Repo))
	}
	return nil, fmt.Errorf("%s: %w in %s", n, ErrNotFound, h.Cache)
}

// snapshots lists the commits in which to look for n, the best first.
func (h *Hub) snapshots(n Name) []string {
	var commits []string
	if data, err := os.ReadFile(filepath.Join(h.folder(n.Repo), "refs", filepath.FromSlash(n.revision()))); err == nil {
		if c := strings.TrimSpace(string(data)); hexCommit.MatchString(c) {
			commits = append(commits, c)
		}
	}
	if n.Revision != "" {
		if hexCommit.MatchString(n.Revision) {
			commits = append(commits, n.Revision)
		}
		return commits
	}
	entries, _ := os.ReadDir(filepath.Join(h.folder(n.Repo), "snapshots"))
	age := func(e fs.DirEntry) time.Time {
		if info, err := e.Info(); err == nil {
			return info.ModTime()
		}
		return time.Time{}
	}
	slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return age(b).Compare(age(a)) })
	for _, e := range entries {
		if !slices.Contains(commits, e.Name()) && hexCommit.MatchString(e.Name()) {
			commits = append(commits, e.Name())
		}
	}
	return commits
}

// inSnapshot returns the model that n means in a snapshot.
func (h *Hub) inSnapshot(n Name, commit string) (*Model, error) {
	files, err := h.snapshotFiles(n.Repo, commit)
	if err != nil {
		return nil, err
	}
	v, err := choose(n, files)
	if err != nil {
		return nil, err
	}
	return h.model(n.Repo, commit, v)
}

// snapshotFiles lists the files of a snapshot that are really there.
func (h *Hub) snapshotFiles(repo, commit string) ([]string, error) {
	root := filepath.Join(h.folder(repo), "snapshots", commit)
	var files []string
	err := filepath.WalkDir(root, func(at string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if info, err := os.Stat(at); err != nil || !info.Mode().IsRegular() {
			return nil // a link whose blob somebody deleted
		}
		name, err := filepath.Rel(root, at)
		if name = filepath.ToSlash(name); validFile(name) {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	return files, nil
}

// model describes the variant of a snapshot.
func (h *Hub) model(repo, commit string, v variant) (*Model, error) {
	root := filepath.Join(h.folder(repo), "snapshots", commit)
	m := &Model{Name: Name{Repo: repo, Quant: v.quant}, Files: v.files, Path: root}
	if v.quant != Safetensors {
		m.Path = filepath.Join(root, filepath.FromSlash(v.files[0]))
	}
	if v.quant == "" {
		m.Name.File = v.files[0]
	}
	for _, f := range v.files {
		info, err := os.Stat(filepath.Join(root, filepath.FromSlash(f)))
		if err != nil {
			return nil, fmt.Errorf("hub: %w", err)
		}
		m.Bytes += info.Size()
		if info.ModTime().After(m.Time) {
			m.Time = info.ModTime()
		}
	}
	return m, nil
}

// List returns the models in the cache, by name; of several commits the one
// that Find would take.
func (h *Hub) List() ([]Model, error) {
	entries, err := os.ReadDir(h.Cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	var list []Model
	for _, e := range entries {
		repo, ok := repoName(e.Name())
		if !ok {
			continue
		}
		seen := map[string]bool{}
		for _, commit := range h.snapshots(Name{Repo: repo}) {
			files, err := h.snapshotFiles(repo, commit)
			if err != nil {
				return nil, err
			}
			for _, v := range variants(files) {
				m, err := h.model(repo, commit, v)
				if err != nil {
					return nil, err
				}
				if !seen[m.Name.String()] {
					seen[m.Name.String()] = true
					list = append(list, *m)
				}
			}
		}
	}
	return list, nil
}
