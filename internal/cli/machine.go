package cli

import (
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// machine reads what the system tells about itself: the files of Linux, below
// root. What it does not tell is "" or 0.
type machine struct{ root fs.FS }

// text is a file's content without spaces around it.
func (m machine) text(name string) string {
	if m.root == nil {
		return ""
	}
	data, err := fs.ReadFile(m.root, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// field is the value after a key and a colon in a file.
func (m machine) field(name, key string) string {
	for line := range strings.Lines(m.text(name)) {
		if k, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// memory is the machine's, in bytes.
func (m machine) memory() int64 {
	kib, _ := strconv.ParseInt(strings.TrimSuffix(m.field("proc/meminfo", "MemTotal"), " kB"), 10, 64)
	return kib << 10
}

// hugePages is how the system gives large pages: always, madvise or never.
func (m machine) hugePages() string {
	for word := range strings.FieldsSeq(m.text("sys/kernel/mm/transparent_hugepage/enabled")) {
		if chosen, ok := strings.CutPrefix(word, "["); ok {
			return strings.TrimSuffix(chosen, "]")
		}
	}
	return ""
}

// cores counts physical cores.
func (m machine) cores() int {
	if m.root == nil {
		return 0
	}
	lists, _ := fs.Glob(m.root, "sys/devices/system/cpu/cpu[0-9]*/topology/thread_siblings_list")
	var seen []string
	for _, name := range lists {
		if s := m.text(name); s != "" && !slices.Contains(seen, s) {
			seen = append(seen, s)
		}
	}
	return len(seen)
}

// nodes counts the parts of memory that are near to some cores and far from
// others.
func (m machine) nodes() int {
	if m.root == nil {
		return 0
	}
	nodes, _ := fs.Glob(m.root, "sys/devices/system/node/node[0-9]*")
	return len(nodes)
}

// load is how many threads wanted to run in the last minute.
func (m machine) load() float64 {
	first, _, _ := strings.Cut(m.text("proc/loadavg"), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// governor is how the clock of the first processor is chosen.
func (m machine) governor() string {
	return m.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
}

// quota is how many processors a container may use, or 0.
func (m machine) quota() float64 {
	for _, dir := range m.groups() {
		limit, period, ok := strings.Cut(m.text(path.Join(dir, "cpu.max")), " ")
		q, err := strconv.ParseFloat(limit, 64)
		p, err2 := strconv.ParseFloat(period, 64)
		if ok && err == nil && err2 == nil && p > 0 {
			return q / p
		}
	}
	q, _ := strconv.ParseFloat(m.text("sys/fs/cgroup/cpu/cpu.cfs_quota_us"), 64)
	p, _ := strconv.ParseFloat(m.text("sys/fs/cgroup/cpu/cpu.cfs_period_us"), 64)
	if q > 0 && p > 0 {
		return q / p
	}
	return 0
}

// groups lists the control group of this process and those above it.
func (m machine) groups() []string {
	const root = "sys/fs/cgroup"
	own := "/"
	for line := range strings.Lines(m.text("proc/self/cgroup")) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			own = path.Clean("/" + p)
		}
	}
	var dirs []string
	for ; ; own = path.Dir(own) {
		dirs = append(dirs, path.Join(root, own))
		if own == "/" {
			return dirs
		}
	}
}
