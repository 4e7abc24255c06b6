package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"triforce/engine"
	"triforce/internal/cpu"
)

// linux is a machine of 8 processors in 4 cores, as the system tells it, with
// changes.
func linux(changes map[string]string) machine {
	files := fstest.MapFS{}
	put := func(name, text string) { files[name] = &fstest.MapFile{Data: []byte(text)} }
	put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast One\n\nprocessor\t: 1\nmodel name\t: Fast One\n")
	put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\n")
	put("proc/loadavg", "0.50 0.40 0.30 1/100 4242\n")
	put("proc/self/cgroup", "0::/user/app\n")
	put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n")
	put("sys/devices/system/node/node0/cpulist", "0-7\n")
	for i, siblings := range []string{"0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7"} {
		put("sys/devices/system/cpu/cpu"+string(rune('0'+i))+"/topology/thread_siblings_list", siblings+"\n")
	}
	for name, text := range changes {
		put(name, text)
	}
	return machine{files}
}

func TestMachine(t *testing.T) {
	m := linux(map[string]string{"sys/fs/cgroup/user/cpu.max": "150000 100000\n", "sys/fs/cgroup/user/app/cpu.max": "max 100000\n"})
	if m.memory() != 16<<30 || m.cores() != 4 || m.nodes() != 1 || m.load() != 0.5 || m.hugePages() != "madvise" || m.governor() != "" || m.quota() != 1.5 || m.field("proc/cpuinfo", "model name") != "Fast One" {
		t.Error(m.memory(), m.cores(), m.nodes(), m.load(), m.hugePages(), m.governor(), m.quota())
	}
	if q := linux(map[string]string{"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}).quota(); q != 2 {
		t.Errorf("quota %v of the older interface", q)
	}
	for _, m := range []machine{{}, {fstest.MapFS{}}} {
		if m.memory() != 0 || m.cores() != 0 || m.nodes() != 0 || m.load() != 0 || m.hugePages() != "" || m.quota() != 0 {
			t.Errorf("%+v knows of itself", m)
		}
	}
}

// TestDoctorAdvice finds what is wrong with each machine, and nothing else.
func TestDoctorAdvice(t *testing.T) {
	fast := engine.Roofline{ReadOne: 20e9, Read: 60e9, Products: 900e9, Attention: 800e9}
	for _, c := range []struct {
		name   string
		change func(*doctor)
		advice map[string]string // of a check, part of it
	}{
		{"nothing", func(*doctor) {}, nil},
		{"an unknown system", func(d *doctor) { d.sys, d.available = machine{}, 0 }, nil},
		{"a tier asked for", func(d *doctor) { d.o.Model.Tier = "portable" }, map[string]string{"kernels": "unset it to use " + cpu.Best().String()}},
		{"too many threads", func(d *doctor) { d.o.Model.Threads = 9 }, map[string]string{"threads": "--threads 8"}},
		{"two threads a core", func(d *doctor) { d.o.Model.Threads = 8 }, map[string]string{"threads": "try --threads 4"}},
		{"a container", func(d *doctor) { d.sys = linux(map[string]string{"sys/fs/cgroup/cpu.max": "250000 100000"}) }, map[string]string{"threads": "use --threads 2"}},
		{"a container, known of", func(d *doctor) {
			d.sys, d.o.Model.Threads = linux(map[string]string{"sys/fs/cgroup/cpu.max": "200000 100000"}), 2
		}, map[string]string{"threads": "to use all 8"}},
		{"a busy machine", func(d *doctor) { d.sys = linux(map[string]string{"proc/loadavg": "7.10 1 1 1/1 1"}) }, map[string]string{"load": "other programs"}},
		{"two nodes", func(d *doctor) { d.sys = linux(map[string]string{"sys/devices/system/node/node1/cpulist": "8-15"}) }, map[string]string{"memory nodes": "numactl"}},
		{"little memory", func(d *doctor) { d.available = 1 << 30 }, map[string]string{"memory": "little", "expect": "would not fit"}},
		{"no huge pages", func(d *doctor) {
			d.sys = linux(map[string]string{"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]"})
		}, map[string]string{"huge pages": "echo madvise"}},
		{"a slow clock", func(d *doctor) {
			d.sys = linux(map[string]string{"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"})
		}, map[string]string{"clock": "performance"}},
		{"one thread reads all", func(d *doctor) { d.rates.ReadOne = 59e9 }, map[string]string{"reading": "one thread"}},
		{"a disk that fails", func(d *doctor) { d.diskErr = errors.New("no space") }, map[string]string{"cache on disk": "--kv-dir"}},
		{"a cache beyond memory", func(d *doctor) { d.available, d.disk.Read = 12<<30, 1e9 }, map[string]string{"expect": "with --kv-ram auto, 5.40 GiB of keys and values go to disk, at most 0.17 passes/s"}},
		{"slow arithmetic", func(d *doctor) { d.rates.Products = 120e9 }, map[string]string{"drafting": "almost as much"}},
	} {
		d := &doctor{o: &doctorOptions{Sys: newWorld("", nil).System, Model: modelDefaults(newWorld("", nil).System)},
			sys: linux(nil), rates: fast, disk: engine.DiskSpeed{Read: 2e9, Write: 1e9}, available: 64 << 30, logical: 8}
		d.o.Model.Threads = 4
		c.change(d)
		d.processor()
		d.threads()
		d.memory()
		d.speed()
		d.offload()
		d.usualModels()
		found := map[string]bool{}
		for _, check := range d.checks {
			want, ok := c.advice[check.Name]
			slow := check.Name == "expect" && strings.Contains(check.Advice, "to read: keep it")
			if check.Name == "kernels" && cpu.Best() == cpu.Portable {
				continue
			}
			if check.Found == "" || check.Advice != "" && !slow && (!ok || !strings.Contains(check.Advice, want)) {
				t.Errorf("%s: %+v, expected %q", c.name, check, want)
			}
			found[check.Name] = found[check.Name] || check.Advice != "" && !slow
		}
		for name := range c.advice {
			if !found[name] {
				t.Errorf("%s: no advice about %s in %+v", c.name, name, d.checks)
			}
		}
	}
}

// TestDoctor runs the command, which measures this machine.
func TestDoctor(t *testing.T) {
	home := t.TempDir()
	other := filepath.Join(home, ".ollama", "models", "blobs")
	if err := os.MkdirAll(other, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"sha256-1": "GGUF…", "sha256-2": "text", "sha256-3": ""} {
		if err := os.WriteFile(filepath.Join(other, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var r doctorReport
	(&run{name: "json", args: []string{"doctor", "--json", "-t", "1"}, env: map[string]string{"HOME": home}, any: true}).test(t).decode(t, &r)
	if r.Machine.Read < 1e8 || r.Machine.Products < 1e7 || r.Machine.Attention < 1e7 || r.Machine.DiskRead < 1e5 || r.Machine.DiskWrite < 1e5 || r.Machine.Folder == "" {
		t.Errorf("%+v", r.Machine)
	}
	text := ""
	for _, c := range r.Checks {
		text += c.Name + ": " + c.Found + "\n"
	}
	for _, part := range []string{"processor: ", "kernels: ", "disk: ", "1 of ollama in " + other, "none in " + home} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if testing.Short() {
		return
	}
	w := (&run{name: "a model", args: []string{"doctor", "-m", engine.Embedded, "-c", "1000", "-t", "1"}, env: map[string]string{"HOME": home}, any: true}).test(t)
	if !strings.Contains(w.out.String(), "plain decoding at most") || !strings.Contains(w.out.String(), "1,000 tokens") {
		t.Error(w.out.String())
	}
}

func TestDoctorFails(t *testing.T) {
	for _, r := range []run{
		{name: "a bad file", args: []string{"doctor", "-m", write(t, "bad.gguf", "GGUF")}, code: exitFile, err: []string{"bad.gguf"}},
		{name: "bad threads", args: []string{"doctor", "-t", "0"}, code: exitUsage, err: []string{"--threads"}},
	} {
		r.test(t)
	}
}

func TestDuration(t *testing.T) {
	for seconds, want := range map[float64]string{61: "61 s", 600: "10 min", 7200: "2 h"} {
		if got := duration(seconds); got != want {
			t.Errorf("%v: %s, expected %s", seconds, got, want)
		}
	}
}
