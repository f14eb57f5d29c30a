//go:build !linux

package server

import "syscall"

// keepAlive makes the kernel ask after a silent peer, when it sees fit.
func keepAlive(fd int) error {
	return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1)
}
