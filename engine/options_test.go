package engine

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triforce/weights"
)

func TestValidate(t *testing.T) {
	if err := Defaults().Validate(); err != nil {
		t.Error(err)
	}
	for flag, change := range map[string]func(*Options){
		"tier":         func(o *Options) { o.Tier = "fast" },
		"--kv-type":    func(o *Options) { o.KVType = "q3" },
		"--threads":    func(o *Options) { o.Threads = 0 },
		"--ctx-size":   func(o *Options) { o.Context = -1 },
		"--batch-size": func(o *Options) { o.Batch = 1 << 20 },
	} {
		o := Defaults()
		change(&o)
		if err := o.Validate(); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
	for flag, change := range map[string]func(*GenOptions){
		"--temp":     func(o *GenOptions) { o.Sample.Temp = math.NaN() },
		"--logprobs": func(o *GenOptions) { o.LogProbs = -1 },
		"--stop":     func(o *GenOptions) { o.Stop = []string{"a", ""} },
		"--spec":     func(o *GenOptions) { o.Spec.Mode = "magic" },
	} {
		o := GenDefaults()
		change(&o)
		if err := o.Validate(); !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestRopeOverride(t *testing.T) {
	for _, c := range []struct {
		rope    Rope
		factor  float64 // of the scaling that results
		kind    string
		base    float64
		context int
		fails   string
	}{
		{rope: Rope{Base: 1e6}, base: 1e6, context: 32768},
		{rope: Rope{Scale: 2}, kind: "linear", factor: 2, base: 500000, context: 65536},
		{rope: Rope{Scaling: "yarn", Scale: 4}, kind: "yarn", factor: 4, base: 500000, context: 131072},
		{rope: Rope{Scaling: "none"}, base: 500000, context: 32768},
		{rope: Rope{Scaling: "yarn"}, fails: "--rope-scale"},
		{rope: Rope{Scaling: "ntk"}, fails: "--rope-scaling"},
		{rope: Rope{Scaling: "none", Scale: 2}, fails: "no effect"},
		{rope: Rope{Scale: -1}, fails: "--rope-scale"},
		{rope: Rope{Base: math.Inf(1)}, fails: "--rope-base"},
	} {
		f, err := OpenFile("", c.rope)
		if c.fails != "" {
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%+v: %v", c.rope, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.config()
		if err != nil {
			t.Fatal(err)
		}
		if got.Scaling.Type != c.kind || got.Scaling.Factor != c.factor || got.RopeBase != c.base || got.Context != c.context {
			t.Errorf("%+v: scaling %+v, base %v, context %d", c.rope, got.Scaling, got.RopeBase, got.Context)
		}
		f.Close()
	}
}

func TestForecast(t *testing.T) {
	f, err := OpenFile("", Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o := Defaults()
	o.Context = 1000
	c, err := f.Forecast(o)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, "", nil)
	if c.Weights != e.WeightBytes() {
		t.Errorf("weights are forecast as %d bytes, loaded they are %d", c.Weights, e.WeightBytes())
	}
	page := c.shape.PageBytes(c.set)
	enough, weightsOnly := *c, *c
	enough.Available = c.Weights + c.Scratch + 2*page
	weightsOnly.Available = c.Weights
	if n, err := enough.fit(0); err != nil || n < 1 || n >= 1000 {
		t.Errorf("context that fits: %d, %v", n, err)
	} else if _, err := enough.fit(1000); !errors.Is(err, ErrMemory) || !strings.Contains(err.Error(), "--ctx-size") {
		t.Errorf("context that does not fit: %v", err)
	}
	if _, err := weightsOnly.fit(0); !errors.Is(err, ErrMemory) {
		t.Errorf("no room for a page: %v", err)
	}
	o.Context = maxContext
	if _, err := f.Load(context.Background(), o); !errors.Is(err, ErrMemory) {
		t.Errorf("a context of %d tokens: %v", o.Context, err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.gguf")
	if err := os.WriteFile(bad, []byte("not a model"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]error{
		bad:                        weights.ErrCorrupt,
		filepath.Join(dir, "none"): os.ErrNotExist,
	} {
		if _, err := OpenFile(path, Rope{}); !errors.Is(err, want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := OpenFile(dir, Rope{}); err == nil {
		t.Error("an empty folder is a model")
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[Bytes]string{
		0: "0 B", 1023: "1023 B", 1024: "1.00 KiB", 10239: "10.0 KiB", 98362432: "93.8 MiB", 1 << 30: "1.00 GiB", math.MaxInt64: "8.00 EiB",
	} {
		if got := n.String(); got != want {
			t.Errorf("%d: %s, expected %s", int64(n), got, want)
		}
	}
}
