package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"triforce/engine"
	"triforce/internal/testutil/shared"
	"triforce/server/openai"
)

var (
	clients = flag.Int("clients", 12, "clients at the same time in TestManyClients")
	soak    = flag.Duration("soak", 3*time.Second, "how long they go on")
	seed    = flag.Uint64("seed", 1, "of what they do")

	benchModel = flag.String("bench-model", "", "the model of BenchmarkRequests, the embedded one if empty")
)

// start runs a server with the embedded pair, or the model at path.
func start(t testing.TB, path string, change func(*Options)) (*httptest.Server, *Server) {
	t.Helper()
	ctx := context.Background()
	o := engine.Defaults()
	o.Context = 4096
	e, err := engine.Open(ctx, path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	opt := Defaults()
	opt.Name = NameOf(e.File())
	if path == "" {
		d, err := engine.Open(ctx, engine.EmbeddedDraft, engine.Defaults())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Close() })
		if err := e.UseDraft(d); err != nil {
			t.Fatal(err)
		}
	}
	if change != nil {
		change(&opt)
	}
	if err := opt.Validate(); err != nil {
		t.Fatal(err)
	}
	s := New(e, opt)
	hs := httptest.NewServer(s)
	t.Cleanup(func() {
		hs.Close()
		s.Close()
	})
	return hs, s
}

// post sends a body and returns status and answer.
func post(t testing.TB, url, body string) (int, []byte) {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	answer, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, answer
}

// text is the first choice's.
func text(t testing.TB, answer []byte) string {
	t.Helper()
	var r openai.Response
	if err := json.Unmarshal(answer, &r); err != nil || len(r.Choices) == 0 || r.Choices[0].Text == nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return *r.Choices[0].Text
}

// inTestdata runs a command there: Python would take the folder openai of this
// package for its client.
func inTestdata(name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = "testdata"
	return cmd.CombinedOutput()
}

