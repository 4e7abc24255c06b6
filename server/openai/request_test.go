package openai

import (
	"errors"
	"strings"
	"testing"
)

// Whatever a body holds, it is a request within the limits or an Error.
func FuzzRead(f *testing.F) {
	for _, body := range []string{
		`{"prompt":"Once","max_tokens":5,"n":2,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true}}`,
		`{"prompt":[1,2,3],"logprobs":5,"seed":-3,"temperature":0.5}`,
		`{"prompt":["a",[1]],"best_of":1,"echo":false,"triforce":{"origins":true}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"logprobs":true,"top_logprobs":3}`,
		`{"messages":[{"role":"system","content":null}],"max_completion_tokens":7,"response_format":{"type":"text"}}`,
		`{"prompt":null}`, `[]`, `null`, `{"n":1e99}`, `{"prompt":"\ud800"}`,
	} {
		f.Add(body, false)
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, chat bool) {
		q, err := Read(strings.NewReader(body), chat)
		var e *Error
		switch {
		case err != nil && (!errors.As(err, &e) || e.Status < 400 || e.Message == "" || e.Type == ""):
			t.Fatalf("%q: %v", body, err)
		case err != nil:
		case q.N < 1 || q.N > MaxChoices || len(q.Stop) > MaxStops || q.LogProbs > MaxLogProbs || q.MaxTokens < -1 ||
			chat && (len(q.Messages) == 0 || len(q.Prompts) > 0) || !chat && (len(q.Prompts) == 0 || len(q.Prompts) > MaxPrompts):
			t.Fatalf("%q: %+v", body, q)
		}
	})
}
