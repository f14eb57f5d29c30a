package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxClients bounds the requests that are served at once. More connections wait.
const maxClients = 8

// Server is the control socket of a running forwarder.
type Server struct {
	listener *net.UnixListener
	path     string // of the socket
	handle   func(context.Context, Request) (result any, err error)
	admit    func(*net.UnixConn) error
	slots    chan struct{}
	routines sync.WaitGroup
}

// Listen creates the control socket in the directory. The caller holds the lock, and no
// other forwarder serves the directory: a socket that is there is left from one that ended.
// handle is called for each request, concurrently.
func Listen(d Dir, handle func(context.Context, Request) (result any, err error)) (*Server, error) {
	path := filepath.Join(d.path, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("session: %w", err)
	}
	address, done, err := d.socketAddress()
	if err != nil {
		return nil, err
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	l.SetUnlinkOnClose(false) // the address is valid until done
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("session: %w", err)
	}
	return &Server{listener: l, path: path, handle: handle, admit: admitOwner, slots: make(chan struct{}, maxClients)}, nil
}

// Serve serves requests until the context ends, and returns when all have ended.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		_ = os.Remove(s.path)
		_ = s.listener.Close()
	})
	defer stop()
	defer s.routines.Wait()
	for {
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("session: accept: %w", err)
		}
		s.slots <- struct{}{} // each request ends after requestTimeout
		s.routines.Go(func() {
			defer func() { <-s.slots }()
			s.serve(ctx, conn)
		})
	}
}

// serve answers one request. A peer that is not admitted gets an error, and nothing that
// it sends is read.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(requestTimeout))
	var result any
	err := s.admit(conn)
	if err == nil {
		var text []byte
		var request Request
		if text, err = readAll(conn, maxRequestBytes); err == nil {
			if request, err = parseRequest(text); err == nil {
				result, err = s.handle(ctx, request)
			}
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(requestTimeout))
	_, _ = conn.Write(encodeResponse(result, err))
}

func encodeResponse(result any, err error) []byte {
	var r response
	if err == nil {
		r.Result, err = json.Marshal(result)
	}
	if err == nil && len(r.Result) > maxResponseBytes/2 {
		err = errTooLong
	}
	if err != nil {
		r = response{Error: err.Error()}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return []byte(`{"error":"the response cannot be encoded"}`)
	}
	return text
}
