//go:build !purego

package cpu

import "golang.org/x/sys/unix"

// mayUseTiles asks Linux to let this process use the registers of AMX, which
// are large and therefore not given to all (Documentation/arch/x86/xstate.rst).
// Asking again changes nothing.
func mayUseTiles() bool {
	const requestPermission, tileData = 0x1023, 18
	_, _, errno := unix.RawSyscall(unix.SYS_ARCH_PRCTL, requestPermission, tileData, 0)
	return errno == 0
}
