package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// SurviveBrokenPipes makes a write to a pipe without a reader an error. Without
// it, one to standard output or error ends the process by SIGPIPE, which systemd
// counts as a clean end (os/signal, "SIGPIPE"; systemd.service(5), "SuccessExitStatus").
// Programs that we start have the signal as usual: it is caught, not ignored.
func SurviveBrokenPipes() (stop func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}
