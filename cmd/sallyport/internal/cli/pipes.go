package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// UntilBrokenPipe runs a command whose reader may go away before it ends, as head does.
// Then it ends as any program does that writes to nobody: by SIGPIPE, quietly, but
// after it has put away what it had open.
func UntilBrokenPipe(run func() error) error {
	pipes := make(chan os.Signal, 1) // as long as somebody listens, a write fails and does not kill
	signal.Notify(pipes, syscall.SIGPIPE)
	err := run()
	signal.Stop(pipes)
	if errors.Is(err, syscall.EPIPE) {
		_, _ = os.Stdout.Write([]byte{'\n'}) // nobody reads it: this is where the signal comes from
		return FindingError{}
	}
	return err
}
