package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"triforce/engine"
	"triforce/server"
)

type serveOptions struct {
	Sys     *System
	Model   modelOptions
	Draft   string
	Server  server.Options
	Host    string
	Port    int
	KeyFile string
	CacheMB int64
	LogJSON bool
}

// keyVariable is the environment variable that holds the API key.
const keyVariable = "TRIFORCE_API_KEY"

func newServe(sys *System, run func(context.Context, *serveOptions) error) *cobra.Command {
	o := &serveOptions{Sys: sys, Model: modelDefaults(sys), Server: server.Defaults()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer requests over HTTP, as OpenAI's API does, with a page for people",
		Long: `Answer requests over HTTP: OpenAI's completions and chats, llama-server's
/tokenize, /detokenize, /apply-template, /props and /slots, /metrics for Prometheus, and a page
for people at /. Requests that come at the same time share passes over the
model; each gets the tokens that it would get alone.

It listens on this machine only, unless --host says otherwise. With
` + keyVariable + ` or --api-key-file set, requests need that key. An interrupt or SIGTERM
lets running requests finish.`,
		Example: `  triforce serve
  triforce serve -m model.gguf -c 32768 --parallel 8
  TRIFORCE_API_KEY=secret triforce serve --host 0.0.0.0 --port 8000
  curl localhost:8080/v1/completions -d '{"prompt": "Once upon a time", "max_tokens": 50}'`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Draft = cmp.Or(o.Draft, sys.recordedDraft(o.Model.Path))
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			return run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.Host, "host", "127.0.0.1", "`address` to listen on")
	f.IntVarP(&o.Port, "port", "p", 8080, "`port` to listen on, 0 = any free one")
	o.Model.bindRun(f)
	o.Model.bindBatch(f, " of a request")
	f.StringVarP(&o.Draft, "draft", "d", "", "draft model: `file` or pulled name, or none (default: the one that belongs to the model)")
	s := &o.Server
	f.StringVar(&s.Name, "name", "", "`name` of the model in the API (default: its file's)")
	f.StringSliceVar(&s.Aliases, "alias", nil, "more `names` of the model")
	f.IntVar(&s.Parallel, "parallel", s.Parallel, "`requests` that generate at the same time")
	f.IntVar(&s.Queue, "queue", s.Queue, "`requests` that may wait besides; further ones are refused")
	f.Int64Var(&o.CacheMB, "cache-ram", 0, "memory of caches in `MiB`, for running requests and for texts to come back to (0 = as fits)")
	f.StringVar(&s.CacheDir, "cache-dir", "", "`folder` in which to keep what was read over restarts")
	f.IntVarP(&s.MaxTokens, "max-tokens", "n", s.MaxTokens, "most `tokens` that a request may generate, and its share if it does not say")
	f.Int64Var(&s.MaxBody, "max-body", s.MaxBody, "largest request in `bytes`")
	f.DurationVar(&s.Timeout, "timeout", s.Timeout, "longest `time` of a request, 0 = any")
	f.DurationVar(&s.WriteTimeout, "write-timeout", s.WriteTimeout, "longest `time` that a client may take nothing")
	f.DurationVar(&s.Drain, "drain", s.Drain, "`time` for running requests at the end")
	f.StringVar(&o.KeyFile, "api-key-file", "", "`file` with the key that requests must have (or the variable "+keyVariable+")")
	f.StringSliceVar(&s.Origins, "cors", nil, "web `origins` that may call besides the server's own page, * = all")
	f.BoolVar(&o.LogJSON, "log-json", false, "log as JSON")
	g := &s.Gen.Sample
	f.Float64Var(&g.Temp, "temp", g.Temp, "temperature of requests that do not say; 0 takes the most probable token")
	f.IntVar(&g.TopK, "top-k", g.TopK, "the same for sampling from the `k` most probable tokens, 0 = all")
	f.Float64Var(&g.TopP, "top-p", g.TopP, "the same for the fewest tokens with this probability, 1 = all")
	f.Float64Var(&g.MinP, "min-p", g.MinP, "the same for the least probability relative to the best token")
	bindSpec(f, &s.Gen.Spec)
	return cmd
}

