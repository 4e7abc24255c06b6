package engine

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// Sessions that run at once, each with a prompt, sampling and speculation of its
// own, write what each writes alone. Some are cancelled on the way; what they
// had written until then is right too.
func TestTogetherAsAlone(t *testing.T) {
	e, text := embeddedPair(t)
	rounds := 4
	if testing.Short() {
		rounds, text = 1, text[:1000]
	}
	for round := range rounds {
		seed := *seed + uint64(round)
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 77))
			b := e.NewBatcher(0)
			defer b.Close()
			type request struct {
				task
				spec      Spec
				predict   int
				cancel    int // tokens after which it is cancelled, or 0
				got, want []int32
			}
			var all []*request
			for range 3 + r.IntN(6) {
				q := &request{task: randomTask(r, text), spec: randomSpec(r), predict: 4 + r.IntN(40)}
				if r.IntN(4) == 0 {
					q.cancel = 1 + r.IntN(q.predict)
				}
				all = append(all, q)
			}
			write := func(s *Session, q *request, cancel int) []int32 {
				ctx, stop := context.WithCancel(context.Background())
				defer stop()
				g := GenDefaults()
				g.Predict, g.IgnoreEOS, g.Sample, g.Spec = q.predict, true, q.sample, q.spec
				var ids []int32
				_, err := s.Generate(ctx, q.prompt, g, func(tok Token) error {
					if tok.ID >= 0 {
						ids = append(ids, tok.ID)
					}
					if len(ids) == cancel {
						stop()
					}
					return nil
				})
				if err != nil && cancel == 0 {
					t.Errorf("seed %d: %v", seed, err)
				}
				return ids
			}
			for _, q := range all {
				q.spec.Accept = "coupled"
				plain := *q
				plain.spec = SpecDefaults()
				plain.spec.Mode = SpecPlain
				s := e.NewSession()
				q.want = write(s, &plain, 0)
				s.Close()
			}
			var wait sync.WaitGroup
			for _, q := range all {
				pause := time.Duration(r.IntN(20)) * time.Millisecond
				wait.Go(func() {
					time.Sleep(pause)
					s := b.NewSession()
					defer s.Close()
					q.got = write(s, q, q.cancel)
				})
			}
			wait.Wait()
			for i, q := range all {
				want := q.want
				if q.cancel > 0 && len(q.got) >= q.cancel {
					want = want[:len(q.got)]
				}
				if !slices.Equal(q.got, want) {
					t.Errorf("request %d of %d, prompt of %d, %s, cancelled at %d: wrote %v, alone %v\nreplay: go test ./engine -run TestTogetherAsAlone -seed %d",
						i, len(all), len(q.prompt), q.spec.Mode, q.cancel, q.got, want, seed)
				}
			}
			if b.active != 0 || len(b.awaited) != 0 {
				t.Errorf("%d sessions active and %d awaited after all have ended", b.active, len(b.awaited))
			}
		})
	}
}

// A session that does not come back is not waited for: the others go on.
func TestAbsentSession(t *testing.T) {
	e, text := embeddedPair(t)
	b := e.NewBatcher(0)
	defer b.Close()
	text = text[:200]
	hang, away := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		s := b.NewSession()
		defer s.Close()
		n := 0
		_, err := s.Generate(context.Background(), text, greedy(3), func(Token) error {
			if n++; n == 1 {
				close(away)
				<-hang
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-away
	s := b.NewSession()
	defer s.Close()
	ids := 0
	if _, err := s.Generate(context.Background(), text[:100], greedy(20), func(Token) error { ids++; return nil }); err != nil || ids < 20 {
		t.Errorf("%d tokens beside a session that hangs: %v", ids, err)
	}
	close(hang)
	wait.Wait()
}

var (
	batchModel = flag.String("batch-model", "", "the model of BenchmarkTogether, the embedded one if empty")
	again      = flag.Int("again", 0, "tokens of the text of TestAskAgain")
)

// BenchmarkTogether is tokens a second of n sessions at once, plain decoding.
func BenchmarkTogether(b *testing.B) {
	e := open(b, *batchModel, func(o *Options) { o.Context = 1024 })
	batcher := e.NewBatcher(0)
	defer batcher.Close()
	prompt := e.file.Encode("Once upon a time there was a little girl who lived at the edge of a forest.")
	o := greedy(48)
	o.Spec.Mode = SpecPlain
	for _, n := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			var sessions []*Session
			for range n {
				sessions = append(sessions, batcher.NewSession())
			}
			var spent time.Duration
			for b.Loop() {
				for _, s := range sessions {
					s.tokens = s.tokens[:0]
				}
				start := time.Now()
				var wait sync.WaitGroup
				for _, s := range sessions {
					wait.Go(func() {
						if _, err := s.Generate(context.Background(), prompt, o, func(Token) error { return nil }); err != nil {
							b.Error(err)
						}
					})
				}
				wait.Wait()
				spent += time.Since(start)
			}
			b.ReportMetric(float64(n*o.Predict*b.N)/spent.Seconds(), "tokens/s")
		})
	}
}
