package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Limits on what a request may ask for.
const (
	MaxChoices  = 16
	MaxPrompts  = 64
	MaxStops    = 16
	MaxStopText = 1 << 10
	MaxMessages = 1 << 12
	MaxLogProbs = 20
)

// Request is a request for a completion or a chat, checked.
type Request struct {
	Model    string
	Chat     bool
	Messages []ChatMessage // of a chat
	Prompts  []Prompt      // of a completion, at least one

	MaxTokens int // -1 if not given
	N         int
	Stop      []string
	Stream    bool
	// IncludeUsage asks for a last chunk with usage.
	IncludeUsage bool
	// LogProbs is how many tokens to report beside each, or -1 for no logprobs.
	LogProbs int

	Temperature   *float64
	TopP          *float64
	MinP          *float64
	TopK          *int
	RepeatPenalty *float64
	RepeatLastN   *int
	Seed          *uint64
	IgnoreEOS     bool

	// Origins asks for the triforce object of chunks. Progress asks for chunks
	// that say how far the prompt is read.
	Origins, Progress bool
}

// ChatMessage is one turn of a conversation.
type ChatMessage struct{ Role, Content string }

// Prompt is a text, or tokens.
type Prompt struct {
	Text   string
	Tokens []int32 // if not nil
}

// wire is all fields of both kinds of requests.
type wire struct {
	Model    string            `json:"model"`
	Prompt   json.RawMessage   `json:"prompt"`
	Messages []json.RawMessage `json:"messages"`

	MaxTokens           *int            `json:"max_tokens"`
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	N                   *int            `json:"n"`
	Stop                json.RawMessage `json:"stop"`
	Stream              *bool           `json:"stream"`
	StreamOptions       *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	LogProbs    json.RawMessage `json:"logprobs"`
	TopLogProbs *int            `json:"top_logprobs"`

	Temperature   *float64 `json:"temperature"`
	TopP          *float64 `json:"top_p"`
	MinP          *float64 `json:"min_p"`
	TopK          *int     `json:"top_k"`
	RepeatPenalty *float64 `json:"repeat_penalty"`
	Seed          *int64   `json:"seed"`
	IgnoreEOS     bool     `json:"ignore_eos"`

	// Of llama-server.
	NPredict       *int `json:"n_predict"`
	RepeatLastN    *int `json:"repeat_last_n"`
	ReturnProgress bool `json:"return_progress"`

	Triforce struct {
		Origins  bool `json:"origins"`
		Progress bool `json:"progress"`
	} `json:"triforce"`

	// What would change the answer.
	BestOf           *int            `json:"best_of"`
	Echo             bool            `json:"echo"`
	Suffix           *string         `json:"suffix"`
	PresencePenalty  *float64        `json:"presence_penalty"`
	FrequencyPenalty *float64        `json:"frequency_penalty"`
	LogitBias        json.RawMessage `json:"logit_bias"`
	Tools            json.RawMessage `json:"tools"`
	Functions        json.RawMessage `json:"functions"`
	ResponseFormat   *struct {
		Type string `json:"type"`
	} `json:"response_format"`
	Grammar    json.RawMessage `json:"grammar"`
	JSONSchema json.RawMessage `json:"json_schema"`
	Modalities []string        `json:"modalities"`
}

// Read reads a request. Errors of the reader are returned as they are, others
// are an *Error.
func Read(r io.Reader, chat bool) (*Request, error) {
	var w wire
	if err := Decode(r, &w); err != nil {
		return nil, err
	}
	q := &Request{Model: w.Model, Chat: chat, MaxTokens: -1, N: 1, LogProbs: -1,
		Temperature: w.Temperature, TopP: w.TopP, MinP: w.MinP, TopK: w.TopK, RepeatPenalty: w.RepeatPenalty,
		RepeatLastN: w.RepeatLastN,
		IgnoreEOS:   w.IgnoreEOS, Origins: w.Triforce.Origins, Progress: w.Triforce.Progress || w.ReturnProgress}
	for _, step := range []func(*wire) *Error{q.refuse, q.text, q.lengths, q.stops, q.probabilities, q.stream, q.numbers} {
		if err := step(&w); err != nil {
			return nil, err
		}
	}
	return q, nil
}

