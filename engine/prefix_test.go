package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"triforce/internal/kernel"
)

// write returns what a session generates, and how much of the prompt it knew.
func write(t *testing.T, s *Session, prompt []int32, o GenOptions) ([]int32, Result) {
	t.Helper()
	var ids []int32
	r, err := s.Generate(context.Background(), prompt, o, func(tok Token) error {
		if tok.ID >= 0 {
			ids = append(ids, tok.ID)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return ids, r
}

// Sessions that begin with what others have read, in memory so short that it is
// forgotten all the time, write what they write alone. In the end no page is
// lost.
func TestSharedBeginnings(t *testing.T) {
	e, text := embeddedPair(t)
	n := 40
	if testing.Short() {
		n = 8
	}
	r := rand.New(rand.NewPCG(*seed, 5))
	const pages, workers = 14, 3
	b := e.NewBatcher(pages * e.pageBytes())
	defer b.Close()
	type request struct {
		prompt []int32
		o      GenOptions
		want   []int32
	}
	var all []request
	for range n {
		// Most follow one of two texts for a while and then leave it.
		from := r.IntN(2) * 90
		prompt := slices.Clone(text[from : from+1+r.IntN(700)])
		for range r.IntN(40) {
			prompt = append(prompt, int32(r.IntN(300)))
		}
		o := greedy(1 + r.IntN(30))
		o.Spec = randomSpec(r)
		if r.IntN(2) == 0 {
			o.Sample.Temp, o.Sample.Seed = 0.8, r.Uint64()
		}
		plain := o
		plain.Spec = SpecDefaults()
		plain.Spec.Mode = SpecPlain
		all = append(all, request{prompt, o, generate(t, e, prompt, plain)})
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	hits := 0
	for w := range workers {
		wait.Go(func() {
			s := b.NewSession()
			defer s.Close()
			for i := w; i < n; i += workers {
				got, result := write(t, s, all[i].prompt, all[i].o)
				if !slices.Equal(got, all[i].want) {
					t.Errorf("request %d, prompt of %d of which %d were known, %s: wrote %v, alone %v\nreplay: go test ./engine -run TestSharedBeginnings -seed %d",
						i, len(all[i].prompt), result.Cached, all[i].o.Spec.Mode, got, all[i].want, *seed)
				}
				mu.Lock()
				hits += result.Cached
				mu.Unlock()
				s.Forget()
			}
		})
	}
	wait.Wait()
	u := b.CacheUse()
	remembered := 0
	var count func(*node)
	count = func(at *node) {
		for _, child := range at.below {
			remembered++
			if len(child.tokens) > kernel.Tile || len(child.tokens) < kernel.Tile && len(child.below) > 0 {
				t.Errorf("a node of %d tokens has %d below it", len(child.tokens), len(child.below))
			}
			count(child)
		}
	}
	count(&b.kept.root)
	if u.Running != 0 || u.Holding != remembered || u.Holding > pages || hits == 0 {
		t.Errorf("%+v with %d pages remembered, %d tokens of prompts known", u, remembered, hits)
	}
	for b.kept.evict() {
	}
	if u := b.CacheUse(); u.Holding != 0 {
		t.Errorf("after all is forgotten: %+v", u)
	}
}

// What does not fit is refused with ErrMemory, and the memory is whole again.
func TestMemoryCeiling(t *testing.T) {
	e, text := embeddedPair(t)
	b := e.NewBatcher(3 * e.pageBytes())
	defer b.Close()
	s := b.NewSession()
	defer s.Close()
	_, err := s.Generate(context.Background(), text[:800], greedy(2), func(Token) error { return nil })
	if !errors.Is(err, ErrMemory) {
		t.Fatalf("800 tokens in 768: %v", err)
	}
	s.Forget()
	if ids, _ := write(t, s, text[:300], greedy(5)); !slices.Equal(ids, generate(t, e, text[:300], greedy(5))) {
		t.Error("other tokens after a refusal")
	}
}

func allPages(int) (func(), bool) { return func() {}, true }

// Texts that share their beginning do not have it in a file each, and a text
// that cannot be written takes no other's file away.
func TestCacheFilesOfOneText(t *testing.T) {
	e, text := embeddedPair(t)
	b := e.NewBatcher(40 * e.pageBytes())
	defer b.Close()
	s := b.NewSession()
	defer s.Close()
	dir := t.TempDir()
	files := func() []string {
		list, err := filepath.Glob(filepath.Join(dir, "*", "*"+snapshotEnd))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	ask := func(n int, question ...int32) {
		s.Forget()
		write(t, s, slices.Concat(text[:n], question), greedy(3))
	}
	save := func(reserve func(int) (func(), bool), want int) []string {
		t.Helper()
		if err := b.SaveCache(dir, reserve); err != nil {
			t.Fatal(err)
		}
		list := files()
		if len(list) != want {
			t.Errorf("%d files, expected %d", len(list), want)
		}
		return list
	}
	ask(900, 5)
	first := save(allPages, 1)
	ask(900, 6)
	ask(900, 7, 8)
	if second := save(allPages, 1); !slices.Equal(first, second) {
		t.Errorf("the file %v became %v, though no page was filled", first, second)
	}
	ask(1300)
	held := 0
	save(func(pages int) (func(), bool) { held = pages; return nil, false }, 1)
	if held != 6 {
		t.Errorf("%d pages asked for, expected 6", held)
	}
	if last := save(allPages, 1); slices.Equal(first, last) {
		t.Error("the text has grown, its file has not")
	}
}

// What is remembered survives in files: a new server knows the text.
func TestCacheFiles(t *testing.T) {
	e, text := embeddedPair(t)
	dir, o := t.TempDir(), greedy(6)
	want := generate(t, e, text[:900], o)
	for run := range 2 {
		b := e.NewBatcher(20 * e.pageBytes())
		if err := b.LoadCache(dir, nil); err != nil {
			t.Fatal(err)
		}
		s := b.NewSession()
		got, r := write(t, s, text[:900], o)
		if !slices.Equal(got, want) || run == 1 && r.Cached != 899 {
			t.Errorf("run %d knew %d of 899 tokens and wrote %v, expected %v", run, r.Cached, got, want)
		}
		s.Close()
		if err := b.SaveCache(dir, allPages); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
}

// TestAskAgain measures how much sooner the first token comes when a text is
// asked about again, and after a restart.
//
//	go test ./engine -run TestAskAgain -v -again 16384
func TestAskAgain(t *testing.T) {
	if *again == 0 {
		t.Skip("a measurement: name a length with -again")
	}
	e, text := embeddedPair(t)
	var long []int32
	for i := 0; len(long) < *again; i++ { // never the same twice
		long = append(long, int32(300+i%1000))
		long = append(long, text[i%7:400+i%11]...)
	}
	long = long[:*again]
	question := e.file.Encode(" What happened then?")
	dir := t.TempDir()
	ask := func(b *Batcher, what string) time.Duration {
		s := b.NewSession()
		defer s.Close()
		start, first := time.Now(), time.Duration(0)
		r, err := s.Generate(context.Background(), slices.Concat(long, question), greedy(8), func(Token) error {
			if first == 0 {
				first = time.Since(start)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(fmt.Sprintf("%s: %d of %d tokens known, first token after %v", what, r.Cached, r.Prompt, first))
		question = append(question, question[0])
		return first
	}
	b := e.NewBatcher(200 * e.pageBytes())
	cold := ask(b, "first")
	warm := ask(b, "again")
	if err := b.SaveCache(dir, allPages); err != nil {
		t.Fatal(err)
	}
	b.Close()
	b = e.NewBatcher(200 * e.pageBytes())
	start := time.Now()
	if err := b.LoadCache(dir, nil); err != nil {
		t.Fatal(err)
	}
	restored := time.Since(start)
	after := ask(b, "after a restart") + restored
	b.Close()
	t.Logf("again %.0f times sooner; after a restart %.0f times, of it %v to load", cold.Seconds()/warm.Seconds(), cold.Seconds()/after.Seconds(), restored)
}
