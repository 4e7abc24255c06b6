//go:build unix

package hub

import "golang.org/x/sys/unix"

// FreeBytes is how much a user may still write to the disk of a folder.
func FreeBytes(folder string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(folder, &s); err != nil {
		return 0, err
	}
	return int64(uint64(s.Bavail) * uint64(s.Bsize)), nil
}
