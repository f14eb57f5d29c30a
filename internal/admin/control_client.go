package admin

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning: no instance has the data directory.
var ErrNotRunning = errors.New("no instance is running")

// ControlClient asks a running instance, over its control socket. It is safe for
// concurrent use.
type ControlClient struct {
	directory string
	http      *http.Client
}

// NewControlClient returns a client of the instance with this data directory. It
// does not connect yet.
func NewControlClient(directory string) *ControlClient {
	path := ControlPath(directory)
	return &ControlClient{directory: directory, http: &http.Client{
		Timeout: 2 * time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
			DisableKeepAlives: true,
		},
	}}
}

// Revoke ends the admission of a step or a repository in every instance.
func (c *ControlClient) Revoke(ctx context.Context, r RevokeRequest) (Revoked, error) {
	return postJSON[Revoked](ctx, c, http.MethodPost, pathRevoke, r)
}

// Unrevoke lifts the revocations of a step or a repository.
func (c *ControlClient) Unrevoke(ctx context.Context, r UnrevokeRequest) (Unrevoked, error) {
	return postJSON[Unrevoked](ctx, c, http.MethodPost, pathUnrevoke, r)
}

// Revocations lists what is in force.
func (c *ControlClient) Revocations(ctx context.Context) ([]Revocation, error) {
	return postJSON[[]Revocation](ctx, c, http.MethodGet, pathRevocations, nil)
}

// Tunnels lists open tunnels.
func (c *ControlClient) Tunnels(ctx context.Context) (TunnelList, error) {
	return postJSON[TunnelList](ctx, c, http.MethodGet, pathTunnels, nil)
}

// CloseTunnels closes tunnels by their decision's id.
func (c *ControlClient) CloseTunnels(ctx context.Context, r CloseRequest) (Closed, error) {
	return postJSON[Closed](ctx, c, http.MethodPost, pathClose, r)
}

// EmergencyStop refuses everything and closes everything, until [ControlClient.LiftEmergencyStop].
func (c *ControlClient) EmergencyStop(ctx context.Context, r StopRequest) (Stopped, error) {
	return postJSON[Stopped](ctx, c, http.MethodPost, pathEmergencyStop, r)
}

// LiftEmergencyStop ends an emergency stop.
func (c *ControlClient) LiftEmergencyStop(ctx context.Context, r StopRequest) (StopLifted, error) {
	return postJSON[StopLifted](ctx, c, http.MethodPost, pathLiftEmergencyStop, r)
}

// ReloadPolicy has the policy checked again.
func (c *ControlClient) ReloadPolicy(ctx context.Context) (PolicyState, error) {
	return postJSON[PolicyState](ctx, c, http.MethodPost, pathReload, struct{}{})
}

// Debug returns a description of the process.
func (c *ControlClient) Debug(ctx context.Context, r DebugRequest) (DebugData, error) {
	return postJSON[DebugData](ctx, c, http.MethodPost, pathDebug, r)
}

func postJSON[Out any](ctx context.Context, c *ControlClient, method, path string, in any) (out Out, err error) {
	err = c.call(ctx, method, path, in, &out)
	return out, err
}

func (c *ControlClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://control"+path, body)
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return c.explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var f failure
		_ = json.Unmarshal(raw, &f)
		message := cmp.Or(f.Error, resp.Status)
		if resp.StatusCode == http.StatusBadRequest {
			return &Mistake{message}
		}
		return errors.New(message)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("control socket: the answer cannot be read: %w", err)
	}
	return nil
}

// explain adds what an operator can do about a socket that does not answer.
func (c *ControlClient) explain(err error) error {
	path := ControlPath(c.directory)
	switch {
	case len(path) > maxSocketPath:
		return fmt.Errorf("control socket %s: its path has %d bytes, and a unix socket's at most %d: choose a shorter data_directory", path, len(path), maxSocketPath)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w with data_directory %s: start it with `sallyport serve`, or name the configuration of the one that runs with -c", ErrNotRunning, c.directory)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("control socket %s: only %s may control this instance", path, c.allowed())
	}
	return fmt.Errorf("control socket: %w", err)
}

// allowed lists who may: root, and the owner of the socket, or of the directory where
// that much cannot be seen.
func (c *ControlClient) allowed() string {
	for _, path := range []string{ControlPath(c.directory), c.directory} {
		info, err := os.Stat(path)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			uid := strconv.FormatUint(uint64(st.Uid), 10)
			if st.Uid == 0 {
				return "root"
			}
			if u, err := user.LookupId(uid); err == nil {
				return "root and " + u.Username
			}
			return "root and uid " + uid
		}
	}
	return "root and the user that it runs as"
}
