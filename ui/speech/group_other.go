//go:build !unix

package speech

import "os/exec"

func group(*exec.Cmd) {}

func kill(c *exec.Cmd) { c.Process.Kill() }