// Decode reads one JSON object. Errors of the reader are returned as they are,
// others are an *Error.
func Decode(r io.Reader, into any) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(into); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) && kind.Field != "" {
			return Invalid(kind.Field, "expected %s, found %s", kind.Type, kind.Value)
		}
		return Errorf(400, InvalidRequest, "the body is not the JSON of a request: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if rest := bytes.TrimSpace(body[d.InputOffset():]); len(rest) > 0 {
		return Errorf(400, InvalidRequest, "offset %d: the body goes on after the request", d.InputOffset())
	}
	return nil
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// refuse reports what is not supported.
func (q *Request) refuse(w *wire) *Error {
	empty := func(raw json.RawMessage) bool {
		s := string(raw)
		return !given(raw) || s == "[]" || s == "{}" || s == `""`
	}
	for _, c := range []struct {
		param string
		asked bool
	}{
		{"best_of", w.BestOf != nil && (w.N == nil && *w.BestOf != 1 || w.N != nil && *w.BestOf != *w.N)},
		{"echo", w.Echo},
		{"suffix", w.Suffix != nil && *w.Suffix != ""},
		{"presence_penalty", w.PresencePenalty != nil && *w.PresencePenalty != 0},
		{"frequency_penalty", w.FrequencyPenalty != nil && *w.FrequencyPenalty != 0},
		{"logit_bias", !empty(w.LogitBias)},
		{"tools", !empty(w.Tools)},
		{"functions", !empty(w.Functions)},
		{"response_format", w.ResponseFormat != nil && w.ResponseFormat.Type != "text" && w.ResponseFormat.Type != ""},
		{"grammar", !empty(w.Grammar)},
		{"json_schema", !empty(w.JSONSchema)},
		{"modalities", len(w.Modalities) > 1 || len(w.Modalities) == 1 && w.Modalities[0] != "text"},
	} {
		if c.asked {
			return Invalid(c.param, "not supported; leave it out")
		}
	}
	return nil
}

// text reads the prompt or the messages.
func (q *Request) text(w *wire) *Error {
	if q.Chat {
		return q.chat(w)
	}
	if len(w.Messages) > 0 {
		return Invalid("messages", "of a completion there is a prompt; chats go to /v1/chat/completions")
	}
	if !given(w.Prompt) {
		return Invalid("prompt", "expected a text, a list of texts, or tokens")
	}
	var one string
	if json.Unmarshal(w.Prompt, &one) == nil {
		q.Prompts = []Prompt{{Text: one}}
		return nil
	}
	var tokens []int32
	if json.Unmarshal(w.Prompt, &tokens) == nil {
		q.Prompts = []Prompt{{Tokens: notNil(tokens)}}
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(w.Prompt, &list) != nil || len(list) == 0 || len(list) > MaxPrompts {
		return Invalid("prompt", "expected a text, tokens, or up to %d of either", MaxPrompts)
	}
	for i, raw := range list {
		var p Prompt
		if json.Unmarshal(raw, &p.Text) != nil {
			if json.Unmarshal(raw, &p.Tokens) != nil || p.Tokens == nil {
				return Invalid(fmt.Sprintf("prompt.%d", i), "expected a text or a list of tokens")
			}
		}
		q.Prompts = append(q.Prompts, p)
	}
	return nil
}

func notNil(tokens []int32) []int32 {
	if tokens == nil {
		return []int32{}
	}
	return tokens
}

// ReadMessages reads the messages of a chat and nothing else, with errors as Read
// has them.
func ReadMessages(r io.Reader) ([]ChatMessage, error) {
	var w wire
	if err := Decode(r, &w); err != nil {
		return nil, err
	}
	var q Request
	if err := q.chat(&w); err != nil {
		return nil, err
	}
	return q.Messages, nil
}

func (q *Request) chat(w *wire) *Error {
	if len(w.Messages) == 0 || len(w.Messages) > MaxMessages {
		return Invalid("messages", "expected 1 to %d messages, found %d", MaxMessages, len(w.Messages))
	}
	for i, raw := range w.Messages {
		param := fmt.Sprintf("messages.%d", i)
		var m struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		}
		if json.Unmarshal(raw, &m) != nil {
			return Invalid(param, "expected an object with role and content")
		}
		switch m.Role {
		case "developer":
			m.Role = "system"
		case "system", "user", "assistant":
		default:
			return Invalid(param+".role", "%q: expected system, developer, user or assistant", m.Role)
		}
		content, ok := contentText(m.Content)
		if !ok {
			return Invalid(param+".content", "expected a text, or a list of parts of type text")
		}
		q.Messages = append(q.Messages, ChatMessage{m.Role, content})
	}
	return nil
}

