package server

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"triforce/engine"
	"triforce/sample"
	"triforce/server/openai"
)

// pingEvery is how often a stream without news shows that it is alive.
const pingEvery = 15 * time.Second

// complete answers a request for completions or a chat.
func (s *Server) complete(chat bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := openai.Read(http.MaxBytesReader(w, r.Body, s.o.MaxBody), chat)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		wk, err := s.prepare(q)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		tickets, err := s.slots.enter(wk.pages)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		if s.o.Timeout > 0 {
			ctx, cancel = context.WithTimeout(r.Context(), s.o.Timeout)
		}
		defer cancel()
		s.start(ctx, wk, tickets)
		a := newAnswer(s, wk)
		if q.Stream {
			err = a.stream(w, cancel)
		} else {
			err = a.whole(w, r, s)
		}
		s.log(r, wk, a, err)
	}
}

// answer gathers what the choices of a request have become.
type answer struct {
	s       *Server
	wk      *work
	choices []*progress
	left    int // choices that have not ended
	created int64
}

// progress is one choice on its way.
type progress struct {
	text   strings.Builder
	probs  []engine.Token // of the tokens since the last chunk
	origin []openai.OriginToken
	pos    int // in the text, of the next token with logprobs
	begun  bool
	end    *outcome
}

func newAnswer(s *Server, wk *work) *answer {
	a := &answer{s: s, wk: wk, left: wk.choices(), created: time.Now().Unix()}
	for range a.left {
		a.choices = append(a.choices, &progress{})
	}
	return a
}

// add takes a step of a choice.
func (a *answer) add(e event) *progress {
	c := a.choices[e.choice]
	if e.end != nil {
		c.end = e.end
		a.left--
	}
	if t := e.token; t != nil {
		c.text.Write(t.Text)
		vocab := a.s.e.File().Tokenizer().Vocab()
		if t.ID >= 0 && a.wk.request.LogProbs >= 0 && (a.wk.request.IgnoreEOS || !vocab.IsEOG(t.ID)) {
			c.probs = append(c.probs, *t)
		}
		if a.wk.request.Origins && len(t.Text) > 0 {
			c.origin = append(c.origin, openai.OriginToken{Text: string(t.Text), Origin: engine.OriginNames()[t.Origin]})
		}
	}
	return c
}

// err is the first error of a choice.
func (a *answer) err() error {
	for _, c := range a.choices {
		if c.end != nil && c.end.err != nil {
			return c.end.err
		}
	}
	return nil
}

// whole answers at once, when all choices have ended.
func (a *answer) whole(w http.ResponseWriter, r *http.Request, s *Server) error {
	for a.left > 0 {
		<-a.wk.feed.ready
		for _, e := range a.wk.feed.take() {
			a.add(e)
		}
	}
	if err := a.err(); err != nil {
		s.fail(w, r, err)
		return err
	}
	resp := a.response(false)
	for i, c := range a.choices {
		text := c.text.String()
		choice := openai.Choice{Index: i, LogProbs: a.logProbs(c), FinishReason: reason(c)}
		if a.wk.request.Chat {
			choice.Message = &openai.Message{Role: "assistant", Content: text}
		} else {
			choice.Text = &text
		}
		resp.Choices = append(resp.Choices, choice)
		if len(c.origin) > 0 && len(a.choices) == 1 {
			resp.Triforce = &openai.Extra{Tokens: c.origin}
		}
	}
	resp.Usage, resp.Timings = a.usage(), a.choices[0].end.timings()
	return s.reply(w, http.StatusOK, resp)
}

func reason(c *progress) *string {
	why := finish(c.end.result.Stop)
	return &why
}

// response is one without choices yet.
func (a *answer) response(chunk bool) *openai.Response {
	object := "text_completion"
	if a.wk.request.Chat {
		object = "chat.completion"
		if chunk {
			object += ".chunk"
		}
	}
	return &openai.Response{ID: a.wk.id, Object: object, Created: a.created, Model: a.s.o.Name,
		SystemFingerprint: a.s.o.Version, Choices: []openai.Choice{}}
}

