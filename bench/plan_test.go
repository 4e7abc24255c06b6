package bench

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"triforce/engine"
)

func TestTokens(t *testing.T) {
	if got := tokens(3, 0.5); got != 1.875 {
		t.Errorf("%v", got)
	}
	// Proposals that cost nothing are worth as many as there may be.
	if rate, n := best(1, 0, func(int) float64 { return 2 }); n != 32 || rate != 16.5 {
		t.Errorf("%d, %v", n, rate)
	}
	if _, n := best(0.5, 0, func(n int) float64 { return 1 + float64(n) }); n != 1 {
		t.Errorf("dear proposals: %d", n)
	}
	if rate, n := best(1, 4, func(n int) float64 { return 1 }); n != 4 || rate != 5 {
		t.Errorf("%d, %v", n, rate)
	}
}

func TestPlan(t *testing.T) {
	open := func(path string) *engine.Shape {
		s, err := engine.OpenShape(path, "")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	o := PlanOptions{Target: open(""), Draft: open(engine.EmbeddedDraft), Engine: engine.Defaults(), Depths: []int{0, 600}, Predict: 8,
		Spec: engine.SpecDefaults(), View: 0.9, Drafted: 0.5, Command: "plan"}
	o.Engine.Threads = 1
	p, err := NewPlanner(o)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := p.Rows(context.Background(), nil)
	if err != nil || len(rows) != 8 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for i := range rows {
		r := &rows[i]
		if r.PredictedTS <= 0 || r.Ratio <= 0 || r.LimitTS <= 0 || r.OfLimit <= 0 || (r.Mode == engine.SpecPlain) != (r.Ratio == 1 && r.Accepted == 0) {
			t.Errorf("%+v", r)
		}
		if r.Mode == engine.SpecTriForce && (r.Accepted != 0.9 || r.MeanLength <= 1 || r.Budget != 512) {
			t.Errorf("%+v", r)
		}
	}
	var b bytes.Buffer
	if err := Write(&b, "md", rows); err != nil || !strings.Contains(b.String(), "90% acceptance") || strings.Contains(b.String(), "min–max)  ") && strings.Contains(b.String(), "tokens/s (") {
		t.Errorf("%v\n%s", err, b.String())
	}

	measured := sampleRows()
	for range 2 {
		if err := p.Near(context.Background(), 600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range measured {
		measured[i].Depth = 600
		p.Beside(&measured[i])
	}
	if measured[0].PredictedTS != 0 || measured[1].PredictedTS <= 0 || measured[2].PredictedTS <= 0 {
		t.Errorf("predictions %v, %v, %v", measured[0].PredictedTS, measured[1].PredictedTS, measured[2].PredictedTS)
	}
	far := sampleRows()[1] // at another depth
	if p.Beside(&far); far.PredictedTS != 0 {
		t.Errorf("a prediction of %v for a depth that was not timed", far.PredictedTS)
	}
	for _, change := range []func(*PlanOptions){func(o *PlanOptions) { o.View = 0 }, func(o *PlanOptions) { o.Drafted = 1.1 }, func(o *PlanOptions) { o.View = math.NaN() }, func(o *PlanOptions) { o.Depths = nil }} {
		bad := o
		change(&bad)
		if _, err := NewPlanner(bad); !errors.Is(err, engine.ErrUsage) {
			t.Error(err)
		}
	}
}

func TestAccuracy(t *testing.T) {
	rows := []Row{{PredictedTS: 2}, {MedianTS: 3}, {Setting: Setting{Test: "tg1", Mode: "plain"}, PredictedTS: 3, MedianTS: 2}, {PredictedTS: 1, MedianTS: 1}, {PredictedTS: 0.9, MedianTS: 1}}
	want := "predictions are off the measured speeds by 10% in the median, at most 50% (tg1 plain)"
	if got := accuracy(rows); len(got) != 1 || got[0] != want {
		t.Errorf("%q", got)
	}
	if accuracy(rows[:2]) != nil {
		t.Error("nothing was both measured and predicted")
	}
}
