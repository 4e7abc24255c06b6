package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// newHash returns what computes the hash of f.
func (f file) newHash() hash.Hash {
	if len(f.hash) == sha256.Size*2 {
		return sha256.New()
	}
	sum := sha1.New()
	fmt.Fprintf(sum, "blob %d\x00", f.size)
	return sum
}

// download makes the blob of f, which is whole and has its hash if there is no
// error.
func (h *Hub) download(ctx context.Context, repo, commit string, f file) error {
	folder := h.folder(repo)
	blob := filepath.Join(folder, "blobs", f.hash)
	for _, dir := range []string{filepath.Dir(blob), h.locks(repo)} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("hub: %w", err)
		}
	}
	lock := flock.New(filepath.Join(h.locks(repo), f.hash+".lock"))
	if ok, err := lock.TryLock(); err == nil && !ok {
		h.note(f.path + ": another program is downloading it; waiting")
		if _, err := lock.TryLockContext(ctx, time.Second/4); err != nil {
			return fmt.Errorf("hub: waiting for %s: %w", lock.Path(), err)
		}
	}
	defer lock.Unlock()

	if err := h.check(ctx, blob, f); err == nil {
		return nil
	} else if !errors.Is(err, os.ErrNotExist) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		h.note(fmt.Sprintf("%v; downloading it again", err))
	}
	d := &part{hub: h, file: f, path: blob + ".incomplete",
		address: h.Endpoint + "/" + repo + "/resolve/" + commit + "/" + (&url.URL{Path: f.path}).EscapedPath()}
	if err := d.get(ctx); err != nil {
		return err
	}
	if err := os.Rename(d.path, blob); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	return nil
}

// check reads a file and compares size and hash.
func (h *Hub) check(ctx context.Context, name string, f file) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := f.newHash()
	n, err := io.Copy(sum, h.counted(ctx, in, f, 0))
	if err != nil {
		return err
	}
	return f.verify(n, sum)
}

func (f file) verify(size int64, sum hash.Hash) error {
	if size != f.size {
		return fmt.Errorf("hub: %s: %w: expected %d bytes, found %d", f.path, ErrCorrupt, f.size, size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.hash {
		return fmt.Errorf("hub: %s: %w: expected hash %s, found %s", f.path, ErrCorrupt, f.hash, got)
	}
	return nil
}

// counted reads in, reports progress from done on, and ends with ctx.
func (h *Hub) counted(ctx context.Context, in io.Reader, f file, done int64) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := in.Read(p)
		done += int64(n)
		if h.Progress != nil && n > 0 {
			h.Progress(f.path, min(done, f.size), f.size)
		}
		return n, err
	})
}

// part is a file that is being downloaded.
type part struct {
	hub     *Hub
	file    file
	address string
	path    string

	out *os.File
	sum hash.Hash
	at  int64 // bytes that are there and in sum
}

// get makes the whole file, going on where an earlier attempt ended. What was
// there before may be wrong: then everything is read anew, once.
func (p *part) get(ctx context.Context) (err error) {
	if p.out, err = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	defer func() { err = errors.Join(err, p.out.Close()) }()
	p.sum = p.file.newHash()
	if p.at, err = io.Copy(p.sum, p.hub.counted(ctx, p.out, p.file, 0)); err != nil {
		return err
	}
	if p.at > p.file.size {
		if err := p.restart(); err != nil {
			return err
		}
	}
	for {
		resumed := p.at > 0
		if err := p.hub.retry(ctx, func() (bool, error) { return p.more(ctx) }); err != nil {
			return err
		}
		err := p.file.verify(p.at, p.sum)
		if err == nil {
			return p.out.Sync()
		}
		if e := p.restart(); e != nil {
			return e
		}
		if !resumed {
			_ = os.Remove(p.path)
			return fmt.Errorf("%w; it was not kept. The hub or a proxy gives wrong bytes: try again later", err)
		}
		p.hub.note(fmt.Sprintf("%v; reading it from its beginning", err))
	}
}

// restart forgets what is there.
func (p *part) restart() error {
	p.at, p.sum = 0, p.file.newHash()
	if err := p.out.Truncate(0); err != nil {
		return fmt.Errorf("hub: %w", err)
	}
	return nil
}

var rangePattern = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+)$`)

// more asks for the rest of the file, once, and says whether any of it came.
func (p *part) more(ctx context.Context) (progress bool, err error) {
	if p.at == p.file.size {
		return false, nil
	}
	ctx, watch := p.hub.watch(ctx)
	defer watch.end()
	header := http.Header{}
	if p.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", p.at))
	}
	res, err := p.hub.request(ctx, p.address, header)
	if err != nil {
		return false, watch.explain(err)
	}
	defer res.Body.Close()
	if err := p.agree(res); err != nil {
		return false, err
	}
	if _, err := p.out.Seek(p.at, io.SeekStart); err != nil {
		return false, fmt.Errorf("hub: %w", err)
	}
	left := p.file.size - p.at
	body := io.LimitReader(watch.reader(res.Body), left+1)
	n, err := io.Copy(writers{p.out, p.sum}, p.hub.counted(ctx, body, p.file, p.at))
	p.at += n
	var disk *os.PathError
	switch {
	case errors.As(err, &disk):
		return true, fmt.Errorf("hub: %w; what came is kept for the next attempt", err)
	case n > left:
		return true, p.wrong("more")
	case err != nil:
		return n > 0, again{error: watch.explain(fmt.Errorf("hub: %s: cut off after %d of %d bytes: %w", p.file.path, p.at, p.file.size, err))}
	case n < left:
		return n > 0, again{error: fmt.Errorf("hub: %s: ended after %d of %d bytes", p.file.path, p.at, p.file.size)}
	}
	return true, nil
}

// writers writes to the file first: the hash has what the file has.
type writers struct {
	out *os.File
	sum hash.Hash
}

func (w writers) Write(b []byte) (int, error) {
	n, err := w.out.Write(b)
	w.sum.Write(b[:n])
	return n, err
}

// agree compares what the server is about to send with what was asked for.
func (p *part) agree(res *http.Response) error {
	total := res.ContentLength
	if res.StatusCode == http.StatusPartialContent {
		m := rangePattern.FindStringSubmatch(res.Header.Get("Content-Range"))
		if m == nil || m[1] != strconv.FormatInt(p.at, 10) {
			return fmt.Errorf("hub: %s: asked for bytes from %d on, got %.80q", p.file.path, p.at, res.Header.Get("Content-Range"))
		}
		total, _ = strconv.ParseInt(m[3], 10, 64)
	} else if p.at > 0 { // it knows no ranges
		if err := p.restart(); err != nil {
			return err
		}
	}
	if total >= 0 && total != p.file.size {
		return p.wrong(strconv.FormatInt(total, 10))
	}
	return nil
}

// wrong is the error of a server that sends another size than it listed.
func (p *part) wrong(found string) error {
	_ = p.restart()
	_ = os.Remove(p.path)
	return fmt.Errorf("hub: %s: %w: expected %d bytes, the server sends %s", p.file.path, ErrCorrupt, p.file.size, strings.TrimSpace(found))
}
