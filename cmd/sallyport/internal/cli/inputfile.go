package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/config"
)

// Bounds of the files that a command line names. They are read whole.
const (
	MaxSecretInput = 64 << 10  // a key, keys, or a connection string
	MaxListInput   = 16 << 20  // names of repositories, or questions to a policy
	MaxProofInput  = 256 << 20 // checkpoints, or proofs between them
)

// ReadInput reads the file that a flag names: a regular file, or a pipe such as that
// of <(command), of at most limit bytes. It never waits to open one, and the end of
// ctx ends its wait for what a pipe gives. The error begins with the path.
func ReadInput(ctx context.Context, path string, limit int64) ([]byte, error) {
	var text []byte
	info, err := os.Stat(path)
	if err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		text, err = readPipe(ctx, path, limit)
	} else {
		text, err = config.ReadRegular(path, limit)
	}
	switch {
	case err == nil:
		return text, nil
	case errors.Is(err, fs.ErrNotExist), ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return nil, fmt.Errorf("%s: %w: name a regular file, or a pipe, with at most %d KiB", path, err, limit>>10)
}

// readPipe reads a pipe whose writer is there. Without one it reads nothing.
func readPipe(ctx context.Context, path string, limit int64) ([]byte, error) {
	pipe, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer pipe.Close()
	if info, err := pipe.Stat(); err != nil || info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, errors.Join(errors.New("it is not a pipe any more"), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = pipe.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	text, err := io.ReadAll(io.LimitReader(pipe, limit+1))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the wait for a pipe was interrupted: %w", ctx.Err())
	case err != nil:
		return nil, err
	case int64(len(text)) > limit:
		return nil, errors.New("the pipe gives more than that")
	case len(text) == 0:
		return nil, errors.New("it is a pipe without a writer")
	}
	return text, nil
}

// OpenStream opens a file that is read in pieces, of any size: a regular file or a
// pipe. The end of ctx ends the wait for the other end of a pipe; the error begins
// with the path.
func OpenStream(ctx context.Context, path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, errors.Unwrap(err))
	}
	if !info.Mode().IsRegular() && info.Mode()&fs.ModeNamedPipe == 0 {
		return nil, fmt.Errorf("%s: it is neither a regular file nor a pipe: name one, or - for standard input", path)
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() {
		file, err := os.Open(path)
		done <- opened{file, err}
	}()
	select {
	case o := <-done:
		return o.file, o.err
	case <-ctx.Done(): // the process ends, and what waits to open ends with it
		return nil, fmt.Errorf("%s: no process has opened the other end of the pipe: %w", path, ctx.Err())
	}
}

// Interruptible reads from in until ctx ends: a read of a pipe or a terminal may
// wait forever. Close it before in.
func Interruptible(ctx context.Context, in io.Reader) io.ReadCloser {
	out, into := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = into.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(into, in)
		stop()
		_ = into.CloseWithError(err)
	}()
	return out
}
