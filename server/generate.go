package server

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"math"
	"net/http"
	"strings"
	"time"

	"triforce/engine"
	"triforce/server/openai"
)

// work is a request that is ready to run: choice i continues prompt i/n.
type work struct {
	id      string
	request *openai.Request
	prompts [][]int32
	pages   []int // of memory, by choice
	gen     engine.GenOptions
	feed    *feed
	arrived time.Time
}

// prepare turns a request into tokens and options, and refuses what cannot be
// done.
func (s *Server) prepare(q *openai.Request) (*work, error) {
	if err := s.checkModel(q.Model); err != nil {
		return nil, err
	}
	wk := &work{id: newID(q.Chat), request: q, gen: s.o.Gen, feed: newFeed(q.Stream), arrived: time.Now()}
	if err := s.encode(wk); err != nil {
		return nil, err
	}
	limit := s.e.Options().Context
	for _, p := range wk.prompts {
		if len(p) > limit {
			return nil, openai.Errorf(http.StatusBadRequest, openai.InvalidRequest,
				"the prompt has %d tokens, the context %d; shorten it, or start the server with a larger --ctx-size", len(p), limit).
				WithCode("context_length_exceeded")
		}
	}
	g := &wk.gen
	g.Predict = s.o.MaxTokens
	if q.MaxTokens >= 0 {
		if q.MaxTokens > s.o.MaxTokens {
			return nil, openai.Invalid("max_tokens", "%d: this server generates at most %d (--max-tokens)", q.MaxTokens, s.o.MaxTokens)
		}
		g.Predict = q.MaxTokens
	}
	set(&g.Sample.Temp, q.Temperature)
	set(&g.Sample.TopP, q.TopP)
	set(&g.Sample.MinP, q.MinP)
	set(&g.Sample.TopK, q.TopK)
	set(&g.Sample.RepeatPenalty, q.RepeatPenalty)
	set(&g.Sample.RepeatLastN, q.RepeatLastN)
	if g.Sample.TopP == 0 { // of OpenAI: only the most probable token
		g.Sample.TopP = math.SmallestNonzeroFloat64
	}
	g.Stop, g.IgnoreEOS = q.Stop, q.IgnoreEOS
	if q.LogProbs >= 0 {
		g.LogProbs = max(q.LogProbs, 1)
	}
	if g.Sample.Seed = randomSeed(); q.Seed != nil {
		g.Sample.Seed = *q.Seed
	}
	if err := g.Validate(); err != nil {
		return nil, openai.Errorf(http.StatusBadRequest, openai.InvalidRequest, "%v", err)
	}
	return wk, s.reckon(wk)
}

