//go:build amd64 && !linux && !purego

package cpu

// mayUseTiles reports that AMX has been tried on Linux only.
func mayUseTiles() bool { return false }
