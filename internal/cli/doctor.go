package cli

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"triforce/engine"
	"triforce/hub"
	"triforce/internal/cpu"
)

type doctorOptions struct {
	Sys   *System
	Model modelOptions
	JSON  bool
}

// doctorReport is what was found. A check with advice is one to act on.
type doctorReport struct {
	Checks  []check      `json:"checks"`
	Machine machineRates `json:"machine"`
}

type check struct {
	Name   string `json:"name"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

type machineRates struct {
	ReadOne   float64 `json:"read_one_bytes_per_second"`
	Read      float64 `json:"read_bytes_per_second"`
	Products  float64 `json:"product_macs_per_second"`
	Attention float64 `json:"attention_macs_per_second"`
	// What the disk of a cache that does not fit into memory does.
	Folder    string  `json:"kv_dir"`
	DiskRead  float64 `json:"disk_read_bytes_per_second,omitempty"` // 0 if it cannot be used
	DiskWrite float64 `json:"disk_write_bytes_per_second,omitempty"`
}

func newDoctor(sys *System, run func(context.Context, *doctorOptions) error) *cobra.Command {
	o := &doctorOptions{Sys: sys, Model: modelDefaults(sys)}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, what is slow, and what to do about it",
		Long: `Look at processor, memory and disk, measure for a second or two what they can do,
and say what a model can expect of them: the one of --model, or usual sizes. The
disk is measured past the system's cache, with 128 MiB in --kv-dir.`,
		Example: `  triforce doctor
  triforce doctor -m model.gguf -c 32768 --kv-dir /var/tmp
  triforce doctor --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	f := cmd.Flags()
	o.Model.bindRun(f)
	f.StringVar(&o.Model.KVDir, "kv-dir", "", "`folder` whose disk to measure, for keys and values that do not fit into memory (default: the one for temporary files)")
	f.BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runDoctor(ctx context.Context, o *doctorOptions) error {
	file, err := o.Model.open(o.Sys)
	if err != nil {
		return err
	}
	defer file.Close()
	forecast, err := file.Forecast(o.Model.Options)
	if err != nil {
		return err
	}
	bar := o.Sys.progress("measuring")
	bar.tokens(0, 1)
	rates, err := o.measure(ctx)
	disk, diskErr := engine.MeasureDisk(o.Model.KVDir)
	bar.done()
	if err != nil {
		return err
	}
	d := &doctor{o: o, sys: machine{o.Sys.Root}, rates: rates, disk: disk, diskErr: diskErr, available: forecast.Available, logical: runtime.NumCPU()}
	d.processor()
	d.threads()
	d.memory()
	d.speed()
	d.offload()
	if o.Model.Path == "" {
		d.usualModels()
	} else {
		d.model(file.Name(), forecast)
	}
	d.models()
	r := doctorReport{Checks: d.checks, Machine: machineRates{ReadOne: rates.ReadOne, Read: rates.Read, Products: rates.Products, Attention: rates.Attention,
		Folder: engine.KVFolder(o.Model.KVDir), DiskRead: math.Round(disk.Read), DiskWrite: math.Round(disk.Write)}}
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	return r.print(o.Sys)
}

// measure measures the machine with the kernels and the embedded model's heads,
// which differ little from those of others.
func (o *doctorOptions) measure(ctx context.Context) (engine.Roofline, error) {
	opt := o.Model.Options
	opt.Context = 1024
	e, err := engine.Open(ctx, "", opt)
	if err != nil {
		return engine.Roofline{}, err
	}
	defer e.Close()
	return e.Roofline(), nil
}

// doctor collects checks.
type doctor struct {
	o         *doctorOptions
	sys       machine
	rates     engine.Roofline
	disk      engine.DiskSpeed
	diskErr   error
	available int64 // bytes of memory, 0 if not known
	logical   int   // processors
	checks    []check
}

func (d *doctor) add(name, found, advice string) {
	d.checks = append(d.checks, check{name, found, advice})
}

func (d *doctor) processor() {
	name := d.sys.field("proc/cpuinfo", "model name")
	if name == "" {
		name = runtime.GOARCH
	}
	d.add("processor", fmt.Sprintf("%s, %s/%s", name, runtime.GOOS, runtime.GOARCH), "")
	best, used := cpu.Best().String(), d.o.Model.Tier
	switch above, lacking, ok := cpu.Missing(); {
	case used != "" && used != best:
		d.add("kernels", fmt.Sprintf("%s, of %s", used, strings.Join(engine.Tiers(), ", ")),
			fmt.Sprintf("TRIFORCE_TIER asks for %s; unset it to use %s", used, best))
	case cpu.Best() == cpu.Portable:
		advice := "plain Go is many times slower than vector instructions"
		if ok {
			advice += "; this processor or virtual machine lacks " + strings.Join(lacking, ", ")
		} else {
			advice += "; build without -tags purego, on an architecture that has kernels"
		}
		d.add("kernels", best, advice)
	case ok:
		d.add("kernels", fmt.Sprintf("%s (%s would need %s)", best, above, strings.Join(lacking, ", ")), "")
	default:
		d.add("kernels", best+", the best there are", "")
	}
	if g := d.sys.governor(); g == "powersave" || g == "conservative" {
		d.add("clock", "governor "+g, "the clock may stay low: cpupower frequency-set -g performance (as root)")
	}
}

func (d *doctor) threads() {
	threads, logical, cores, quota := d.o.Model.Threads, d.logical, d.sys.cores(), d.sys.quota()
	found := fmt.Sprintf("%d on %d processors", threads, logical)
	if cores > 0 && cores != logical {
		found += fmt.Sprintf(" of %d cores", cores)
	}
	advice := ""
	switch {
	case quota > 0 && float64(threads) > math.Ceil(quota):
		found += fmt.Sprintf(", %.1f allowed by the container", quota)
		advice = fmt.Sprintf("threads would be paused in turn: use --threads %d, or allow the container more", max(int(quota), 1))
	case quota > 0 && float64(logical) > math.Ceil(quota):
		found += fmt.Sprintf(", %.1f allowed by the container", quota)
		advice = fmt.Sprintf("allow the container more (its CPU limit) to use all %d", logical)
	case threads > logical:
		advice = fmt.Sprintf("more threads than processors wait for each other: use --threads %d", logical)
	case cores > 0 && threads > cores:
		advice = fmt.Sprintf("two threads of a core share its vector units: try --threads %d and keep what 'triforce bench' says is faster", cores)
	}
	d.add("threads", found, advice)
	if busy := d.sys.load(); busy > 0.5*float64(logical) {
		d.add("load", fmt.Sprintf("%.1f threads wanted to run in the last minute", busy), "other programs take time from this one; what follows may be better without them")
	}
	if n := d.sys.nodes(); n > 1 {
		d.add("memory nodes", fmt.Sprint(n), "memory of another node is slower: bind the program to one, numactl -N 0 -m 0 triforce …")
	}
}

func (d *doctor) memory() {
	total := d.sys.memory()
	switch {
	case d.available == 0:
		d.add("memory", "how much is available is not known on this system", "")
	case total > 0:
		advice := ""
		if d.available < 2<<30 {
			advice = "little for a model: end other programs, raise the container's limit, or choose a smaller quantization"
		}
		d.add("memory", fmt.Sprintf("%v available of %v", engine.Bytes(d.available), engine.Bytes(total)), advice)
	default:
		d.add("memory", fmt.Sprintf("%v available", engine.Bytes(d.available)), "")
	}
	switch pages := d.sys.hugePages(); pages {
	case "":
	case "never":
		d.add("huge pages", pages, "long caches are read slower: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled (as root)")
	default:
		d.add("huge pages", pages, "")
	}
}

// speed says what was measured and what that means for drafting.
func (d *doctor) speed() {
	m := &d.rates
	advice := ""
	if d.o.Model.Threads > 1 && m.Read < 1.15*m.ReadOne {
		advice = "one thread reads as fast as all: more of them help the prompt only"
	}
	d.add("reading", fmt.Sprintf("%.1f GB/s, one thread %.1f", m.Read/1e9, m.ReadOne/1e9), advice)
	d.add("arithmetic", fmt.Sprintf("%.0f G multiply-adds/s in products, %.0f in attention", m.Products/1e9, m.Attention/1e9), "")
	rows := m.Products / m.Read // a weight of 8 bits is a byte and a multiply-add
	advice = ""
	if rows < 4 {
		advice = "checking drafts costs almost as much as writing: gains come from drafts that are mostly right (--spec ngram, retrieval)"
	}
	d.add("drafting", fmt.Sprintf("a pass hides about %.0f tokens behind the reading of 8-bit weights", math.Max(rows, 1)), advice)
}

// offload says what the disk does for a cache that does not fit into memory.
func (d *doctor) offload() {
	folder := engine.KVFolder(d.o.Model.KVDir)
	if d.diskErr != nil {
		d.add("cache on disk", d.diskErr.Error(), "name a folder on a local disk with --kv-dir")
		return
	}
	advice := ""
	if kind := engine.KVFolderKind(d.o.Model.KVDir); kind != "" {
		advice = fmt.Sprintf("that is on a %s file system; for --kv-ram, name a folder on a local disk with --kv-dir", kind)
	}
	d.add("cache on disk", fmt.Sprintf("%s reads %v/s and writes %v/s", folder, engine.Bytes(d.disk.Read), engine.Bytes(d.disk.Write)), advice)
}

// onDisk says what a model can expect whose weights fit into memory, but not all
// of its cache, or "".
func (d *doctor) onDisk(weights, kv int64) string {
	kept := int64(float64(d.available)*ramShare) - weights
	if d.disk.Read == 0 || kept <= 0 || kept >= kv {
		return ""
	}
	return fmt.Sprintf("; with --kv-ram auto, %v of keys and values go to disk, at most %.2g passes/s: draft", engine.Bytes(kv-kept), d.disk.Read/float64(kv-kept))
}

// ramShare is about what --kv-ram auto takes of the memory that is available.
const ramShare = 0.75

// slowPrompt is the time to read a prompt from which on it is worth a warning,
// in seconds.
const slowPrompt = 60

// model says what a model can expect.
func (d *doctor) model(name string, c *engine.Forecast) {
	advice := ""
	if !c.Fits() {
		advice = "would not fit: shorten the context (-c), use --kv-type q8_0, or a smaller quantization" + d.onDisk(c.Weights, c.KV)
	}
	d.add("model", fmt.Sprintf("%s: %v", name, c), advice)
	d.expect(filepath.Base(name), c.Weights, c.KV, c.Context)
}

// expect bounds the speed of plain decoding, by reading, and the time to read a
// prompt, by arithmetic, of a model with 8 bits a weight once it is loaded.
func (d *doctor) expect(name string, weights, kv int64, context int) {
	start, end := d.rates.Read/float64(weights), d.rates.Read/float64(weights+kv)
	seconds := float64(weights) * float64(context) / d.rates.Products
	advice := ""
	if seconds > slowPrompt {
		advice = fmt.Sprintf("a full context takes %s or more to read: keep it (generate --cache, chat /save), and draft", duration(seconds))
	}
	d.add("expect", fmt.Sprintf("%s: plain decoding at most %.3g tokens/s, %.3g after %s tokens", name, start, end, grouped(context)), advice)
}

// duration is a time in words.
func duration(seconds float64) string {
	switch {
	case seconds < 90:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 5400:
		return fmt.Sprintf("%.0f min", seconds/60)
	}
	return fmt.Sprintf("%.0f h", seconds/3600)
}

// usualModels says what models of usual sizes can expect.
func (d *doctor) usualModels() {
	for _, m := range []struct {
		name        string
		weights, kv int64 // bytes in memory, and a token's in 8 bits
		context     int
	}{
		{"1B model, 8 bits", 1_240_000_000, 16 * 2 * 8 * 66, 8192},              // 16 layers, 8 heads of 64
		{"3B model, 8 bits", 3_210_000_000, 28 * 2 * 8 * 130, 32768},            // 28 layers, 8 heads of 128
		{"8B model, 8 bits", 8_030_000_000, 32 * 2 * 8 * 130, 32768},            // 32 layers, 8 heads of 128
		{"7B model, 8 bits, 32 heads", 6_740_000_000, 32 * 2 * 32 * 130, 32768}, // Llama 2
	} {
		if need := m.weights + m.kv*int64(m.context); d.available > 0 && need > d.available {
			d.add("expect", fmt.Sprintf("%s, with %s tokens: needs %v", m.name, grouped(m.context), engine.Bytes(need)), "would not fit into the memory that is available"+d.onDisk(m.weights, m.kv*int64(m.context)))
			continue
		}
		d.expect(m.name, m.weights, m.kv*int64(m.context), m.context)
	}
}

// models says which models are here, and whether there is room for more.
func (d *doctor) models() {
	h := d.o.Sys.hub()
	list, err := h.List()
	bytes := int64(0)
	for _, m := range list {
		bytes += m.Bytes
	}
	switch {
	case err != nil:
		d.add("models", err.Error(), "set HF_HUB_CACHE to a folder that can be read")
	case len(list) == 0:
		d.add("models", "none in "+h.Cache, "'triforce pull -h' lists some to begin with")
	default:
		d.add("models", fmt.Sprintf("%d in %s, %v", len(list), h.Cache, engine.Bytes(bytes)), "")
	}
	for _, c := range d.otherCaches() {
		if n := countModels(c.folder); n > 0 {
			d.add("models", fmt.Sprintf("%d of %s in %s", n, c.owner, c.folder), "")
		}
	}
	dir := h.Cache
	for filepath.Dir(dir) != dir {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	if free, err := hub.FreeBytes(dir); err == nil {
		advice := ""
		if free < 10<<30 {
			advice = "little for models: set HF_HUB_CACHE to another disk"
		}
		d.add("disk", fmt.Sprintf("%v free for models", engine.Bytes(free)), advice)
	}
}

type cache struct{ owner, folder string }

// otherCaches are those of other tools. Their GGUF files can be given by path.
func (d *doctor) otherCaches() []cache {
	env, home := d.o.Sys.Getenv, d.o.Sys.Getenv("HOME")
	under := func(variable string, otherwise ...string) string {
		if dir := env(variable); dir != "" {
			return dir
		}
		return filepath.Join(append([]string{home}, otherwise...)...)
	}
	return []cache{
		{"llama.cpp", under("LLAMA_CACHE", ".cache", "llama.cpp")},
		{"LM Studio", filepath.Join(home, ".lmstudio", "models")},
		{"ollama", filepath.Join(under("OLLAMA_MODELS", ".ollama", "models"), "blobs")},
	}
}

// countModels counts GGUF files, by their first bytes because some have other
// names.
func countModels(folder string) int {
	n := 0
	_ = filepath.WalkDir(folder, func(at string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(at)
		if err != nil {
			return nil
		}
		defer f.Close()
		var magic [4]byte
		if _, err := f.Read(magic[:]); err == nil && string(magic[:]) == "GGUF" {
			n++
		}
		return nil
	})
	return n
}

// print writes a line for each check, with what to do below it.
func (r *doctorReport) print(sys *System) error {
	w := tabwriter.NewWriter(sys.Out, 0, 0, 2, ' ', 0)
	for _, c := range r.Checks {
		mark := "ok"
		if c.Advice != "" {
			mark = "!"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, c.Name, c.Found)
		if c.Advice != "" {
			fmt.Fprintf(w, "\t\t  %s\n", c.Advice)
		}
	}
	return w.Flush()
}
