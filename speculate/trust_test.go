package speculate

import (
	"context"
	"slices"
	"testing"

	"triforce/sample"
)

func TestTrust(t *testing.T) {
	tr := trust{prior: 0.9}
	leads := []float64{0, 0.1, 0.2, 0.3, 0.7, 1.5, 3, 9}
	for i := range leads[1:] {
		if tr.chance(leads[i]) > tr.chance(leads[i+1]) {
			t.Errorf("a lead of %v is trusted less than one of %v", leads[i+1], leads[i])
		}
	}
	if !near(tr.mean(), 0.9, 1e-12) {
		t.Errorf("on the mean %v at first", tr.mean())
	}
	for i := range 300 {
		tr.observe(0.3, i%4 == 0)
		tr.observe(5, true)
	}
	if !near(tr.chance(0.3), 0.25, 0.2) || tr.chance(5) < 0.97 {
		t.Errorf("learnt %v, %v and %v", tr.chance(0.3), tr.chance(5), tr.chance(1.5))
	}
	// That something seldom was not seen yet says little.
	seldom := trust{prior: 0.88}
	for range 100 {
		seldom.observe(5, true)
	}
	if c := seldom.chance(5); c < 0.994 || c > 0.998 {
		t.Errorf("%v after a hundred tokens without a rejection, where one in 170 was assumed", c)
	}
	// What is not seen is judged by how much worse the rest is than assumed.
	worse := trust{prior: 0.9}
	for range 30 {
		worse.observe(3, false)
	}
	if old := (&trust{prior: 0.9}).chance(0.7); worse.chance(0.7) > old-0.2 {
		t.Errorf("%v after many rejections of another lead, %v before", worse.chance(0.7), old)
	}
	if !near(tr.mean(), 0.625, 0.1) {
		t.Errorf("on the mean %v", tr.mean())
	}
}

// TestDraftEndsInDoubt: a draft ends after the first token that makes the next one
// too unlikely to be accepted, and what is learnt moves where that is.
func TestDraftEndsInDoubt(t *testing.T) {
	w := world{vocab: 9, seed: 4, scale: 3}
	d := New(Config{Name: "draft", Verifier: newFake(t, w, 1, 1), Prior: 0.8})
	r := request(Coupled, sample.Defaults())
	length := func(least float64) int {
		d.Reset(r)
		p, err := d.Draft(context.Background(), 20, Bar{More: least})
		if err != nil {
			t.Fatal(err)
		}
		n := len(p.Tokens)
		reach := 1.0
		for i, s := range d.steps[:n-1] {
			if reach *= d.trust.chance(s.lead); reach*d.trust.mean() < least {
				t.Errorf("least %v: %d tokens, though there was doubt after %d", least, n, i+1)
			}
		}
		if reach *= d.trust.chance(d.steps[n-1].lead); n < 20 && reach*d.trust.mean() >= least {
			t.Errorf("least %v: ends after %d tokens without doubt", least, n)
		}
		return n
	}
	all, some, one := length(0), length(0.3), length(2)
	if all != 20 || some <= 1 || some >= 20 || one != 1 {
		t.Errorf("drafts of %d, %d and %d tokens", all, some, one)
	}
	for range 50 { // every token is accepted
		n := length(0)
		d.Accept(len(d.history)-n, append([]int32(nil), d.history[len(d.history)-n:]...))
	}
	judged, trusted := 0, 0
	for g, n := range d.Stats().Judged {
		judged += n
		trusted += d.Stats().Trusted[g]
	}
	if judged != 20 || trusted != judged {
		t.Errorf("%d of %d tokens of the last draft accepted, want 20 of 20", trusted, judged)
	}
	if more := length(0.3); more <= some {
		t.Errorf("%d tokens at first, %d once all were accepted", some, more)
	}
	for _, rule := range []Rule{Coupled, Rejection} {
		d.trust = trust{prior: 0.8}
		d.Reset(request(rule, sample.Defaults()))
		p, err := d.Draft(context.Background(), 20, Bar{Keep: 0.3})
		if err != nil {
			t.Fatal(err)
		}
		reach, worth := 1.0, 0
		for _, s := range d.steps {
			if reach *= d.trust.chance(s.lead); reach >= 0.3 {
				worth++
			}
		}
		if rule == Rejection {
			worth = len(d.steps)
		}
		if len(d.steps) != 20 || len(p.Tokens) != worth || rule == Coupled && (worth == 0 || worth == 20) {
			t.Errorf("%v: of %d tokens %d are offered, %d are worth verifying", rule, len(d.steps), len(p.Tokens), worth)
		}
		d.Accept(len(d.history)-20, slices.Clone(d.history[len(d.history)-20:]))
		judged := 0
		for _, n := range d.Stats().Judged {
			judged += n
		}
		if judged != 20 {
			t.Errorf("%v: %d tokens judged, want also those left out", rule, judged)
		}
	}
}
