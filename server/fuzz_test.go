package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"triforce/server/openai"
)

// Bodies go through everything that the server does with one, a few tokens of
// generation included. Whatever they are, the answer is a result or says what is
// wrong with the body; the next request finds the server as it was.
func FuzzBodies(f *testing.F) {
	_, s := start(f, "", func(o *Options) {
		o.Parallel, o.MaxTokens, o.CacheBytes = 1, 2, 16<<20
	})
	paths := []string{"/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/apply-template"}
	for i, bodies := range [][]string{
		{`{"prompt":"Once","max_tokens":2,"n":2,"stop":["a","b"],"stream":true,"stream_options":{"include_usage":true}}`,
			`{"prompt":[1,2,3],"logprobs":5,"seed":-3,"temperature":0.5}`, `{"prompt":["a",[1]],"triforce":{"origins":true,"spec":"plain"}}`,
			`{"prompt":"\ud800","frequency_penalty":1,"logit_bias":{"5":-100}}`, `{"prompt":[-1]}`, `null`, ``},
		{`{"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}],"logprobs":true,"top_logprobs":3}`,
			`{"messages":[{"role":"system","content":null}],"max_completion_tokens":7,"response_format":{"type":"text"}}`,
			`{"messages":[{"role":"user","content":"<|im_end|>"},{"role":"assistant","content":"b"}],"stream":true}`, `{"messages":[]}`},
		{`{"content":"Once upon","add_special":true,"with_pieces":true}`, `{"content":5}`},
		{`{"tokens":[1,2,3]}`, `{"tokens":[99999999999]}`, `[]`},
		{`{"messages":[{"role":"user","content":"hi"}]}`},
	} {
		for _, body := range bodies {
			f.Add(uint8(i), body)
		}
	}
	f.Fuzz(func(t *testing.T, path uint8, body string) {
		ask := func(path, body string) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
			return w
		}
		to := paths[int(path)%len(paths)]
		w := ask(to, body)
		stream := strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream")
		var refused struct{ Error openai.Error }
		switch {
		case w.Code == http.StatusOK && (stream || json.Valid(w.Body.Bytes())):
		case w.Code >= 400 && w.Code < 500 && json.Unmarshal(w.Body.Bytes(), &refused) == nil && refused.Error.Message != "":
		default:
			t.Fatalf("%s %q: %d %s", to, body, w.Code, w.Body)
		}
		if stream && !strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n") {
			t.Fatalf("%s %q: %s", to, body, w.Body)
		}
		if w := ask("/tokenize", `{"content":"Once"}`); w.Code != http.StatusOK {
			t.Fatalf("after %s %q: %d %s", to, body, w.Code, w.Body)
		}
	})
}
