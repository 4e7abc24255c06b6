package engine

import (
	"bufio"
	"bytes"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// availableBytes is the memory that the system can still give: what it reports,
// or less if a control group limits this process.
func availableBytes() int64 {
	n := procKiB("/proc/meminfo", "MemAvailable:")
	for _, group := range controlGroups() {
		limit, used := number(group.limit), number(group.used)
		if limit > 0 && used >= 0 {
			free := max(limit-used+group.reclaimable(), 1)
			if n == 0 || free < n {
				n = free
			}
		}
	}
	return n
}

// PeakBytes is the most memory that this process has had, or 0 if that is not
// known.
func PeakBytes() int64 { return procKiB("/proc/self/status", "VmHWM:") }

// procKiB returns the value of a line like "VmHWM:  1234 kB" in bytes, or 0.
func procKiB(file, key string) int64 {
	data, _ := os.ReadFile(file)
	return field(data, key) << 10
}

// field returns the number after a word at the start of a line, or 0.
func field(data []byte, key string) int64 {
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > 1 && words[0] == key {
			n, _ := strconv.ParseInt(words[1], 10, 64)
			return n
		}
	}
	return 0
}

// controlGroup is where a memory limit, and what is used of it, can be read.
type controlGroup struct{ limit, used, stat, cached string }

// reclaimable is the part of what is used that is only a cache of files.
func (g controlGroup) reclaimable() int64 {
	data, _ := os.ReadFile(g.stat)
	return field(data, g.cached)
}

// controlGroups lists the groups that this process is in, and those above them,
// in both versions of the interface.
func controlGroups() []controlGroup {
	data, _ := os.ReadFile("/proc/self/cgroup")
	var groups []controlGroup
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		unified := parts[1] == ""
		if !unified && parts[1] != "memory" {
			continue
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if unified {
				in := path.Join("/sys/fs/cgroup", dir)
				groups = append(groups, controlGroup{in + "/memory.max", in + "/memory.current", in + "/memory.stat", "inactive_file"})
			} else {
				in := path.Join("/sys/fs/cgroup/memory", dir)
				groups = append(groups, controlGroup{in + "/memory.limit_in_bytes", in + "/memory.usage_in_bytes", in + "/memory.stat", "total_inactive_file"})
			}
			if dir == "/" {
				break
			}
		}
	}
	return groups
}

// number reads a file that holds one number; -1 if there is none, or the word
// max.
func number(file string) int64 {
	data, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
	if err != nil || n > math.MaxInt64/2 {
		return -1
	}
	return n
}
