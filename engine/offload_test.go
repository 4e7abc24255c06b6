package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"triforce/kvcache"
)

// faulty is a file in memory whose n-th call fails, in one of several ways.
type faulty struct {
	mu    sync.Mutex
	data  []byte
	calls int
	at    int // the call that fails, from 1 on; 0 = none
	kind  string
	hit   string // the call that failed
	open  int
}

var errFault = errors.New("fault")

func (f *faulty) create() (kvcache.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails("create") {
		return nil, errFault
	}
	f.open++
	return f, nil
}

// fails counts a call.
func (f *faulty) fails(what string) bool {
	f.calls++
	if f.calls == f.at {
		f.hit = what
		return true
	}
	return false
}

func (f *faulty) ReadAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := copy(p, f.data[min(at, int64(len(f.data))):])
	if f.fails("read") {
		switch f.kind {
		case "flip":
			p[len(p)/2] ^= 4
		case "cut":
			return n / 2, io.EOF
		default:
			return 0, errFault
		}
	}
	return n, nil
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := int(at) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	if f.fails("write") {
		switch f.kind {
		case "flip":
			copy(f.data[at:], p)
			f.data[at] ^= 1
			return len(p), nil
		case "cut":
			return copy(f.data[at:], p[:len(p)/2]), nil
		default:
			return 0, errFault
		}
	}
	return copy(f.data[at:], p), nil
}

func (f *faulty) Reserve(int64, int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails("reserve") && f.kind == "error" {
		return errFault
	}
	return nil
}

func (f *faulty) Name() string { return "faulty" }

func (f *faulty) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open--
	return nil
}