// contentText joins the parts of a message.
func contentText(raw json.RawMessage) (string, bool) {
	var text string
	if !given(raw) {
		return "", true
	}
	if json.Unmarshal(raw, &text) == nil {
		return text, true
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return "", false
	}
	for _, p := range parts {
		if p.Type != "text" || p.Text == nil {
			return "", false
		}
		text += *p.Text
	}
	return text, true
}

func (q *Request) lengths(w *wire) *Error {
	limit, param := w.MaxTokens, "max_tokens"
	if w.MaxCompletionTokens != nil {
		limit, param = w.MaxCompletionTokens, "max_completion_tokens"
	}
	if limit == nil && w.NPredict != nil && *w.NPredict >= 0 { // below: as much as the server allows
		limit, param = w.NPredict, "n_predict"
	}
	if limit != nil {
		if *limit < 0 {
			return Invalid(param, "%d: expected at least 0", *limit)
		}
		q.MaxTokens = *limit
	}
	if w.N != nil {
		if *w.N < 1 || *w.N > MaxChoices {
			return Invalid("n", "%d: expected 1 to %d", *w.N, MaxChoices)
		}
		q.N = *w.N
	}
	return nil
}

func (q *Request) stops(w *wire) *Error {
	if !given(w.Stop) {
		return nil
	}
	var one string
	if json.Unmarshal(w.Stop, &one) == nil {
		q.Stop = []string{one}
	} else if json.Unmarshal(w.Stop, &q.Stop) != nil || len(q.Stop) > MaxStops {
		return Invalid("stop", "expected a text, or up to %d", MaxStops)
	}
	for _, s := range q.Stop {
		if s == "" || len(s) > MaxStopText {
			return Invalid("stop", "expected texts of 1 to %d bytes", MaxStopText)
		}
	}
	return nil
}

// probabilities reads logprobs: a number for completions; for chats a yes, with
// the number in top_logprobs.
func (q *Request) probabilities(w *wire) *Error {
	n := -1
	if q.Chat {
		var yes bool
		if given(w.LogProbs) && json.Unmarshal(w.LogProbs, &yes) != nil {
			return Invalid("logprobs", "expected true or false")
		}
		if yes {
			n = 0
		}
		if w.TopLogProbs != nil {
			if !yes {
				return Invalid("top_logprobs", "needs logprobs: true")
			}
			n = *w.TopLogProbs
		}
	} else if given(w.LogProbs) {
		if json.Unmarshal(w.LogProbs, &n) != nil {
			return Invalid("logprobs", "expected a number")
		}
	}
	if n < -1 || n > MaxLogProbs || n == -1 && (given(w.LogProbs) && !q.Chat || w.TopLogProbs != nil) {
		return Invalid("logprobs", "%d: expected 0 to %d", n, MaxLogProbs)
	}
	q.LogProbs = n
	return nil
}

func (q *Request) stream(w *wire) *Error {
	q.Stream = w.Stream != nil && *w.Stream
	if w.StreamOptions != nil {
		if !q.Stream {
			return Invalid("stream_options", "needs stream: true")
		}
		q.IncludeUsage = w.StreamOptions.IncludeUsage
	}
	if !q.Stream && q.Progress {
		return Invalid("return_progress", "needs stream: true")
	}
	return nil
}

// numbers checks sampling; the engine checks it again by its own names.
func (q *Request) numbers(w *wire) *Error {
	for _, c := range []struct {
		param    string
		value    *float64
		min, max float64
	}{
		{"temperature", w.Temperature, 0, 2},
		{"top_p", w.TopP, 0, 1},
		{"min_p", w.MinP, 0, 1},
		{"repeat_penalty", w.RepeatPenalty, 0.1, 10},
	} {
		if c.value != nil && !(*c.value >= c.min && *c.value <= c.max) {
			return Invalid(c.param, "%v: expected %v to %v", *c.value, c.min, c.max)
		}
	}
	if w.TopK != nil && (*w.TopK < 0 || *w.TopK > math.MaxInt32) {
		return Invalid("top_k", "%d: expected at least 0", *w.TopK)
	}
	if w.Seed != nil {
		seed := uint64(*w.Seed)
		q.Seed = &seed
	}
	return nil
}
