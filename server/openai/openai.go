// Package openai is the part of OpenAI's HTTP API that triforce speaks: what
// requests and responses look like as JSON, and how requests are read and
// checked. It knows no model.
//
// Fields that would change the answer and are not supported are refused; others
// that are not known are ignored, as clients send what their version has. All
// functions may be called concurrently.
package openai

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// Error is what a request is refused with, in OpenAI's form.
type Error struct {
	Status  int     `json:"-"`
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *Error) Error() string { return e.Message }

// ErrorBody is the body of a refusal.
type ErrorBody struct {
	Error *Error `json:"error"`
}

// Types of errors.
const (
	InvalidRequest = "invalid_request_error"
	Authentication = "authentication_error"
	Unavailable    = "service_unavailable_error"
	ServerError    = "server_error"
)

// Errorf makes an error without a parameter.
func Errorf(status int, kind, format string, args ...any) *Error {
	return &Error{Status: status, Type: kind, Message: fmt.Sprintf(format, args...)}
}

// WithCode adds a code that programs recognize.
func (e *Error) WithCode(code string) *Error {
	e.Code = &code
	return e
}

// Invalid says what is wrong with a parameter.
func Invalid(param, format string, args ...any) *Error {
	e := Errorf(http.StatusBadRequest, InvalidRequest, "%s: %s", param, fmt.Sprintf(format, args...))
	e.Param = &param
	return e
}

// Model is an entry of /v1/models.
type Model struct {
	ID      string         `json:"id"`
	Object  string         `json:"object"`
	Created int64          `json:"created"`
	OwnedBy string         `json:"owned_by"`
	Meta    map[string]any `json:"meta,omitempty"`
}

// ModelList is the answer of /v1/models.
type ModelList struct {
	Object string  `json:"object"`
	Data   []Model `json:"data"`
}

// Usage counts tokens.
type Usage struct {
	PromptTokens        int           `json:"prompt_tokens"`
	CompletionTokens    int           `json:"completion_tokens"`
	TotalTokens         int           `json:"total_tokens"`
	PromptTokensDetails PromptDetails `json:"prompt_tokens_details"`
}

// PromptDetails says how much of a prompt need not be read again.
type PromptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// Response is a completion, whole or a chunk of a stream.
type Response struct {
	ID                string   `json:"id"`
	Object            string   `json:"object"`
	Created           int64    `json:"created"`
	Model             string   `json:"model"`
	SystemFingerprint string   `json:"system_fingerprint"`
	Choices           []Choice `json:"choices"`
	Usage             *Usage   `json:"usage,omitempty"`
	Timings           *Timings `json:"timings,omitempty"`
	// PromptProgress says how far the prompt is read, before the first token.
	PromptProgress *PromptProgress `json:"prompt_progress,omitempty"`
	// Triforce is there if the request asks for it.
	Triforce *Extra `json:"triforce,omitempty"`
}

// Choice is one of the answers. Text is of completions, Message of chats, Delta
// of their streams.
type Choice struct {
	Index        int             `json:"index"`
	Text         *string         `json:"text,omitempty"`
	Message      *Message        `json:"message,omitempty"`
	Delta        *Delta          `json:"delta,omitempty"`
	LogProbs     json.RawMessage `json:"logprobs"`
	FinishReason *string         `json:"finish_reason"`
}

// Message is an assistant's answer.
type Message struct {
	Role    string  `json:"role"`
	Content string  `json:"content"`
	Refusal *string `json:"refusal"`
}

// Delta is what a chunk adds to a message.
type Delta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

// TextLogProbs is the logprobs of a completion.
type TextLogProbs struct {
	Tokens        []string             `json:"tokens"`
	TokenLogProbs []float64            `json:"token_logprobs"`
	TopLogProbs   []map[string]float64 `json:"top_logprobs"`
	TextOffset    []int                `json:"text_offset"`
}

// ChatLogProbs is the logprobs of a chat.
type ChatLogProbs struct {
	Content []TokenLogProb `json:"content"`
}

// TokenLogProb is a token with those that were likely in its place.
type TokenLogProb struct {
	Token   string         `json:"token"`
	LogProb float64        `json:"logprob"`
	Bytes   []int          `json:"bytes"`
	Top     []TokenLogProb `json:"top_logprobs,omitempty"`
}

// Timings is how long things took, with the names that llama-server has for
// them. The draft's numbers are those of the topmost level; Levels has all.
type Timings struct {
	CacheN              int     `json:"cache_n"`
	PromptN             int     `json:"prompt_n"`
	PromptMS            float64 `json:"prompt_ms"`
	PromptPerTokenMS    float64 `json:"prompt_per_token_ms"`
	PromptPerSecond     float64 `json:"prompt_per_second"`
	PredictedN          int     `json:"predicted_n"`
	PredictedMS         float64 `json:"predicted_ms"`
	PredictedPerTokenMS float64 `json:"predicted_per_token_ms"`
	PredictedPerSecond  float64 `json:"predicted_per_second"`
	DraftN              *int    `json:"draft_n,omitempty"`
	DraftNAccepted      *int    `json:"draft_n_accepted,omitempty"`
	Levels              []Level `json:"levels,omitempty"`
}

// Level is what one level of speculation did.
type Level struct {
	Name                string  `json:"name"`
	Passes              int     `json:"passes"`
	Rows                int     `json:"rows"`
	Proposed            int     `json:"proposed"`
	Accepted            int     `json:"accepted"`
	AcceptedPerPosition []int   `json:"accepted_per_position"`
	MeanAcceptance      float64 `json:"mean_acceptance_length"`
	Seconds             float64 `json:"seconds"`
}

// Extra is what a chunk says beyond OpenAI's API.
type Extra struct {
	// Tokens are those of the chunk's text, with the level that first proposed
	// each.
	Tokens []OriginToken `json:"tokens,omitempty"`
}

// OriginToken is the text that a token completes and who proposed it.
type OriginToken struct {
	Text   string `json:"text"`
	Origin string `json:"origin"`
}

// PromptProgress counts tokens of a prompt, as llama-server does: Cached are of
// Processed, and Processed of Total.
type PromptProgress struct {
	Total     int   `json:"total"`
	Cached    int   `json:"cache"`
	Processed int   `json:"processed"`
	TimeMS    int64 `json:"time_ms"`
}