// reckon says how much memory each choice may come to need, with a page for the
// moment in which one is copied.
func (s *Server) reckon(wk *work) error {
	use := s.batcher.CacheUse()
	for i := range wk.choices() {
		tokens := min(len(wk.prompts[i/wk.request.N])+wk.gen.Predict, s.e.Options().Context)
		pages := (tokens+use.PageTokens-1)/use.PageTokens + 1
		if pages > use.Limit {
			return openai.Errorf(http.StatusBadRequest, openai.InvalidRequest,
				"prompt and max_tokens may need %d tokens of memory, this server has %d; ask for less, or start it with a larger --cache-ram",
				tokens, (use.Limit-1)*use.PageTokens).WithCode("context_length_exceeded")
		}
		wk.pages = append(wk.pages, pages)
	}
	return nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func (s *Server) checkModel(name string) error {
	if name == "" || name == s.o.Name {
		return nil
	}
	for _, alias := range s.o.Aliases {
		if name == alias {
			return nil
		}
	}
	e := openai.Errorf(http.StatusNotFound, openai.InvalidRequest,
		"the model %q does not exist here; this server has %q (--alias gives it other names)", name, s.o.Name).WithCode("model_not_found")
	param := "model"
	e.Param = &param
	return e
}

// checkChat refuses chats with a model that is not made for them.
func (s *Server) checkChat() error {
	if s.e.File().HasChat() {
		return nil
	}
	return openai.Errorf(http.StatusBadRequest, openai.InvalidRequest,
		"the model %q carries no chat template; use /v1/completions", s.o.Name).WithCode("no_chat_template")
}

func messages(list []openai.ChatMessage) []engine.Message {
	var all []engine.Message
	for _, m := range list {
		all = append(all, engine.Message{Role: m.Role, Content: m.Content})
	}
	return all
}

// encode makes tokens of the prompts.
func (s *Server) encode(wk *work) error {
	q, file := wk.request, s.e.File()
	if q.Chat {
		if err := s.checkChat(); err != nil {
			return err
		}
		tokens, err := file.Chat(nil, messages(q.Messages), s.o.Now())
		if err != nil {
			return openai.Errorf(http.StatusBadRequest, openai.InvalidRequest, "%v", err)
		}
		wk.prompts = [][]int32{tokens}
		return nil
	}
	for i, p := range q.Prompts {
		tokens := p.Tokens
		if tokens == nil {
			tokens = file.Encode(p.Text)
		}
		for j, id := range tokens {
			if size := file.Tokenizer().Vocab().Size(); id < 0 || int(id) >= size {
				return openai.Invalid("prompt", "prompt %d: token %d is %d, expected 0 to %d", i, j, id, size-1)
			}
		}
		wk.prompts = append(wk.prompts, tokens)
	}
	return nil
}

// choices is how many answers there will be.
func (wk *work) choices() int { return len(wk.prompts) * wk.request.N }

// start runs all choices, each with a ticket. The others of a prompt follow the
// first when that has read it, because what it read serves them too. Every
// choice ends with an event that has an end.
func (s *Server) start(ctx context.Context, wk *work, tickets []*ticket) {
	for p := range wk.prompts {
		first := p * wk.request.N
		read := make(chan struct{})
		go func() {
			s.run(ctx, wk, first, tickets[first], func() { close(read) })
		}()
		for c := first + 1; c < first+wk.request.N; c++ {
			go func() {
				<-read
				s.run(ctx, wk, c, tickets[c], func() {})
			}()
		}
	}
}

// run generates one choice. It calls read once, when the prompt is read or will
// not be.
func (s *Server) run(ctx context.Context, wk *work, choice int, t *ticket, read func()) {
	isRead := false
	once := func() {
		if !isRead {
			isRead = true
			read()
		}
	}
	end := &outcome{}
	defer func() {
		once()
		wk.feed.put(event{choice: choice, end: end})
	}()
	slot, err := t.wait(ctx)
	if err != nil {
		end.err = err
		return
	}
	defer s.slots.release(slot)
	s.metrics.queueTime.Observe(time.Since(wk.arrived).Seconds())
	prompt := wk.prompts[choice/wk.request.N]
	began := time.Now()
	slot.set(func(st *slotStatus) {
		*st = slotStatus{Processing: true, Context: s.e.Options().Context, Request: wk.id, Started: began, PromptTokens: len(prompt)}
	})
	gen := wk.gen
	gen.Sample.Seed += uint64(choice % wk.request.N)
	gen.Progress = func(done, total int) {
		slot.set(func(st *slotStatus) { st.Read = done })
		if wk.request.Progress {
			wk.feed.put(event{choice: choice, progress: &openai.PromptProgress{
				Total: len(prompt), Cached: len(prompt) - 1 - total, Processed: len(prompt) - 1 - total + done, TimeMS: time.Since(began).Milliseconds()}})
		}
	}
	last := time.Time{}
	end.result, end.err = slot.session.Generate(ctx, prompt, gen, func(tok engine.Token) error {
		once()
		now := time.Now()
		if last.IsZero() {
			s.metrics.firstToken.Observe(now.Sub(wk.arrived).Seconds())
		} else {
			s.metrics.tokenTime.Observe(now.Sub(last).Seconds())
		}
		last = now
		slot.set(func(st *slotStatus) { st.Decoded++ })
		tok.Text = append([]byte(nil), tok.Text...)
		wk.feed.put(event{choice: choice, token: &tok})
		return nil
	})
	for _, l := range slot.session.Levels() {
		end.levels = append(end.levels, openai.Level{
			Name: l.Name, Passes: l.Passes, Rows: l.Rows, Proposed: l.Proposed, Accepted: l.Accepted,
			AcceptedPerPosition: append([]int{}, l.AcceptedAt...), MeanAcceptance: l.MeanAcceptance(), Seconds: l.Seconds,
		})
		s.metrics.level(l.Name, l.Rounds, l.Proposed, l.Accepted, l.AcceptedAt)
	}
	s.keeper.observe(end.result.Read)
	s.metrics.finished(&end.result, end.err, time.Since(wk.arrived))
}

// timings says how long a choice took.
func (o *outcome) timings() *openai.Timings {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }
	per := func(a, b float64) float64 {
		if b == 0 {
			return 0
		}
		return a / b
	}
	r := &o.result
	t := &openai.Timings{
		CacheN: r.Cached, PromptN: r.Prompt - r.Cached, PromptMS: ms(r.PromptTime),
		PredictedN: r.Predicted, PredictedMS: ms(r.PredictTime), Levels: o.levels,
	}
	t.PromptPerTokenMS, t.PromptPerSecond = per(t.PromptMS, float64(t.PromptN)), per(1e3*float64(t.PromptN), t.PromptMS)
	t.PredictedPerTokenMS, t.PredictedPerSecond = per(t.PredictedMS, float64(t.PredictedN)), per(1e3*float64(t.PredictedN), t.PredictedMS)
	if len(o.levels) > 1 || len(o.levels) == 1 && o.levels[0].Proposed > 0 {
		t.DraftN, t.DraftNAccepted = &o.levels[0].Proposed, &o.levels[0].Accepted
	}
	return t
}

