package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	attempts    = 5 // in a row that bring nothing
	redirects   = 10
	longestWait = 5 * time.Minute // that a server may ask for
	answerLimit = 64 << 20        // bytes of a listing
)

// errRedirect is why a redirection is not followed.
var errRedirect = errors.New("redirection")

// redirect is asked before each redirection. The token is for the hub alone:
// neither another host nor another port gets it.
func (h *Hub) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > redirects {
		return fmt.Errorf("%w: more than %d", errRedirect, redirects)
	}
	if req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
		return fmt.Errorf("%w: from https to %s", errRedirect, req.URL.Scheme)
	}
	if endpoint, err := url.Parse(h.Endpoint); err != nil || !sameOrigin(req.URL, endpoint) {
		req.Header.Del("Authorization")
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	port := func(u *url.URL) string {
		if p := u.Port(); p != "" {
			return p
		}
		return map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// again marks an error after which another attempt makes sense, in wait if that
// is not 0.
type again struct {
	error
	wait time.Duration
}

func (a again) Unwrap() error { return a.error }

// retry calls try until it works, fails for good or has failed several times in
// a row without progress. The time between attempts doubles.
func (h *Hub) retry(ctx context.Context, try func() (progress bool, err error)) error {
	failed := 0
	for {
		progress, err := try()
		var more again
		if err == nil || ctx.Err() != nil || !errors.As(err, &more) {
			return errors.Join(ctx.Err(), err)
		}
		if progress {
			failed = 0
		}
		failed++
		if failed == attempts {
			return fmt.Errorf("%w (%d attempts)", more.error, attempts)
		}
		wait := h.pause << (failed - 1)
		if more.wait > longestWait {
			return fmt.Errorf("%w: the hub asks to come back in %v", more.error, more.wait)
		} else if more.wait > 0 {
			wait = more.wait
		}
		h.note(fmt.Sprintf("%v; trying again in %v", more.error, wait))
		if err := h.sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// request asks once for an address of the hub. The answer has status 200 or
// 206. Errors wrap again where another attempt makes sense.
func (h *Hub) request(ctx context.Context, address string, header http.Header) (*http.Response, error) {
	if h.Offline {
		return nil, fmt.Errorf("hub: %w: HF_HUB_OFFLINE is set", ErrOffline)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	for key, values := range header {
		req.Header[key] = values
	}
	req.Header.Set("User-Agent", "triforce")
	req.Header.Set("Accept-Encoding", "identity") // sizes and ranges count plain bytes
	endpoint, err := url.Parse(h.Endpoint)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("hub: HF_ENDPOINT %q: expected an address such as https://huggingface.co", h.Endpoint)
	}
	if h.Token != "" && sameOrigin(req.URL, endpoint) {
		req.Header.Set("Authorization", "Bearer "+h.Token)
	}
	res, err := h.client.Do(req)
	if errors.Is(err, errRedirect) {
		return nil, fmt.Errorf("hub: %w", err)
	} else if err != nil {
		return nil, again{error: fmt.Errorf("hub: %w", err)}
	}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
		return res, nil
	}
	defer res.Body.Close()
	return nil, h.failure(res)
}

// failure turns an answer that is none into an error.
func (h *Hub) failure(res *http.Response) error {
	at := res.Request.URL.Redacted()
	if i := strings.IndexByte(at, '?'); i >= 0 {
		at = at[:i] // signatures
	}
	said := ""
	if text := res.Header.Get("X-Error-Message"); text != "" {
		said = fmt.Sprintf(": %.200q", text)
	}
	err := fmt.Errorf("hub: %s: %d %s%s", at, res.StatusCode, http.StatusText(res.StatusCode), said)
	code := res.Header.Get("X-Error-Code")
	switch res.StatusCode {
	case http.StatusTooManyRequests:
		return again{err, retryAfter(res.Header)}
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return again{err, retryAfter(res.Header)}
	case http.StatusUnauthorized, http.StatusForbidden:
		switch {
		case code == "GatedRepo":
			return fmt.Errorf("%w: %w: accept the model's terms on its page, then set HF_TOKEN to a token of that account", err, ErrDenied)
		case h.Token == "":
			return fmt.Errorf("%w: %w: it does not exist or wants a token; check the name, or set HF_TOKEN", err, ErrDenied)
		}
		return fmt.Errorf("%w: %w: it does not exist or this token may not read it; check the name and HF_TOKEN", err, ErrDenied)
	case http.StatusNotFound:
		what := "no such model; check the name"
		if code == "RevisionNotFound" {
			what = "no such revision"
		} else if code == "EntryNotFound" {
			what = "no such file"
		}
		return fmt.Errorf("%w: %w: %s", err, ErrNotFound, what)
	}
	return err
}

var resetPattern = regexp.MustCompile(`;\s*t=(\d+)`)

// retryAfter is the time that a server asks to wait, or 0.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if text == "" {
		if m := resetPattern.FindStringSubmatch(h.Get("RateLimit")); m != nil {
			text = m[1]
		}
	}
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(text); err == nil {
		return max(time.Until(t).Round(time.Second), 0)
	}
	return 0
}

// list reads a JSON answer into value and returns the address of the next page,
// or "".
func (h *Hub) list(ctx context.Context, address string, value any) (next string, err error) {
	err = h.retry(ctx, func() (bool, error) {
		ctx, watch := h.watch(ctx)
		defer watch.end()
		res, err := h.request(ctx, address, nil)
		if err != nil {
			return false, watch.explain(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(io.LimitReader(watch.reader(res.Body), answerLimit+1))
		switch {
		case err != nil:
			return false, again{error: watch.explain(fmt.Errorf("hub: %s: %w", address, err))}
		case len(data) > answerLimit:
			return false, fmt.Errorf("hub: %s: the answer has more than %d bytes", address, answerLimit)
		}
		if err := json.Unmarshal(data, value); err != nil {
			return false, fmt.Errorf("hub: %s: expected a hub's answer: %w; check HF_ENDPOINT", address, err)
		}
		next = nextPage(res.Header, res.Request.URL)
		return false, nil
	})
	return next, err
}

var nextPattern = regexp.MustCompile(`<([^<>]*)>\s*;\s*rel="?next"?`)

// nextPage is the address in a Link header, seen from that of the page.
func nextPage(h http.Header, from *url.URL) string {
	m := nextPattern.FindStringSubmatch(h.Get("Link"))
	if m == nil {
		return ""
	}
	u, err := from.Parse(m[1])
	if err != nil || !sameOrigin(u, from) {
		return ""
	}
	return u.String()
}

// errStalled is why a request was given up that got no bytes.
var errStalled = errors.New("the server sends nothing")

// watchdog gives a request up once nothing has come for a while.
type watchdog struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
}

func (h *Hub) watch(ctx context.Context) (context.Context, *watchdog) {
	ctx, cancel := context.WithCancelCause(ctx)
	return ctx, &watchdog{ctx, cancel, time.AfterFunc(h.stall, func() { cancel(errStalled) }), h.stall}
}

func (w *watchdog) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// explain puts the watchdog's reason in the place of a cancellation.
func (w *watchdog) explain(err error) error {
	if errors.Is(context.Cause(w.ctx), errStalled) {
		return again{error: fmt.Errorf("hub: %w for %v", errStalled, w.stall)}
	}
	return err
}

// reader reads r and keeps the watchdog quiet.
func (w *watchdog) reader(r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if n > 0 {
			w.timer.Reset(w.stall)
		}
		return n, err
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
