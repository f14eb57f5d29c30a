package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	controlName = "control.sock"
	maxControl  = 64 << 10 // bytes of a request's body
	// maxSocketPath is what fits into sockaddr_un with its closing NUL (unix(7)).
	maxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1
)

// The verbs of the control socket. They are posts, but for what only reads.
const (
	pathRevocations       = "/v1/revocations"
	pathRevoke            = "/v1/revocations/revoke"
	pathUnrevoke          = "/v1/revocations/lift"
	pathTunnels           = "/v1/tunnels"
	pathClose             = "/v1/tunnels/close"
	pathEmergencyStop     = "/v1/emergency-stop"
	pathLiftEmergencyStop = "/v1/emergency-stop/lift"
	pathReload            = "/v1/policy/reload"
)

// The verbs about stored webhook deliveries. All are posts: each has an argument.
const (
	pathDeliveries     = "/v1/webhook/deliveries"
	pathDeliveryShow   = "/v1/webhook/deliveries/show"
	pathDeliveryReplay = "/v1/webhook/deliveries/replay"
	pathDeliveryTrace  = "/v1/webhook/deliveries/trace"
)

// Control lets an operator on the same machine act on a running instance, over
// a unix socket: HTTP/1.1 with JSON. Only root and the user that the instance
// runs as may use it, whatever user can open the socket.
type Control struct {
	http *http.Server
	log  *slog.Logger
}

// NewControl returns a control server for these operations.
func NewControl(ops Operations, log *slog.Logger) *Control {
	c := &Control{log: log}
	mux := http.NewServeMux()
	c.read(mux, pathRevocations, func(ctx context.Context) (any, error) { return ops.Credentials.Revocations(ctx) })
	c.read(mux, pathTunnels, func(ctx context.Context) (any, error) { return ops.Tunnels.List(ctx) })
	act(c, mux, pathRevoke, ops.Credentials.Revoke)
	act(c, mux, pathUnrevoke, ops.Credentials.Unrevoke)
	act(c, mux, pathClose, ops.Tunnels.Close)
	act(c, mux, pathEmergencyStop, ops.Tunnels.EmergencyStop)
	act(c, mux, pathLiftEmergencyStop, ops.Tunnels.LiftEmergencyStop)
	act(c, mux, pathReload, func(ctx context.Context, by Operator, _ struct{}) (PolicyState, error) {
		return ops.Policy.Reload(ctx, by)
	})
	act(c, mux, pathDebug, ops.Debug.Collect)
	if ops.Agents != nil {
		c.read(mux, pathAgentCredentials, func(ctx context.Context) (any, error) { return ops.Agents.List(ctx) })
		act(c, mux, pathAgentCredentialCreate, ops.Agents.Create)
		act(c, mux, pathAgentCredentialRevoke, ops.Agents.Revoke)
	} else {
		c.missing(mux, "the instance's configuration has no endpoint with agent: true: add one to webhooks.endpoints, and restart it", pathAgentCredentials, pathAgentCredentialCreate, pathAgentCredentialRevoke)
	}
	c.deliveries(mux, ops.Deliveries)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusNotFound, failure{Error: fmt.Sprintf("this instance does not know %s %s: is it of another version?", r.Method, r.URL.Path)})
	})
	c.http = &http.Server{
		Handler:           permitted(mux),
		ConnContext:       withPeer,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       10 * time.Second,
		MaxHeaderBytes:    16 << 10,
	}
	return c
}

