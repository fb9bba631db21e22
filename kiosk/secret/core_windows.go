package secret

import "syscall"

// SEM_FAILCRITICALERRORS and SEM_NOGPFAULTERRORBOX of SetErrorMode: no window and no
// report, which would carry the memory away.
const noReport = 0x0001 | 0x0002

// ForbidCore keeps this process's memory out of error reports. Programs that reveal
// secrets call it before they do anything else.
func ForbidCore() error {
	_, _, _ = syscall.NewLazyDLL("kernel32.dll").NewProc("SetErrorMode").Call(noReport) // returns the mode before
	return nil
}
