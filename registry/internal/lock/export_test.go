package lock

import "syscall"

// Dup is what a child has between fork and exec.
func (l *Lock) Dup() (int, error) { return syscall.Dup(int(l.f.Fd())) }
