//go:build !linux

package e2e

import "syscall"

func ownSession() *syscall.SysProcAttr { return nil }

func lowerPriority() {}
