package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// foregroundTerminal reports whether standard input is a terminal of which this process
// group is in the foreground (tcgetpgrp(3)).
func foregroundTerminal() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == syscall.Getpgrp()
}
