package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"syscall"

	"github.com/sallyport/sallyport/internal/printable"
)

// ErrNotRunning means that no forwarder serves the directory.
var ErrNotRunning = errors.New("no forwarder of sallyport-step is running: start one with sallyport-step start")

// RemoteError is the error of a forwarder that received the request.
type RemoteError struct{ Message string }

func (e RemoteError) Error() string { return "the forwarder: " + e.Message }

// Call sends a request to the forwarder of a directory, and decodes the result into
// result, unless it is nil. The error is [ErrNotRunning] if there is no forwarder, and a
// [RemoteError] if the forwarder refused the request.
func Call(ctx context.Context, path string, request Request, result any) error {
	d, err := Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotRunning
	}
	if err != nil {
		return err
	}
	address, done, err := d.socketAddress()
	if err != nil {
		return err
	}
	defer done()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", address)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	if err != nil {
		return fmt.Errorf("session: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := exchange(conn.(*net.UnixConn), request, result); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("session: the forwarder does not respond: %w", context.Cause(ctx))
		}
		return err
	}
	return nil
}

func exchange(conn *net.UnixConn, request Request, result any) error {
	text, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if err := admitOwner(conn); err != nil {
		return err
	}
	if _, err := conn.Write(text); err != nil {
		return fmt.Errorf("session: send the request: %w", err)
	}
	if err := conn.CloseWrite(); err != nil {
		return fmt.Errorf("session: send the request: %w", err)
	}
	text, err = readAll(conn, maxResponseBytes)
	if err != nil && (len(text) == 0 || !errors.Is(err, syscall.ECONNRESET)) { // a server that refuses reads nothing: its response ends with a reset
		return fmt.Errorf("session: read the response: %w", err)
	}
	return parseResponse(text, result)
}

func parseResponse(text []byte, result any) error {
	var r response
	if err := decodeOne(text, &r); err != nil {
		return fmt.Errorf("session: the response is not valid: %w", err)
	}
	if r.Error != "" {
		return RemoteError{printable.Quote(r.Error)}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(r.Result, result); err != nil {
		return fmt.Errorf("session: the response is not valid: %w", err)
	}
	return nil
}