// finish is OpenAI's word for why a text ended.
func finish(stop engine.StopReason) string {
	if stop == engine.StopLength || stop == engine.StopContext {
		return "length"
	}
	return "stop"
}

// failure is what a client is told of an error.
func failure(err error) *openai.Error {
	var e *openai.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, errBusy):
		return openai.Errorf(http.StatusServiceUnavailable, openai.Unavailable, "all slots are taken and %v; try again later", err).WithCode("overloaded")
	case errors.Is(err, context.DeadlineExceeded):
		return openai.Errorf(http.StatusGatewayTimeout, openai.ServerError, "the request took longer than this server allows (--timeout)").WithCode("timeout")
	case errors.Is(err, context.Canceled):
		return openai.Errorf(http.StatusServiceUnavailable, openai.Unavailable, "the request was cancelled").WithCode("cancelled")
	case errors.Is(err, engine.ErrMemory):
		return openai.Errorf(http.StatusServiceUnavailable, openai.Unavailable, "%v", err).WithCode("out_of_memory")
	case errors.Is(err, engine.ErrContext):
		return openai.Errorf(http.StatusBadRequest, openai.InvalidRequest, "%v", err).WithCode("context_length_exceeded")
	case errors.Is(err, engine.ErrUsage):
		return openai.Errorf(http.StatusBadRequest, openai.InvalidRequest, "%v", err)
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return openai.Errorf(http.StatusRequestEntityTooLarge, openai.InvalidRequest,
			"the body is larger than %d bytes (--max-body)", tooLarge.Limit).WithCode("request_too_large")
	}
	return openai.Errorf(http.StatusInternalServerError, openai.ServerError, "%v", err)
}

func newID(chat bool) string {
	if chat {
		return "chatcmpl-" + strings.ToLower(rand.Text())
	}
	return "cmpl-" + strings.ToLower(rand.Text())
}

func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
