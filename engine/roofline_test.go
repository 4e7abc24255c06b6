package engine

import (
	"context"
	"errors"
	"slices"
	"testing"

	"triforce/internal/cpu"
	"triforce/internal/kernel"
	"triforce/internal/par"
)

func TestMultiply(t *testing.T) {
	m := Roofline{Read: 100, Products: 10, Attention: 20}
	if got := m.Multiply(Work{Weights: 1000, Products: 30, Attention: 20}); got != 4 {
		t.Errorf("%v seconds, expected 4", got)
	}
}

// The embedded model: 6 layers of 256 with 4 heads of 64 and an output head of
// 4,096 rows.
func TestWork(t *testing.T) {
	e := open(t, "", func(o *Options) { o.Context = 1024 })
	one, some := e.Work(500, 1), e.Work(500, 3)
	if one.Weights != e.WeightBytes() || some.Weights != one.Weights {
		t.Errorf("weights %d and %d, expected %d", one.Weights, some.Weights, e.WeightBytes())
	}
	if some.Products != 3*one.Products || one.Products <= 4096*256 {
		t.Errorf("products of one row %d, of three %d", one.Products, some.Products)
	}
	if want := int64(2 * 6 * 256); one.Attention != want*501 || some.Attention != want*(501+502+503) {
		t.Errorf("attention of one row %d, of three %d", one.Attention, some.Attention)
	}
	// A byte for each element of a key or value, and the scales of both.
	if want := int64(6 * 4 * (2*64 + 8) * 501); one.KV != want {
		t.Errorf("%d bytes of keys and values, expected %d", one.KV, want)
	}
	e.model.Window = 100
	defer func() { e.model.Window = 0 }()
	if got := e.Work(500, 3); got.Attention != 2*6*256*300 || got.KV != 6*4*(2*64+8)*102 {
		t.Errorf("with a window of 100: %+v", got)
	}
}

func TestTimePasses(t *testing.T) {
	e := open(t, "", func(o *Options) { o.Context, o.Threads = 300, 1 })
	text := make([]int32, 264)
	for name, text := range map[string][]int32{"noise": nil, "text": text} {
		s := e.NewSession()
		for _, depth := range []int{0, 100, 260} {
			var done []int
			read := 0
			times, err := s.TimePasses(context.Background(), text, depth, []int{1, 4}, 2, func(stage string, d, total int) {
				if stage == "reading" {
					read = total
					return
				}
				if total != 4 {
					t.Errorf("%s: of %d passes", name, total)
				}
				done = append(done, d)
			})
			if err != nil || len(times) != 2 || !slices.Equal(done, []int{2, 4}) || s.cache.Len() != depth {
				t.Fatalf("%s: %v, progress %v, %d in the cache, %v", name, times, done, s.cache.Len(), err)
			}
			if want := map[int]int{0: 0, 100: 100, 260: 160}[depth]; text != nil && read != want {
				t.Errorf("read %d tokens before %d, expected %d", read, depth, want)
			}
			for _, times := range times {
				if len(times.Pass) != 2 || len(times.Read) != 2 || len(times.Loop) != 2 || min(times.Pass[0], times.Read[0], times.Loop[0]) <= 0 {
					t.Errorf("%s: samples %+v", name, times)
				}
			}
		}
		s.Close()
	}
	s := e.NewSession()
	defer s.Close()
	if _, err := s.TimePasses(context.Background(), nil, 0, []int{maxLogits + 1}, 1, nil); !errors.Is(err, ErrUsage) {
		t.Errorf("too many rows: %v", err)
	}
	if _, err := s.TimePasses(context.Background(), nil, 299, []int{2}, 1, nil); !errors.Is(err, ErrContext) {
		t.Errorf("beyond the context: %v", err)
	}
	if _, err := s.TimePasses(context.Background(), text, 261, []int{4}, 1, nil); !errors.Is(err, ErrUsage) {
		t.Errorf("beyond the text: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.TimePasses(ctx, nil, 100, []int{1}, 1, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestRoofline(t *testing.T) {
	e := open(t, "", func(o *Options) { o.Context, o.Threads = 64, 2 })
	m := e.Roofline()
	if m.ReadOne <= 0 || m.Read <= 0 || m.Products <= 0 || m.Attention <= 0 || m.Loop <= 0 {
		t.Errorf("%+v", m)
	}
}

// A meter reads no more than it has, and says how long all would take.
func TestMeter(t *testing.T) {
	team := par.NewTeam(2)
	defer team.Close()
	m := newMeter(kernel.For(cpu.Best()), team, 1<<20)
	m.read(1 << 20)
	if sums := m.sums[0][0] + m.sums[1][0]; sums != 1<<20/64 {
		t.Errorf("read %d lines, expected %d", sums, 1<<20/64)
	}
	if m.read(1<<30) < m.read(1<<10) {
		t.Error("more bytes take less time")
	}
}