// The official clients run unchanged: see testdata.
func TestOfficialClients(t *testing.T) {
	for _, c := range []struct{ name, script, probe string }{
		{"python3", "client.py", "import openai"},
		{"node", "client.mjs", `require("openai")`},
	} {
		for _, model := range []string{"", "models/SmolLM2-135M-Instruct.Q4_1.gguf"} {
			t.Run(c.name+" "+model, func(t *testing.T) {
				flag, kind, path := "-c", "", model
				if c.name == "node" {
					flag = "-e"
				}
				if out, err := inTestdata(c.name, flag, c.probe); err != nil {
					t.Skipf("the openai client for %s is not installed: %s", c.name, bytes.TrimSpace(out[max(0, len(out)-200):]))
				}
				if model != "" {
					if testing.Short() {
						t.Skip("takes a while")
					}
					path, kind = shared.Path(t, model), "chat"
				}
				hs, _ := start(t, path, func(o *Options) { o.Key = "secret" })
				args := []string{c.script, hs.URL, "secret"}
				if kind != "" {
					args = append(args, kind)
				}
				if out, err := inTestdata(c.name, args...); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}

// Requests that make no sense are refused in OpenAI's form.
func TestRefusals(t *testing.T) {
	hs, _ := start(t, "", func(o *Options) { o.MaxBody, o.MaxTokens = 4096, 100 })
	for _, c := range []struct {
		path, body string
		status     int
		want       string
	}{
		{"/v1/completions", `{`, 400, "not the JSON"},
		{"/v1/completions", `{} x`, 400, "goes on"},
		{"/v1/completions", `{}`, 400, "prompt: expected"},
		{"/v1/completions", `{"prompt":7}`, 400, "prompt: expected"},
		{"/v1/completions", `{"prompt":[]}`, 200, ""},
		{"/v1/completions", `{"prompt":[5000]}`, 400, "expected 0 to 4095"},
		{"/v1/completions", `{"prompt":"a","max_tokens":101}`, 400, "--max-tokens"},
		{"/v1/completions", `{"prompt":"a","max_tokens":"5"}`, 400, "max_tokens: expected int"},
		{"/v1/completions", `{"prompt":"a","n":0}`, 400, "n: 0"},
		{"/v1/completions", `{"prompt":"a","stop":[""]}`, 400, "stop: expected"},
		{"/v1/completions", `{"prompt":"a","logprobs":99}`, 400, "logprobs: 99"},
		{"/v1/completions", `{"prompt":"a","stream_options":{}}`, 400, "needs stream"},
		{"/v1/completions", `{"prompt":"a","echo":true}`, 400, "not supported"},
		{"/v1/completions", `{"prompt":"` + strings.Repeat("a", 5000) + `"}`, 413, "--max-body"},
		{"/v1/chat/completions", `{"messages":[]}`, 400, "messages: expected"},
		{"/v1/chat/completions", `{"messages":[{"role":"tool","content":"x"}]}`, 400, "messages.0.role"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages.0.content"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}]}`, 400, "no chat template"},
		{"/v1/models", `{}`, 405, "takes GET"},
		{"/v1/nothing", `{}`, 404, "there is no"},
		{"/tokenize", `{"content":3}`, 400, "content: expected string"},
		{"/detokenize", `{"tokens":[-1]}`, 400, "tokens: token 0"},
	} {
		status, answer := post(t, hs.URL+c.path, c.body)
		if status != c.status || !strings.Contains(string(answer), c.want) {
			t.Errorf("%s %.60s: %d %s, expected %d with %q", c.path, c.body, status, answer, c.status, c.want)
		}
		var e openai.ErrorBody
		if status >= 400 && (json.Unmarshal(answer, &e) != nil || e.Error.Message == "" || e.Error.Type == "") {
			t.Errorf("%s: not an error of OpenAI's form: %s", c.body, answer)
		}
	}
}

// Pages from elsewhere may not call, unless they were allowed to.
func TestOrigins(t *testing.T) {
	hs, _ := start(t, "", func(o *Options) { o.Origins = []string{"https://friend.example"} })
	for origin, want := range map[string]int{"": 200, hs.URL: 200, "https://friend.example": 200, "https://foe.example": 403} {
		r, _ := http.NewRequest(http.MethodGet, hs.URL+"/v1/models", nil)
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("origin %q: status %d, expected %d", origin, resp.StatusCode, want)
		}
	}
}

// A full queue refuses; what waits is served in time.
func TestQueue(t *testing.T) {
	hs, s := start(t, "", func(o *Options) { o.Parallel, o.Queue = 1, 1 })
	var wait sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	for range 6 {
		wait.Go(func() {
			status, _ := post(t, hs.URL+"/v1/completions", `{"prompt":"Once","max_tokens":300,"ignore_eos":true}`)
			mu.Lock()
			statuses[status]++
			mu.Unlock()
		})
	}
	wait.Wait()
	if statuses[200] < 2 || statuses[503] == 0 || statuses[200]+statuses[503] != 6 {
		t.Errorf("statuses %v, expected some 200 and some 503", statuses)
	}
	if s.slots.running() != 0 || s.slots.waiting() != 0 {
		t.Errorf("%d running, %d waiting after all have ended", s.slots.running(), s.slots.waiting())
	}
}

// A request over its deadline ends with an error, and its slot is free.
func TestDeadline(t *testing.T) {
	hs, s := start(t, "", func(o *Options) { o.Timeout = 50 * time.Millisecond })
	status, answer := post(t, hs.URL+"/v1/completions", `{"prompt":"Once","max_tokens":3000,"ignore_eos":true}`)
	if status != http.StatusGatewayTimeout || !strings.Contains(string(answer), "--timeout") {
		t.Errorf("%d %s", status, answer)
	}
	if s.slots.running() != 0 {
		t.Error("the slot is still taken")
	}
}

// At its end, the server finishes what runs, refuses the rest, and keeps what it
// has read for the next one.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	for run := range 2 {
		_, s := start(t, "", func(o *Options) { o.CacheDir = dir })
		s.Restore(nil)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		hs := httptest.NewUnstartedServer(nil)
		url, ended := "http://"+hs.Listener.Addr().String(), make(chan error, 1)
		go func() { ended <- s.Serve(ctx, hs.Listener) }()
		prompt := strings.Repeat("Once upon a time there was a cat. ", 60)
		body := fmt.Sprintf(`{"prompt":%q,"max_tokens":200,"ignore_eos":true,"stream":true,"stream_options":{"include_usage":true}}`, prompt)
		r, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(r.Body)
		all := ""
		for lines.Scan() {
			all += lines.Text() + "\n"
			cancel()
		}
		r.Body.Close()
		if !strings.Contains(all, `"completion_tokens":200`) || !strings.Contains(all, "[DONE]") {
			t.Errorf("run %d: the stream was cut: %s", run, all[max(0, len(all)-300):])
		}
		if run == 1 && strings.Contains(all, `"cached_tokens":0}`) {
			t.Error("the second server knows nothing of what the first has read")
		}
		if err := <-ended; err != nil && err != http.ErrServerClosed {
			t.Error(err)
		}
	}
}

// A server that ends without a word has kept what it read before.
func TestKeepsOn(t *testing.T) {
	dir := t.TempDir()
	o := func(o *Options) { o.CacheDir = dir }
	_, s := start(t, "", o)
	ctx, cancel := context.WithCancel(context.Background())
	kept := s.keepOn(ctx)
	body := fmt.Sprintf(`{"prompt":%q,"max_tokens":2}`, strings.Repeat("Once upon a time there was a cat. ", 200))
	hs := httptest.NewServer(s)
	defer hs.Close()
	if status, answer := post(t, hs.URL+"/v1/completions", body); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	cancel()
	<-kept                      // a write under way is finished
	for len(s.keeper.due) > 0 { // the end came before its turn
		<-s.keeper.due
		if err := s.keep(); err != nil {
			t.Fatal(err)
		}
	}
	hs2, s2 := start(t, "", o)
	s2.Restore(nil)
	_, answer := post(t, hs2.URL+"/v1/completions", body)
	if strings.Contains(string(answer), `"cached_tokens":0}`) {
		t.Errorf("the second server knows nothing of what the first has read: %s", answer)
	}
}

// What users of llama-server send is understood.
func TestLlamaServerFields(t *testing.T) {
	hs, _ := start(t, "", nil)
	body := fmt.Sprintf(`{"prompt":%q,"n_predict":3,"repeat_last_n":-1,"repeat_penalty":1.1,"stream":true,"return_progress":true}`,
		strings.Repeat("Once upon a time there was a cat. ", 60))
	_, answer := post(t, hs.URL+"/v1/completions", body)
	var last *openai.PromptProgress
	for line := range strings.Lines(string(answer)) {
		var r openai.Response
		if data, ok := strings.CutPrefix(line, "data: {"); ok && json.Unmarshal([]byte("{"+data), &r) == nil && r.PromptProgress != nil {
			if p := r.PromptProgress; p.Cached > p.Processed || p.Processed >= p.Total || last != nil && p.Processed < last.Processed {
				t.Errorf("%+v after %+v", p, last)
			}
			last = r.PromptProgress
		}
	}
	if last == nil || last.Processed != last.Total-1 || !strings.Contains(string(answer), `"predicted_n":3`) {
		t.Errorf("progress %+v in %s", last, answer)
	}
	if r, err := http.Get(hs.URL + "/slots"); err != nil {
		t.Error(err)
	} else if all, _ := io.ReadAll(r.Body); !strings.Contains(string(all), `"is_processing":false,"n_ctx":4096`) {
		t.Errorf("slots: %s", all)
	}
	if status, answer := post(t, hs.URL+"/apply-template", `{"messages":[{"role":"user","content":"hi"}]}`); status != 400 || !strings.Contains(string(answer), "no_chat_template") {
		t.Errorf("%d %s", status, answer)
	}
	if testing.Short() {
		t.Skip("a larger model takes a while")
	}
	hs, _ = start(t, shared.Path(t, "models/SmolLM2-135M-Instruct.Q4_1.gguf"), nil)
	for body, want := range map[string]string{
		`{"messages":[{"role":"user","content":"hi"}]}`:  `<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"`,
		`{"messages":[{"role":"robot","content":"hi"}]}`: `messages.0.role`,
	} {
		_, answer := post(t, hs.URL+"/apply-template", body)
		if !strings.Contains(string(answer), want) {
			t.Errorf("%s: %s", body, answer)
		}
	}
}

// BenchmarkRequests is tokens a second of n plain requests at once.
func BenchmarkRequests(b *testing.B) {
	hs, _ := start(b, *benchModel, func(o *Options) { o.Parallel, o.Gen.Spec.Mode = 8, engine.SpecPlain })
	const tokens = 128
	body := fmt.Sprintf(`{"prompt":"Once upon a time","max_tokens":%d,"temperature":0,"ignore_eos":true}`, tokens)
	for _, n := range []int{1, 8} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			for b.Loop() {
				var wait sync.WaitGroup
				for range n {
					wait.Go(func() { post(b, hs.URL+"/v1/completions", body) })
				}
				wait.Wait()
			}
			b.ReportMetric(float64(n*tokens*b.N)/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}

// Many clients at once, some of which go away, read slowly or send nonsense: no
// goroutine and no page is lost, and every whole answer is that of the same
// request alone.
//
//	go test ./server -run TestManyClients -clients 64 -soak 2m
func TestManyClients(t *testing.T) {
	hs, s := start(t, "", func(o *Options) { o.Parallel, o.Queue = 8, 256 })
	var requests, alone []string
	r := rand.New(rand.NewPCG(*seed, 3))
	for i := range 24 {
		prompt := strings.Repeat("The old man went down to the sea. ", r.IntN(40)) + fmt.Sprint("Chapter ", i)
		body := fmt.Sprintf(`{"prompt":%q,"max_tokens":%d,"temperature":%v,"seed":%d,"ignore_eos":true}`, prompt, 1+r.IntN(60), 0.5*float64(r.IntN(3)), i)
		status, answer := post(t, hs.URL+"/v1/completions", body)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		requests, alone = append(requests, body), append(alone, text(t, answer))
	}
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(100 * time.Millisecond)
	before := runtime.NumGoroutine()
	until := time.Now().Add(*soak)
	var wait sync.WaitGroup
	var mu sync.Mutex
	counts := map[string]int{}
	for c := range *clients {
		wait.Go(func() {
			r := rand.New(rand.NewPCG(*seed, uint64(c)+100))
			for time.Now().Before(until) {
				i := r.IntN(len(requests))
				kind := []string{"whole", "whole", "stream", "slow", "gone", "bad"}[r.IntN(6)]
				switch kind {
				case "whole":
					status, answer := post(t, hs.URL+"/v1/completions", requests[i])
					if status != http.StatusOK {
						t.Errorf("%d %s", status, answer)
					} else if got := text(t, answer); got != alone[i] {
						t.Errorf("request %d: %q, alone %q\nreplay: -seed %d", i, got, alone[i], *seed)
					}
				case "bad":
					cut := requests[i][:r.IntN(len(requests[i]))]
					if status, answer := post(t, hs.URL+"/v1/completions", cut); status != http.StatusBadRequest {
						t.Errorf("%q: %d %s", cut, status, answer)
					}
				default:
					if got, err := stream(hs.URL, requests[i], kind, r); kind == "gone" {
					} else if err != nil || got != alone[i] {
						t.Errorf("request %d, %s: %q, alone %q: %v\nreplay: -seed %d", i, kind, got, alone[i], err, *seed)
					}
				}
				mu.Lock()
				counts[kind]++
				mu.Unlock()
			}
		})
	}
	wait.Wait()
	http.DefaultClient.CloseIdleConnections()
	for try := 0; ; try++ {
		u, now := s.batcher.CacheUse(), runtime.NumGoroutine()
		if s.slots.running() == 0 && s.slots.waiting() == 0 && u.Running == 0 && now <= before+2 {
			break
		}
		if try == 100 {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before %d; %d running, %d waiting, %+v\n%s",
				now, before, s.slots.running(), s.slots.waiting(), u, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("%v, %+v", counts, s.batcher.CacheUse())
}

// stream reads a request's stream, slowly or not to its end.
func stream(url, body, kind string, r *rand.Rand) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/completions", strings.NewReader(body[:len(body)-1]+`,"stream":true}`))
	if err != nil {
		return "", err
	}
	if kind == "gone" && r.IntN(2) == 0 {
		time.AfterFunc(time.Duration(r.IntN(30))*time.Millisecond, cancel)
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	got, lines := "", bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return got, nil
		}
		var chunk openai.Response
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return got, err
		}
		if len(chunk.Choices) > 0 {
			got += *chunk.Choices[0].Text
		}
		switch kind {
		case "slow":
			time.Sleep(time.Duration(r.IntN(10)) * time.Millisecond)
		case "gone":
			return got, nil
		}
	}
	return got, fmt.Errorf("the stream ended early: %w", lines.Err())
}

// Metrics have the names that others look for.
func TestMetrics(t *testing.T) {
	hs, _ := start(t, "", nil)
	post(t, hs.URL+"/v1/completions", `{"prompt":"Once upon a time","max_tokens":40,"temperature":0,"ignore_eos":true}`)
	r, err := http.Get(hs.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	all, _ := io.ReadAll(r.Body)
	for _, want := range []string{
		`vllm:num_requests_running{model_name="fable"} 0`, `vllm:num_requests_waiting{`, `vllm:kv_cache_usage_perc{`,
		`vllm:spec_decode_num_draft_tokens_total{level="target",`, `vllm:spec_decode_num_accepted_tokens_total{level="target",`,
		`vllm:spec_decode_num_accepted_tokens_per_pos_total{level="target",`, `vllm:time_to_first_token_seconds_count{model_name="fable"} 1`,
		`vllm:generation_tokens_total{model_name="fable"} 40`, `vllm:cache_config_info{block_size="256",`,
		`vllm:request_success_total{finished_reason="length",model_name="fable"} 1`,
	} {
		if !strings.Contains(string(all), want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
}

// The page needs nothing from elsewhere.
func TestPage(t *testing.T) {
	hs, _ := start(t, "", func(o *Options) { o.Key = "secret" })
	for _, path := range []string{"/", "/page.js", "/page.css"} {
		r, err := http.Get(hs.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %d, %d bytes", path, r.StatusCode, len(body))
		}
		for _, bad := range []string{"https://", "http://", "//cdn"} {
			if i := bytes.Index(body, []byte(bad)); i >= 0 && !bytes.HasPrefix(body[i:], []byte("http://www.w3.org/")) {
				t.Errorf("%s: refers to %.60s", path, body[i:])
			}
		}
	}
}

// A text is dropped on the page, asked about, and answered in colours, in a real
// browser: see testdata/page.mjs.
func TestPageInBrowser(t *testing.T) {
	browser := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil && browser == "" {
			browser = path
		}
	}
	if browser == "" {
		t.Skip("no Chromium is installed")
	}
	if _, err := inTestdata("node", "-e", `require("puppeteer-core")`); err != nil {
		t.Skipf("puppeteer-core for node is not installed (npm install puppeteer-core, NODE_PATH): %v", err)
	}
	hs, _ := start(t, "", func(o *Options) {
		o.Gen.Spec.Mode, o.Gen.Spec.Outer, o.Gen.Spec.Inner = engine.SpecTriForce, 6, 3
	})
	if out, err := inTestdata("node", "page.mjs", hs.URL, browser, t.TempDir()); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
