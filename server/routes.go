package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"triforce/server/openai"
	"triforce/tokenizer"
)

// routes is what the server answers.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	open := http.NewServeMux() // without a key
	open.HandleFunc("GET /health", s.health)
	open.HandleFunc("GET /v1/health", s.health)
	open.Handle("GET /metrics", s.metrics.handler()) // counts only; scrapers have no key
	open.Handle("GET /", s.page())
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /v1/models/{name...}", s.model)
	mux.HandleFunc("POST /v1/completions", s.complete(false))
	mux.HandleFunc("POST /v1/chat/completions", s.complete(true))
	mux.HandleFunc("POST /tokenize", s.tokenize)
	mux.HandleFunc("POST /detokenize", s.detokenize)
	mux.HandleFunc("POST /apply-template", s.applyTemplate)
	mux.HandleFunc("GET /props", s.props)
	mux.HandleFunc("GET /slots", s.showSlots)
	return s.guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, pattern := open.Handler(r); pattern != "" && pattern != "GET /" || isPage(r) {
			h.ServeHTTP(w, r)
			return
		}
		if !s.authorized(r) {
			s.fail(w, r, openai.Errorf(http.StatusUnauthorized, openai.Authentication,
				"no or a wrong API key; send it as Authorization: Bearer KEY").WithCode("invalid_api_key"))
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" {
			s.unknown(w, r, mux)
			return
		}
		if s.draining.Load() && r.Method == http.MethodPost {
			w.Header().Set("Connection", "close")
			s.fail(w, r, openai.Errorf(http.StatusServiceUnavailable, openai.Unavailable, "the server is stopping").WithCode("draining"))
			return
		}
		mux.ServeHTTP(w, r)
	}))
}

// unknown answers for a path or a method that there is not.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request, mux *http.ServeMux) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := mux.Handler(other); pattern != "" && method != r.Method {
			w.Header().Set("Allow", method)
			s.fail(w, r, openai.Errorf(http.StatusMethodNotAllowed, openai.InvalidRequest, "%s takes %s, not %s", r.URL.Path, method, r.Method))
			return
		}
	}
	s.fail(w, r, openai.Errorf(http.StatusNotFound, openai.InvalidRequest, "there is no %s here", r.URL.Path))
}

// guard is around all handlers: it keeps foreign web pages out, and turns a
// panic into an answer.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			if endless, ok := p.(tokenizer.Endless); ok { // the model's fault
				s.fail(w, r, openai.Errorf(http.StatusInternalServerError, openai.ServerError, "%v", endless))
			} else if p != nil && !errors.Is(asError(p), http.ErrAbortHandler) {
				s.o.Log.Error("panic", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				s.fail(w, r, openai.Errorf(http.StatusInternalServerError, openai.ServerError, "this is a bug; the server's log has more"))
			}
		}()
		if origin := r.Header.Get("Origin"); origin != "" && !sameHost(origin, r.Host) {
			if !slices.Contains(s.o.Origins, origin) && !slices.Contains(s.o.Origins, "*") {
				s.fail(w, r, openai.Errorf(http.StatusForbidden, openai.InvalidRequest,
					"pages of %s may not call this server (--cors allows it)", origin).WithCode("origin_not_allowed"))
				return
			}
			h := w.Header()
			h.Set("Access-Control-Allow-Origin", origin)
			h.Add("Vary", "Origin")
			if r.Method == http.MethodOptions {
				h.Set("Access-Control-Allow-Methods", "GET, POST")
				h.Set("Access-Control-Allow-Headers", r.Header.Get("Access-Control-Request-Headers"))
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func asError(p any) error {
	err, _ := p.(error)
	return err
}

// sameHost reports whether a page of the origin is of this host.
func sameHost(origin, host string) bool {
	u, err := url.Parse(origin)
	return err == nil && u.Host == host
}

// authorized reports whether the request has the key, if there is one.
func (s *Server) authorized(r *http.Request) bool {
	if s.o.Key == "" {
		return true
	}
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got, want := sha256.Sum256([]byte(key)), sha256.Sum256([]byte(s.o.Key))
	return ok && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// fail refuses a request.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := failure(err)
	s.metrics.refused.WithLabelValues(fmt.Sprint(f.Status)).Inc()
	s.o.Log.Info("refused", "path", r.URL.Path, "client", client(r), "status", f.Status, "error", f.Message)
	if f.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	drainBody(r.Body)
	_ = s.reply(w, f.Status, openai.ErrorBody{Error: f})
}

func (s *Server) reply(w http.ResponseWriter, status int, v any) error {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.o.WriteTimeout))
	return writeJSON(w, status, v)
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // it is no page
	return enc.Encode(v)
}

// log says what became of a request.
func (s *Server) log(r *http.Request, wk *work, a *answer, err error) {
	u := a.usage()
	attrs := []any{"id", wk.id, "path", r.URL.Path, "client", client(r), "prompt", u.PromptTokens, "cached", u.PromptTokensDetails.CachedTokens,
		"generated", u.CompletionTokens, "ms", time.Since(wk.arrived).Milliseconds()}
	level := slog.LevelInfo
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	s.o.Log.Log(r.Context(), level, "request", attrs...)
}

func client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
