//go:build !linux

package scratch

import "os"

func openDirect(string) *os.File { return nil }

func refused(error) bool { return false }

func drop(*os.File, int64, int64) {}

func flush(*os.File, int64, int64) {}

func reserve(*os.File, int64, int64) error { return nil }

// Free is the disk space that the folder's file system can give, or -1 if that
// is not known.
func Free(string) int64 { return -1 }

// Kind says what is unfit about the folder's file system: "memory", "network",
// or "" for a disk.
func Kind(string) string { return "" }
