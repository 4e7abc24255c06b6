package bench

import (
	"os"
	"runtime"
	"strings"
)

// cpuName is what the processor calls itself, or the architecture's name where
// the system does not tell.
func cpuName() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(info)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return runtime.GOARCH
}
