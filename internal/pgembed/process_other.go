//go:build unix && !linux

package pgembed

import "syscall"

// dieWithParent does nothing: only Linux notifies a child of its parent's death.
// A server that outlives us is ended by the next Start on its directory.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// descriptorPath reports that directories cannot be entered by descriptor.
func descriptorPath(int) (string, bool) { return "", false }

// worksIn reports that a process's working directory cannot be found out.
func worksIn(int, string) (works, known bool) { return false, false }
