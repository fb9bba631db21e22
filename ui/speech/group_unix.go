//go:build unix

package speech

import (
	"os/exec"
	"syscall"
)

// group gives a program a process group of its own, so that kill ends its
// children too: a script that pipes text through others.
func group(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func kill(c *exec.Cmd) { syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
