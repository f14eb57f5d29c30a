package proxy

import (
	"context"
	"errors"
	"os"
	"syscall"
)

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || timedOut(err) || errors.Is(err, syscall.ETIMEDOUT) {
		return true
	}
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
