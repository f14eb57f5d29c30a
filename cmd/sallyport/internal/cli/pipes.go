package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
)

// UntilBrokenPipe runs a command whose reader may go away before it ends, as head does.
// Then it ends as any program does whose output has no reader: by SIGPIPE, without a
// message, but after it has released what it had open.
func UntilBrokenPipe(run func() error) error {
	pipes := make(chan os.Signal, 1) // as long as a channel is registered, a write fails and does not kill
	signal.Notify(pipes, syscall.SIGPIPE)
	err := run()
	signal.Stop(pipes)
	if errors.Is(err, syscall.EPIPE) {
		_, _ = os.Stdout.Write([]byte{'\n'}) // without a reader, this write causes the signal
		return FindingError{}
	}
	return err
}
