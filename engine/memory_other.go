//go:build !linux

package engine

// availableBytes would be the memory that the system can still give; it is not
// known here.
func availableBytes() int64 { return 0 }

// PeakBytes is the most memory that this process has had, or 0 if that is not
// known.
func PeakBytes() int64 { return 0 }