// Whichever call to the file fails, and however: there is an error that says so,
// no token is wrong, nothing leaks, and the session goes on when asked again. A
// fault in what was read ahead and never needed is no error.
func TestFaultyDisk(t *testing.T) {
	ctx := context.Background()
	e, err := Open(ctx, EmbeddedDraft, Defaults())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	const predict = 40
	g := GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample.Temp = predict, true, 0
	g.Spec.Mode, g.Spec.Budget = SpecRetrieval, 256
	prompt := []int32{1}
	for i := range 1350 {
		prompt = append(prompt, int32(3+(i*i*31+i*7)%900))
	}
	with := *e
	with.opt.Batch, with.opt.Threads = 200, 2
	generate := func(s *Session) (tokens []int32, err error) {
		_, err = s.Generate(ctx, prompt, g, func(tok Token) error {
			if tok.ID >= 0 {
				tokens = append(tokens, tok.ID)
			}
			return nil
		})
		return tokens, err
	}
	once := func(f *faulty) ([]int32, error) {
		f.data = nil
		with.opt.create = f.create
		s := with.NewSession()
		defer s.Close()
		tokens, err := generate(s)
		if err != nil && f.at > 0 {
			again, err := generate(s)
			if f.kind != "flip" && err != nil { // what was written wrong stays wrong
				t.Errorf("call %d: the session does not go on: %v", f.at, err)
			}
			if err == nil && !slices.Equal(again[:len(tokens)], tokens) {
				t.Errorf("call %d: after the error there are other tokens", f.at)
			}
		}
		return tokens, err
	}
	want, err := once(&faulty{})
	if err != nil {
		t.Fatal(err)
	}
	with.opt.KVRAM = e.model.KVShape(e.kv).LeastRAM(e.set, with.opt.maxPass())
	clean := &faulty{}
	if got, err := once(clean); err != nil || !slices.Equal(got, want) {
		t.Fatalf("on disk: %v, error %v; expected %v", got, err, want)
	}
	if len(clean.data) == 0 {
		t.Fatal("nothing was written to disk")
	}
	before := runtime.NumGoroutine()
	step := 1
	if testing.Short() {
		step = max(1, clean.calls/8) // calls get fewer with deeper rounds
	}
	failed := map[string]int{}
	for _, kind := range []string{"error", "cut", "flip"} {
		for at := 1; at <= clean.calls; at += step {
			f := &faulty{at: at, kind: kind}
			got, err := once(f)
			switch {
			case f.open != 0:
				t.Errorf("call %d, %s: the file is not closed", at, kind)
			case !slices.Equal(got, want[:min(len(got), len(want))]):
				t.Errorf("call %d, %s %s: wrong tokens %v, expected the beginning of %v", at, f.hit, kind, got, want)
			case err == nil && len(got) != len(want):
				t.Errorf("call %d, %s %s: %d tokens and no error", at, f.hit, kind, len(got))
			case err != nil && (!errors.Is(err, ErrDisk) || f.hit != "create" && kind == "error" && !strings.Contains(err.Error(), "faulty: offset ")):
				t.Errorf("call %d, %s %s: error %v", at, f.hit, kind, err)
			case err == nil && kind == "error" && (f.hit == "create" || f.hit == "reserve"):
				t.Errorf("call %d, %s: no error", at, f.hit)
			case err == nil:
				failed["nothing that was needed"]++
			default:
				failed[f.hit]++
			}
		}
	}
	t.Logf("%d calls; faults by what failed: %v", clean.calls, failed)
	if failed["create"] == 0 || failed["read"] == 0 || !testing.Short() && failed["write"] == 0 {
		t.Errorf("faults had no consequences: %v", failed)
	}
	for wait := time.Now(); runtime.NumGoroutine() > before && time.Since(wait) < 5*time.Second; {
		time.Sleep(time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("%d goroutines, before there were %d", n, before)
	}
}

// The file has no name and belongs to its owner alone, and closing a session
// gives it back. A text that fits into the memory makes none.
func TestPrivateFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	o := Defaults()
	o.KVRAM, o.KVDir = 2<<20, dir
	e, err := Open(ctx, EmbeddedDraft, o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	g := GenDefaults()
	g.Predict, g.Spec.Mode = 1, SpecPlain
	s := e.NewSession()
	for _, n := range []int{100, 9000} {
		if _, err := s.Generate(ctx, make([]int32, n), g, func(Token) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := s.Disk().Written > 0; got != (n == 9000) {
			t.Errorf("%d tokens: written to disk is %v", n, got)
		}
		if got := s.CacheBytes(); got > o.KVRAM {
			t.Errorf("%d tokens: the cache takes %d bytes of memory, expected at most %d", n, got, o.KVRAM)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) > 0 && runtime.GOOS == "linux" {
		t.Errorf("the folder holds %v, expected nothing", names)
	}
	if st := s.Disk(); st.Bytes == 0 || st.Read == 0 || st.Reading == 0 {
		t.Errorf("%+v: expected bytes on disk, and read", st)
	}
	s.Close()
}

// Folders and sizes that cannot be are refused before anything is read.
func TestOffloadOptions(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		ram  int64
		dir  string
		want string
	}{
		{4 << 20, file, "is a file, expected a folder"},
		{4 << 20, filepath.Join(file, "in"), "--kv-dir"},
		{1 << 10, "", "need at least"},
		{-7, "", "expected a size"},
	} {
		opt := Defaults()
		opt.KVRAM, opt.KVDir = o.ram, o.dir
		if e, err := Open(ctx, "", opt); err == nil || !strings.Contains(err.Error(), o.want) {
			t.Errorf("%+v: error %v, expected %q", o, err, o.want)
			if err == nil {
				e.Close()
			}
		}
	}
	opt := Defaults()
	opt.KVRAM, opt.Context = 1<<40, 4096
	e, err := Open(ctx, "", opt)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.KVDir() != "" {
		t.Error("a cache that fits into its memory goes to disk")
	}
	s := e.NewSession()
	defer s.Close()
	s.e.opt.KVRAM = 4 << 20
	if err := s.checkSpace(1 << 28); !errors.Is(err, ErrSpace) || !strings.Contains(fmt.Sprint(err), "--kv-dir") {
		t.Errorf("2^28 tokens on disk: error %v", err)
	}
}