// Serve answers on the listener until Close.
func (c *Control) Serve(l net.Listener) error {
	if err := c.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close stops answering; what is being answered may finish until ctx is done.
func (c *Control) Close(ctx context.Context) error { return c.http.Shutdown(ctx) }

// ControlPath returns where the control socket of an instance is.
func ControlPath(directory string) string { return filepath.Join(directory, controlName) }

// CheckControlPath returns an error where no control socket can be made in a data
// directory, whether an instance runs there or not.
func CheckControlPath(directory string) error {
	path := ControlPath(directory)
	if len(path) > maxSocketPath {
		return fmt.Errorf("control socket %s: its path has %d bytes, and a unix socket's at most %d: choose a shorter data_directory", path, len(path), maxSocketPath)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("control socket %s: something else has that name: remove it", path)
	}
	return nil
}

// ListenControl makes the control socket in a data directory, for its owner only.
// One that a crashed instance has left behind is replaced; one that answers
// belongs to an instance that runs, and is an error.
func ListenControl(directory string) (net.Listener, error) {
	path := ControlPath(directory)
	if err := CheckControlPath(directory); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(path); err == nil {
		conn, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = conn.Close()
			return nil, fmt.Errorf("control socket %s: another instance runs with this data_directory: end it, or give this one a data_directory of its own", path)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, fmt.Errorf("control socket %s: an instance may be running: %w", path, err)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: remove what a crashed instance has left: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	// Between the two calls others may connect, and are not listened to: permitted.
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// failure is the body of an answer that is not success.
type failure struct {
	Error string `json:"error"`
}

type peerKey struct{}

type peer struct {
	operator Operator
	err      error
}

// withPeer finds out who has connected, once for a connection: the kernel noted
// it at connect(2), and no later execve changes it.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	operator, err := peerOf(conn)
	return context.WithValue(ctx, peerKey{}, peer{operator, err})
}

// permitted lets root and our own user in.
func permitted(next http.Handler) http.Handler {
	own := uint32(os.Geteuid())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := r.Context().Value(peerKey{}).(peer)
		switch {
		case !known || p.err != nil:
			writeJSON(w, http.StatusForbidden, failure{Error: fmt.Sprintf("who is asking cannot be found out: %v", p.err)})
		case !mayControl(p.operator.UID, own):
			writeJSON(w, http.StatusForbidden, failure{Error: fmt.Sprintf("%s may not control this instance: root and uid %d may", p.operator, own)})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func mayControl(uid, own uint32) bool { return uid == 0 || uid == own }

func (c *Control) read(mux *http.ServeMux, path string, do func(context.Context) (any, error)) {
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		out, err := do(r.Context())
		c.respond(w, r, out, err)
	})
}

// deliveries serves the verbs. Nil operations mean that the configuration has no webhooks.
func (c *Control) deliveries(mux *http.ServeMux, ops Deliveries) {
	if ops == nil {
		c.missing(mux, "the instance's configuration has no section webhooks: make a receiver with `sallyport webhook add`, and restart the instance", pathDeliveries, pathDeliveryShow, pathDeliveryReplay, pathDeliveryTrace)
		return
	}
	act(c, mux, pathDeliveries, ops.List)
	act(c, mux, pathDeliveryShow, ops.Show)
	act(c, mux, pathDeliveryReplay, ops.Replay)
	act(c, mux, pathDeliveryTrace, ops.Trace)
}

// missing answers verbs that the instance's configuration has no use for.
func (c *Control) missing(mux *http.ServeMux, message string, paths ...string) {
	for _, path := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusBadRequest, failure{Error: message})
		})
	}
}

// act is a verb that does something, with the request's body as its argument.
func act[In, Out any](c *Control, mux *http.ServeMux, path string, do func(context.Context, Operator, In) (Out, error)) {
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		var in In
		if err := decode(r, w, &in); err != nil {
			writeJSON(w, http.StatusBadRequest, failure{Error: err.Error()})
			return
		}
		by := r.Context().Value(peerKey{}).(peer).operator
		c.log.InfoContext(r.Context(), "control", "verb", path, "operator", by.String(), "pid", by.PID)
		// An operator who hangs up does not leave a thing half done.
		out, err := do(context.WithoutCancel(r.Context()), by, in)
		c.respond(w, r, out, err)
	})
}

// decode reads one JSON value strictly.
func decode(r *http.Request, w http.ResponseWriter, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxControl))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the request's body is not what is expected: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("the request's body holds more than one JSON value")
	}
	return nil
}

func (c *Control) respond(w http.ResponseWriter, r *http.Request, out any, err error) {
	if err == nil {
		writeJSON(w, http.StatusOK, out)
		return
	}
	status := http.StatusInternalServerError
	if _, ok := errors.AsType[*Mistake](err); ok {
		status = http.StatusBadRequest
	} else {
		c.log.ErrorContext(r.Context(), "control", "verb", r.URL.Path, "error", err)
	}
	writeJSON(w, status, failure{Error: err.Error()})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}
