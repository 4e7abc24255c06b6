package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"triforce/engine"
)

// metrics are what /metrics shows: vLLM's names where the meaning is the same,
// so that dashboards and the Gateway API's endpoint picker find them. The counts
// of speculation have a level beside.
type metrics struct {
	registry                         *prometheus.Registry
	queueTime, firstToken, tokenTime prometheus.Histogram
	promptTime, decodeTime, latency  prometheus.Histogram
	prompt, generated                prometheus.Counter
	prefixQueries, prefixHits        prometheus.Counter
	ended, refused                   *prometheus.CounterVec
	drafts, proposed, accepted       *prometheus.CounterVec
	acceptedAt                       *prometheus.CounterVec
}

// seconds are the bounds of histograms of whole requests.
var seconds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800}

func newMetrics(s *Server) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	labels := prometheus.Labels{"model_name": s.o.Name}
	add := func(c prometheus.Collector) { m.registry.MustRegister(c) }
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, ConstLabels: labels, Buckets: buckets})
		add(h)
		return h
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
		add(c)
		return c
	}
	vec := func(name, help string, by ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, by)
		add(c)
		return c
	}
	gauge := func(name, help string, value func() float64) {
		add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	short := prometheus.ExponentialBuckets(0.0001, 2, 16)
	m.queueTime = histogram("vllm:request_queue_time_seconds", "Time a request waited for a slot.", seconds)
	m.firstToken = histogram("vllm:time_to_first_token_seconds", "Time from a request's arrival to its first token.", seconds)
	m.tokenTime = histogram("vllm:inter_token_latency_seconds", "Time between tokens of a request.", short)
	m.promptTime = histogram("vllm:request_prefill_time_seconds", "Time to read a prompt.", seconds)
	m.decodeTime = histogram("vllm:request_decode_time_seconds", "Time to generate after the prompt.", seconds)
	m.latency = histogram("vllm:e2e_request_latency_seconds", "Time from a request's arrival to its end.", seconds)
	m.prompt = counter("vllm:prompt_tokens_total", "Tokens of prompts, cached ones included.")
	m.generated = counter("vllm:generation_tokens_total", "Tokens generated.")
	m.prefixQueries = counter("vllm:prefix_cache_queries_total", "Tokens of prompts that were looked up in the prefix cache.")
	m.prefixHits = counter("vllm:prefix_cache_hits_total", "Tokens of prompts that were found there.")
	m.ended = vec("vllm:request_success_total", "Requests that ended, by why.", "finished_reason")
	m.refused = vec("triforce_requests_refused_total", "Requests refused, by HTTP status.", "status")
	m.drafts = vec("vllm:spec_decode_num_drafts_total", "Proposals made to a level.", "level")
	m.proposed = vec("vllm:spec_decode_num_draft_tokens_total", "Tokens proposed to a level.", "level")
	m.accepted = vec("vllm:spec_decode_num_accepted_tokens_total", "Tokens proposed to a level that it accepted.", "level")
	m.acceptedAt = vec("vllm:spec_decode_num_accepted_tokens_per_pos_total", "Accepted tokens by position in the proposal.", "level", "position")
	gauge("vllm:num_requests_running", "Requests that have a slot.", func() float64 { return float64(s.slots.running()) })
	gauge("vllm:num_requests_waiting", "Requests that wait for a slot.", func() float64 { return float64(s.slots.waiting()) })
	use := func(of func(engine.CacheUse) int) func() float64 {
		return func() float64 {
			u := s.batcher.CacheUse()
			return float64(of(u)) / float64(max(u.Limit, 1))
		}
	}
	gauge("vllm:kv_cache_usage_perc", "Part of the cache memory that running requests hold (1 = all).",
		use(func(u engine.CacheUse) int { return u.Running }))
	gauge("triforce_cache_remembered_perc", "Part of the cache memory that holds texts, running or remembered (1 = all).",
		use(func(u engine.CacheUse) int { return u.Holding }))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vllm:cache_config_info", Help: "The size of the cache, in its labels.",
		ConstLabels: prometheus.Labels{"model_name": s.o.Name,
			"block_size": strconv.Itoa(s.batcher.CacheUse().PageTokens), "num_gpu_blocks": strconv.Itoa(s.batcher.CacheUse().Limit)}})
	info.Set(1)
	add(info)
	add(collectors.NewGoCollector())
	add(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// level counts what a level did for a request.
func (m *metrics) level(name string, drafts, proposed, accepted int, at []int) {
	m.drafts.WithLabelValues(name).Add(float64(drafts))
	m.proposed.WithLabelValues(name).Add(float64(proposed))
	m.accepted.WithLabelValues(name).Add(float64(accepted))
	for i, n := range at {
		m.acceptedAt.WithLabelValues(name, strconv.Itoa(i)).Add(float64(n))
	}
}

// finished counts a choice that has ended.
func (m *metrics) finished(r *engine.Result, err error, total time.Duration) {
	why := finish(r.Stop)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		why = "timeout"
	case errors.Is(err, context.Canceled):
		why = "abort"
	case err != nil:
		why = "error"
	}
	m.ended.WithLabelValues(why).Inc()
	m.prompt.Add(float64(r.Prompt))
	m.prefixQueries.Add(float64(r.Prompt))
	m.prefixHits.Add(float64(r.Cached))
	m.generated.Add(float64(r.Predicted))
	m.promptTime.Observe(r.PromptTime.Seconds())
	m.decodeTime.Observe(r.PredictTime.Seconds())
	m.latency.Observe(total.Seconds())
}
