package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// isTerminalDescriptor reports whether a descriptor refers to a terminal (tcgetattr(3)).
// /dev/null is a character device, and not a terminal.
func isTerminalDescriptor(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// foregroundTerminal reports whether standard input is a terminal of which this process
// group is in the foreground (tcgetpgrp(3)).
func foregroundTerminal() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}
