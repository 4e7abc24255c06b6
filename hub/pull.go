package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Pull brings a model into the cache, or checks the bytes of one that is there,
// and returns it. Interrupted, it goes on where it ended when it is called
// again. Errors wrap those of this package, or are those of network and disk.
func (h *Hub) Pull(ctx context.Context, n Name) (*Model, error) {
	if h.Offline {
		m, err := h.Find(n)
		if err != nil {
			return nil, fmt.Errorf("%w: %w: HF_HUB_OFFLINE is set; unset it to download", err, ErrOffline)
		}
		return m, nil
	}
	commit, err := h.commit(ctx, n)
	if err != nil {
		return nil, err
	}
	tree, err := h.tree(ctx, n, commit)
	if err != nil {
		return nil, err
	}
	var paths []string
	for p := range tree {
		paths = append(paths, p)
	}
	v, err := choose(n, paths)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	if err := h.room(n.Repo, v, tree); err != nil {
		return nil, err
	}
	h.tag()
	for _, p := range v.files {
		if err := h.download(ctx, n.Repo, commit, tree[p]); err != nil {
			return nil, err
		}
	}
	// Only a whole model gets links, and only then may the branch mean it.
	for _, p := range v.files {
		if err := h.link(n.Repo, commit, tree[p]); err != nil {
			return nil, err
		}
	}
	if revision := n.revision(); revision != commit {
		ref := filepath.Join(h.folder(n.Repo), "refs", filepath.FromSlash(revision))
		if err := replace(ref, func(temporary string) error { return os.WriteFile(temporary, []byte(commit), 0o644) }); err != nil {
			return nil, err
		}
	}
	return h.model(n.Repo, commit, v)
}

// room reports a download that the disk cannot hold.
func (h *Hub) room(repo string, v variant, tree map[string]file) error {
	need := int64(0)
	for _, p := range v.files {
		f := tree[p]
		blob := filepath.Join(h.folder(repo), "blobs", f.hash)
		if _, err := os.Stat(blob); err == nil {
			continue
		}
		need += f.size
		if info, err := os.Stat(blob + ".incomplete"); err == nil {
			need -= min(info.Size(), f.size)
		}
	}
	if err := os.MkdirAll(h.Cache, 0o755); err != nil {
		return fmt.Errorf("hub: %w; set HF_HUB_CACHE to a folder that can be written", err)
	}
	free, err := FreeBytes(h.Cache)
	if err == nil && need > free {
		return fmt.Errorf("hub: %w: %d MiB to download, %d MiB free in %s; set HF_HUB_CACHE to another disk", ErrSpace, need>>20, free>>20, h.Cache)
	}
	return nil
}

// tag tells backups that the cache can be made anew. That it fails hurts nobody.
func (h *Hub) tag() {
	f, err := os.OpenFile(filepath.Join(h.Cache, "CACHEDIR.TAG"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		_, _ = f.WriteString("Signature: 8a477f597d28d172789f06886806bc55\n# Models that can be downloaded again.\n")
		_ = f.Close()
	}
}

// link makes a file of a snapshot point to its blob, or be the same file where
// users may not make symbolic links.
func (h *Hub) link(repo, commit string, f file) error {
	blob := filepath.Join(h.folder(repo), "blobs", f.hash)
	at := filepath.Join(h.folder(repo), "snapshots", commit, filepath.FromSlash(f.path))
	if a, err := os.Stat(at); err == nil {
		if b, err := os.Stat(blob); err == nil && os.SameFile(a, b) {
			return nil
		}
	}
	target, err := filepath.Rel(filepath.Dir(at), blob)
	if err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	return replace(at, func(temporary string) error {
		err := os.Symlink(target, temporary)
		if err != nil && os.Link(blob, temporary) == nil {
			err = nil
		}
		return err
	})
}

// replace makes the file at path, at once or not at all; write makes it under
// another name in the same folder.
func replace(path string, write func(temporary string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	temporary := path + "." + rand.Text() + ".tmp"
	err := write(temporary)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("hub: %w", err), ignoreMissing(os.Remove(temporary)))
	}
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