// usage sums up all choices; a prompt counts once.
func (a *answer) usage() *openai.Usage {
	u := &openai.Usage{}
	for i, c := range a.choices {
		if c.end == nil {
			continue
		}
		if i%a.wk.request.N == 0 {
			u.PromptTokens += c.end.result.Prompt
			u.PromptTokensDetails.CachedTokens += c.end.result.Cached
		}
		u.CompletionTokens += c.end.result.Predicted
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

// logProbs takes the log-probabilities that a choice has gathered, or null.
func (a *answer) logProbs(c *progress) json.RawMessage {
	n := a.wk.request.LogProbs
	if n < 0 {
		return json.RawMessage("null")
	}
	piece := a.s.e.File().Tokenizer().Vocab().Piece
	one := func(p sample.LogProb) openai.TokenLogProb {
		text := piece(p.ID)
		t := openai.TokenLogProb{Token: text, LogProb: p.Value, Bytes: []int{}}
		for _, b := range []byte(text) {
			t.Bytes = append(t.Bytes, int(b))
		}
		return t
	}
	chat := openai.ChatLogProbs{Content: []openai.TokenLogProb{}}
	text := openai.TextLogProbs{Tokens: []string{}, TokenLogProbs: []float64{}, TopLogProbs: []map[string]float64{}, TextOffset: []int{}}
	for _, t := range c.probs {
		token := one(sample.LogProb{ID: t.ID, Value: t.LogProb})
		top := map[string]float64{}
		for _, p := range t.Top[:min(n, len(t.Top))] {
			token.Top = append(token.Top, one(p))
			top[piece(p.ID)] = p.Value
		}
		chat.Content = append(chat.Content, token)
		text.Tokens = append(text.Tokens, token.Token)
		text.TokenLogProbs = append(text.TokenLogProbs, token.LogProb)
		text.TopLogProbs = append(text.TopLogProbs, top)
		text.TextOffset = append(text.TextOffset, c.pos)
		c.pos += len(token.Token)
	}
	c.probs = nil
	var raw []byte
	if a.wk.request.Chat {
		raw, _ = json.Marshal(chat)
	} else {
		raw, _ = json.Marshal(text)
	}
	return raw
}

// stream answers with server-sent events, as tokens come; those that came while
// the reader was slow go into one. cancel ends the generations if it is gone.
func (a *answer) stream(w http.ResponseWriter, cancel func()) error {
	out := &events{w: w, control: http.NewResponseController(w), timeout: a.s.o.WriteTimeout}
	err := a.send(out)
	if err != nil {
		cancel()
	}
	for a.left > 0 { // their slots are free then
		<-a.wk.feed.ready
		for _, e := range a.wk.feed.take() {
			a.add(e)
		}
	}
	return err
}

func (a *answer) send(out *events) error {
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	for a.left > 0 {
		var got []event
		select {
		case <-a.wk.feed.ready:
			got = a.wk.feed.take()
		case <-ping.C:
			if err := out.ping(); err != nil {
				return err
			}
		}
		touched := make([]bool, len(a.choices))
		for _, e := range got {
			a.add(e)
			touched[e.choice] = touched[e.choice] || e.progress == nil
			if e.progress != nil {
				chunk := a.response(true)
				chunk.PromptProgress = e.progress
				if err := out.send(chunk); err != nil {
					return err
				}
			}
			if e.end != nil && e.end.err != nil {
				return out.fail(e.end.err)
			}
		}
		for i, c := range a.choices {
			if touched[i] {
				if err := a.chunk(out, i, c); err != nil {
					return err
				}
			}
		}
	}
	if a.wk.request.IncludeUsage {
		last := a.response(true)
		last.Usage = a.usage()
		if err := out.send(last); err != nil {
			return err
		}
	}
	return out.done()
}

// chunk sends what a choice has gathered, and its end.
func (a *answer) chunk(out *events, i int, c *progress) error {
	text := c.text.String()
	c.text.Reset()
	chat := a.wk.request.Chat
	send := func(text *string, why *string) error {
		r := a.response(true)
		choice := openai.Choice{Index: i, LogProbs: json.RawMessage("null"), FinishReason: why}
		if text != nil && len(c.probs) > 0 {
			choice.LogProbs = a.logProbs(c)
		}
		if chat {
			choice.Delta = &openai.Delta{Content: text}
			if !c.begun {
				choice.Delta.Role = "assistant"
			}
		} else {
			if text == nil {
				text = new(string)
			}
			choice.Text = text
		}
		c.begun = true
		if len(c.origin) > 0 {
			r.Triforce = &openai.Extra{Tokens: c.origin}
			c.origin = nil
		}
		r.Choices = append(r.Choices, choice)
		if why != nil {
			r.Timings = c.end.timings()
		}
		return out.send(r)
	}
	if text != "" || len(c.probs) > 0 {
		if err := send(&text, nil); err != nil {
			return err
		}
	}
	if c.end != nil {
		return send(nil, reason(c))
	}
	return nil
}

// events is a stream of server-sent events. The header goes out with the first.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	begun   bool
	buf     bytes.Buffer
}

func (e *events) write(p []byte) error {
	if !e.begun {
		e.begun = true
		h := e.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
		e.w.WriteHeader(http.StatusOK)
	}
	// Not every writer has deadlines; then the connection's end is what there is.
	_ = e.control.SetWriteDeadline(time.Now().Add(e.timeout))
	if _, err := e.w.Write(p); err != nil {
		return err
	}
	return e.control.Flush()
}

func (e *events) send(v any) error {
	e.buf.Reset()
	e.buf.WriteString("data: ")
	enc := json.NewEncoder(&e.buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	e.buf.WriteByte('\n')
	return e.write(e.buf.Bytes())
}

func (e *events) ping() error { return e.write([]byte(": still here\n\n")) }
func (e *events) done() error { return e.write([]byte("data: [DONE]\n\n")) }

// fail ends the stream with an error. Before the first event it is an answer
// like others.
func (e *events) fail(err error) error {
	f := failure(err)
	if !e.begun {
		_ = writeJSON(e.w, f.Status, openai.ErrorBody{Error: f})
		return err
	}
	if sent := e.send(openai.ErrorBody{Error: f}); sent != nil {
		return sent
	}
	return err
}
