// Package hubtest is a server that speaks the protocol of a Hugging Face hub,
// and misbehaves on demand: for tests of what downloads models. Large files are
// served by a second host, to which the first redirects.
//
// A Server is safe for concurrent use. The bytes of files are not copied.
package hubtest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is a hub with its storage host.
type Server struct {
	URL     string // of the hub
	Storage string // of the host with large files
	Commit  string // the only one of every repository
	Token   string // that repositories want, if not ""

	mu     sync.Mutex
	repos  map[string]map[string]file
	faults map[string][]Fault
	// Requests lists what was asked: method, host ("hub" or "storage"), path,
	// range and whether there was a token.
	requests []Request
}

// Request is one that the server got.
type Request struct {
	Host, Path, Range string
	Token             string
}

type file struct {
	data []byte
	lfs  bool
}

// Fault is what goes wrong with one request for a file's bytes.
type Fault struct {
	Status     int    // answer this instead
	RetryAfter string // with it
	Code       string // X-Error-Code with it
	Cut        int    // close the connection after so many bytes, if not 0
	Flip       bool   // send one wrong byte
	Size       int    // claim and send so many bytes
	NoRange    bool   // ignore ranges
	Stall      time.Duration
}

// Large is the size from which files go to the storage host.
const Large = 1000

// New starts a server that ends with the test.
func New(tb testing.TB) *Server {
	s := &Server{Commit: strings.Repeat("c0ffee42", 5), repos: map[string]map[string]file{}, faults: map[string][]Fault{}}
	hub := httptest.NewServer(http.HandlerFunc(s.hub))
	storage := httptest.NewServer(http.HandlerFunc(s.storage))
	tb.Cleanup(func() { hub.Close(); storage.Close() })
	s.URL, s.Storage = hub.URL, storage.URL
	return s
}

// Add puts a file into a repository.
func (s *Server) Add(repo, path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repos[repo] == nil {
		s.repos[repo] = map[string]file{}
	}
	s.repos[repo][path] = file{data, len(data) >= Large}
}

// Fail makes the next requests for the bytes of a file go wrong, one fault each.
// Path "" is the listing of the repository.
func (s *Server) Fail(path string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = append(s.faults[path], faults...)
}

// Requests returns what was asked so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Hash is the name of a file's blob.
func Hash(data []byte) string {
	if len(data) >= Large {
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:])
	}
	return gitHash(data)
}

func gitHash(data []byte) string {
	sum := sha1.Sum(append(fmt.Appendf(nil, "blob %d\x00", len(data)), data...))
	return hex.EncodeToString(sum[:])
}

// note keeps the request and returns the fault that it meets.
func (s *Server) note(host string, r *http.Request, path string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, Request{host, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization")})
	if list := s.faults[path]; len(list) > 0 && r.Method == http.MethodGet {
		s.faults[path] = list[1:]
		return list[0]
	}
	return Fault{}
}

func (s *Server) file(repo, path string) (file, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.repos[repo][path]
	return f, ok
}

// hub answers listings, small files, and where large ones are.
func (s *Server) hub(w http.ResponseWriter, r *http.Request) {
	if s.Token != "" && r.Header.Get("Authorization") != "Bearer "+s.Token {
		s.note("hub", r, "-")
		fail(w, Fault{Status: http.StatusUnauthorized, Code: "RepoNotFound"})
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/models/"); ok {
		fault := s.note("hub", r, "")
		if fault.Status != 0 {
			fail(w, fault)
			return
		}
		s.listing(w, r, rest)
		return
	}
	repo, rest, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/resolve/")
	_, path, _ := strings.Cut(rest, "/")
	f, there := s.file(repo, path)
	if !ok || !there {
		s.note("hub", r, "-")
		fail(w, Fault{Status: http.StatusNotFound, Code: "EntryNotFound"})
		return
	}
	w.Header().Set("X-Repo-Commit", s.Commit)
	if !f.lfs {
		w.Header().Set("ETag", strconv.Quote(gitHash(f.data)))
		serve(w, r, f.data, s.note("hub", r, path))
		return
	}
	s.note("hub", r, "-")
	w.Header().Set("X-Linked-Etag", strconv.Quote(Hash(f.data)))
	w.Header().Set("X-Linked-Size", strconv.Itoa(len(f.data)))
	http.Redirect(w, r, s.Storage+"/"+repo+"/"+path+"?signature=secret", http.StatusFound)
}

// listing answers what a revision is and what is in it, two files a page.
func (s *Server) listing(w http.ResponseWriter, r *http.Request, path string) {
	const pageFiles = 2
	parts := strings.Split(path, "/")
	if len(parts) < 4 {
		fail(w, Fault{Status: http.StatusNotFound, Code: "RepoNotFound"})
		return
	}
	repo, what, revision := strings.Join(parts[:2], "/"), parts[2], parts[3]
	s.mu.Lock()
	files, ok := s.repos[repo]
	s.mu.Unlock()
	switch {
	case !ok:
		fail(w, Fault{Status: http.StatusNotFound, Code: "RepoNotFound"})
		return
	case revision != "main" && revision != s.Commit:
		fail(w, Fault{Status: http.StatusNotFound, Code: "RevisionNotFound"})
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if what == "revision" {
		_ = json.NewEncoder(w).Encode(map[string]any{"_id": "1", "id": repo, "modelId": repo, "sha": s.Commit, "private": false, "tags": []string{}})
		return
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	at, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	entries := []map[string]any{}
	for _, name := range names[at:min(at+pageFiles, len(names))] {
		f := files[name]
		entry := map[string]any{"type": "file", "path": name, "size": len(f.data), "oid": gitHash(f.data)}
		if f.lfs {
			entry["lfs"] = map[string]any{"oid": Hash(f.data), "size": len(f.data), "pointerSize": 130}
		}
		entries = append(entries, entry)
	}
	if at+pageFiles < len(names) {
		next := *r.URL
		q := next.Query()
		q.Set("cursor", strconv.Itoa(at+pageFiles))
		next.RawQuery = q.Encode()
		w.Header().Set("Link", fmt.Sprintf("<%s%s>; rel=\"next\"", s.URL, next.String()))
	}
	_ = json.NewEncoder(w).Encode(entries)
}

// storage serves large files.
func (s *Server) storage(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	fault := s.note("storage", r, parts[len(parts)-1])
	f, ok := s.file(strings.Join(parts[:2], "/"), parts[len(parts)-1])
	if !ok || r.URL.Query().Get("signature") != "secret" {
		fail(w, Fault{Status: http.StatusForbidden})
		return
	}
	serve(w, r, f.data, fault)
}

func fail(w http.ResponseWriter, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.Code != "" {
		w.Header().Set("X-Error-Code", f.Code)
	}
	w.WriteHeader(f.Status)
}

// serve sends a file, with a fault.
func serve(w http.ResponseWriter, r *http.Request, data []byte, f Fault) {
	switch {
	case f.Status != 0:
		fail(w, f)
		return
	case f.Flip:
		data = slices.Clone(data)
		data[len(data)/2] ^= 1
	case f.Size > 0:
		data = append(slices.Clone(data), make([]byte, f.Size)...)[:f.Size]
	case f.Cut > 0:
		w = &cutter{w, f.Cut}
	case f.Stall > 0:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(data[:1])
		w.(http.Flusher).Flush()
		select {
		case <-time.After(f.Stall):
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	}
	if f.NoRange {
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// cutter closes the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p[:min(len(p), c.left)])
	if c.left -= n; c.left == 0 {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}
