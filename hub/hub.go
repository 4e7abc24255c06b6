// Package hub gets models from a Hugging Face hub and finds those that are on
// this machine, in the cache that other tools share:
//
//	CACHE/models--ORG--REPO/blobs/HASH               contents, by their hash
//	                       /snapshots/COMMIT/FILE    links to them
//	                       /refs/main                the commit of a branch
//	     /.locks/models--ORG--REPO/HASH.lock         one download of a file at a time
//
// A blob's name is its SHA-256 or, for small files, what git calls it; nothing
// gets such a name, and no link points to it, before its bytes have that hash.
// A download that is cut off leaves HASH.incomplete, where the next one goes on.
// Nothing in the cache is ever deleted but files of that name.
//
// A Hub is safe for concurrent use if Progress and Note are.
package hub

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var (
	// ErrName marks a name that is not one of a model.
	ErrName = errors.New("not a model's name")
	// ErrNotFound marks a model, or a part of one, that is not there.
	ErrNotFound = errors.New("not found")
	// ErrDenied marks a model that wants another token, or consent.
	ErrDenied = errors.New("access denied")
	// ErrOffline marks a request that HF_HUB_OFFLINE forbids.
	ErrOffline = errors.New("offline")
	// ErrCorrupt marks a file whose size or hash is not what the hub says.
	ErrCorrupt = errors.New("corrupt download")
	// ErrSpace marks a download that the disk has no room for.
	ErrSpace = errors.New("not enough disk space")
)

// Hub is a server of models and the cache on this machine.
type Hub struct {
	Endpoint string // address of the server, without a slash at the end
	Cache    string // folder
	Token    string // or ""
	Offline  bool   // no requests
	// Progress, if not nil, is told how much of a file is there, in bytes.
	Progress func(file string, done, total int64)
	// Note, if not nil, is told what takes longer than expected.
	Note func(text string)

	client *http.Client
	// stall is how long a server may send nothing, and pause the first of the
	// growing times between attempts.
	stall, pause time.Duration
	sleep        func(context.Context, time.Duration) error
}

// New makes a Hub as the variables of the environment say that tools of the hub
// share: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH,
// HF_HUB_OFFLINE and those that they replaced.
func New(getenv func(string) string) *Hub {
	first := func(keys ...string) string {
		for _, key := range keys {
			if v := strings.TrimSpace(getenv(key)); v != "" {
				return v
			}
		}
		return ""
	}
	path := func(otherwise string, keys ...string) string {
		p := first(keys...)
		if p == "" {
			return otherwise
		}
		if rest, ok := strings.CutPrefix(p, "~"); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
			p = homeFolder(getenv) + rest
		}
		return os.Expand(p, getenv)
	}
	caches := path(filepath.Join(homeFolder(getenv), ".cache"), "XDG_CACHE_HOME")
	home := path(filepath.Join(caches, "huggingface"), "HF_HOME")
	h := &Hub{
		Endpoint: "https://huggingface.co",
		Cache:    path(filepath.Join(home, "hub"), "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"),
		Offline:  truth(first("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")),
		stall:    30 * time.Second, pause: time.Second, sleep: sleep,
	}
	if e := first("HF_ENDPOINT"); e != "" {
		h.Endpoint = strings.TrimRight(e, "/")
	}
	if !truth(first("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		h.Token = first("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
		if h.Token == "" {
			data, _ := os.ReadFile(path(filepath.Join(home, "token"), "HF_TOKEN_PATH"))
			h.Token = strings.TrimSpace(string(data))
		}
	}
	h.client = &http.Client{Transport: http.DefaultTransport, CheckRedirect: h.redirect}
	return h
}

func homeFolder(getenv func(string) string) string {
	if home := getenv("HOME"); home != "" {
		return home
	}
	return getenv("USERPROFILE")
}

// truth reads a variable as other tools do.
func truth(value string) bool {
	switch strings.ToUpper(value) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (h *Hub) note(text string) {
	if h.Note != nil {
		h.Note(text)
	}
}