// check finds flags that contradict each other or would do nothing.
func (o *serveOptions) check(f *pflag.FlagSet) error {
	if o.CacheMB < 0 || o.CacheMB > 1<<30 {
		return usagef("--cache-ram %d: expected 0 to %d MiB", o.CacheMB, 1<<30)
	}
	o.Server.CacheBytes = o.CacheMB << 20
	if err := o.Server.Validate(); err != nil {
		return err
	}
	mode := o.Server.Gen.Spec.Mode
	if (mode == engine.SpecDraft || mode == engine.SpecTriForce) && o.draftOptions().draftPath() == "" {
		return usagef("--spec %s needs a draft model; name one with --draft (-d)", mode)
	}
	if idle := idleSpecFlags(f, mode); idle != "" {
		return usagef("no effect with --spec %s: %s", mode, idle)
	}
	if o.Port < 0 || o.Port > 65535 {
		return usagef("--port %d: expected 0 to 65535", o.Port)
	}
	return nil
}

// draftOptions is what finds and loads the draft.
func (o *serveOptions) draftOptions() *generateOptions {
	return &generateOptions{Sys: o.Sys, Model: o.Model, Draft: o.Draft, Gen: o.Server.Gen}
}

// key reads the API key; there is none if neither file nor variable has one.
func (o *serveOptions) key() (string, error) {
	if o.KeyFile == "" {
		return o.Sys.Getenv(keyVariable), nil
	}
	f, err := os.Open(o.KeyFile)
	if err != nil {
		return "", usagef("--api-key-file: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 1<<12))
	key := strings.TrimSpace(string(text))
	if err != nil || key == "" {
		return "", usagef("--api-key-file %s: expected a key, found nothing (%v)", o.KeyFile, err)
	}
	return key, nil
}

func runServe(ctx context.Context, o *serveOptions) error {
	var err error
	if o.Server.Key, err = o.key(); err != nil {
		return err
	}
	// The port first: what is taken is known before the weights are read.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o.Host, fmt.Sprint(o.Port)))
	if err != nil {
		return fmt.Errorf("%w; choose another with --host and --port", err)
	}
	defer listener.Close()
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	e, err := o.Model.load(ctx, o.Sys, file)
	if err != nil {
		return err
	}
	defer e.Close()
	draft, err := o.draftOptions().loadDraft(ctx, e)
	if err != nil {
		return err
	}
	if draft != nil {
		defer draft.Close()
	}
	o.Server.Log = o.log()
	o.Server.Now = o.Sys.Now
	if o.Server.Name == "" {
		o.Server.Name = server.NameOf(file)
	}
	o.Server.Version = "triforce"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		o.Server.Version += " " + info.Main.Version
	}
	s := server.New(e, o.Server)
	defer s.Close()
	bar := o.Sys.progress("restoring")
	s.Restore(bar.tokens)
	bar.done()
	if host, _, _ := net.SplitHostPort(listener.Addr().String()); o.Server.Key == "" && !net.ParseIP(host).IsLoopback() {
		o.Sys.warn("whoever reaches %s may use this server: set %s or --api-key-file", listener.Addr(), keyVariable)
	}
	o.Sys.note("%s: %s, context %s, %d slots", file.Name(), e.Options(), grouped(e.Options().Context), o.Server.Parallel)
	fmt.Fprintf(o.Sys.Err, "listening on http://%s\n", listener.Addr())
	return s.Serve(ctx, listener)
}

func (o *serveOptions) log() *slog.Logger {
	if o.LogJSON {
		return slog.New(slog.NewJSONHandler(o.Sys.Err, nil))
	}
	return slog.New(slog.NewTextHandler(o.Sys.Err, nil))
}
