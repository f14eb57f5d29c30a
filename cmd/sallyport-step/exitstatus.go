package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit statuses of every command. run returns that of its command, or one of its own,
// which are those of env(1).
const (
	exitOK         = 0
	exitFailed     = 1
	exitInvalid    = 2   // wrong usage
	exitRun        = 125 // run failed before it started the command
	exitNotRunable = 126
	exitNotFound   = 127
)

// invalidError is an error in the command line.
type invalidError struct{ err error }

func invalid(err error) error        { return invalidError{err} }
func (e invalidError) Error() string { return e.err.Error() }
func (e invalidError) Unwrap() error { return e.err }

// statusError ends the program with a status. It is reported already if err is nil.
type statusError struct {
	status int
	err    error
}

func (e statusError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("the command ended with status %d", e.status)
	}
	return e.err.Error()
}
func (e statusError) Unwrap() error { return e.err }

// exitOf is the exit status for an error, which it prints, unless it is reported already.
func exitOf(err error, errOut io.Writer) int {
	if err == nil {
		return exitOK
	}
	status := exitFailed
	if _, ok := errors.AsType[invalidError](err); ok {
		status = exitInvalid
	}
	if own, ok := errors.AsType[statusError](err); ok {
		if status = own.status; own.err == nil {
			return status
		}
	}
	fmt.Fprintf(errOut, "sallyport-step: %v\n", err)
	return status
}

// exits has the exit statuses of each command, besides 0 and 2.
var exits = map[string]string{
	"start":   "  1  the forwarder did not start; the printed script reports the cause and ends with false",
	"stop":    "  1  failure, or a file could not be restored: it is named",
	"run":     "  that of the command, or 128 and the number of the signal that ended it\n  125  run failed before it started the command\n  126  the command cannot be executed\n  127  the command was not found",
	"connect": "  1  the target was denied or could not be reached: the cause is on standard error",
	"forward": "  1  failure",
	"serve":   "  1  failure",
	"doctor":  "  1  a check failed: its line states what to do",
	"report":  "  1  failure; a denied request is not a failure",

	"check-network": "  1  a path around the proxy is open, a test could not be decided, or the result is not recorded",
	"version":       "  1  failure",
}

// documentExits ends the help of every command with its exit statuses.
func documentExits(root *cobra.Command) {
	for _, c := range root.Commands() {
		if c.Long == "" {
			c.Long = c.Short + "."
		}
		c.Long = strings.TrimRight(c.Long, "\n") + "\n\nExit status:\n  0  success\n" + exits[c.Name()] + "\n  2  wrong usage"
	}
}
