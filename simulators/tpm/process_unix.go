//go:build unix && !linux

package tpm

import "syscall"

// dieWithParent is the kernel's help that only Linux gives.
func dieWithParent() *syscall.SysProcAttr { return nil }
