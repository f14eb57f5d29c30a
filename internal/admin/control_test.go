package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// desk notes what operators ask of it.
type desk struct {
	mu   sync.Mutex
	by   []Operator
	told []string
	err  error
}

func (d *desk) note(by Operator, format string, args ...any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.by, d.told = append(d.by, by), append(d.told, fmt.Sprintf(format, args...))
	return d.err
}

func (d *desk) did() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.told)
}

type deskCredentials struct{ *desk }

func (d deskCredentials) Revoke(_ context.Context, by Operator, r RevokeRequest) (Revoked, error) {
	return Revoked{Revocation: Revocation{Scope: "step", UUID: r.Step, Reason: r.Reason}, Closed: 2}, d.note(by, "revoke %s for %v", r.Step, r.For)
}

func (d deskCredentials) Unrevoke(_ context.Context, by Operator, r UnrevokeRequest) (Unrevoked, error) {
	return Unrevoked{UUID: r.Repository, Lifted: 1}, d.note(by, "restore %s", r.Repository)
}

func (d deskCredentials) Revocations(context.Context) ([]Revocation, error) {
	return []Revocation{{ID: 7, Scope: "repository"}}, d.err
}

type deskTunnels struct{ *desk }

func (d deskTunnels) List(context.Context) (TunnelList, error) {
	return TunnelList{Tunnels: []Tunnel{{ID: "x", Target: "a.example:443"}}, Stop: &Stop{By: "ada"}}, d.err
}

func (d deskTunnels) Close(_ context.Context, by Operator, r CloseRequest) (Closed, error) {
	return Closed{Closed: 1, Unknown: []string{"y"}}, d.note(by, "close %v", r.IDs)
}

func (d deskTunnels) EmergencyStop(_ context.Context, by Operator, r StopRequest) (Stopped, error) {
	return Stopped{Stop: Stop{Reason: r.Reason}, Closed: 3, Warnings: []string{"w"}}, d.note(by, "emergency-stop %s", r.Reason)
}

func (d deskTunnels) LiftEmergencyStop(_ context.Context, by Operator, _ StopRequest) (StopLifted, error) {
	return StopLifted{Was: &Stop{By: "ada"}}, d.note(by, "resume")
}

type deskPolicy struct{ *desk }

func (d deskPolicy) Reload(_ context.Context, by Operator) (PolicyState, error) {
	return PolicyState{Revision: "sha256:x", Changed: true}, d.note(by, "reload")
}

type deskDebug struct{ *desk }

func (d deskDebug) Collect(_ context.Context, by Operator, r DebugRequest) (DebugData, error) {
	return DebugData{[]byte{0, 255}}, d.note(by, "debug %s for %v", r.Kind, r.Duration)
}

// office is a control server on a socket in a directory of its own.
func office(t *testing.T) (*desk, string) {
	t.Helper()
	d, directory := &desk{}, t.TempDir()
	l, err := ListenControl(directory)
	if err != nil {
		t.Fatal(err)
	}
	c := NewControl(Operations{Credentials: deskCredentials{d}, Tunnels: deskTunnels{d}, Policy: deskPolicy{d}, Debug: deskDebug{d}}, slog.New(slog.DiscardHandler))
	served := make(chan error, 1)
	go func() { served <- c.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(c.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(ControlPath(directory)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return d, directory
}

func TestControl(t *testing.T) {
	d, directory := office(t)
	c, ctx := NewControlClient(directory), t.Context()
	check := func(got any, err error, want any) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	revoked, err := c.Revoke(ctx, RevokeRequest{Subject{Step: "s"}, time.Hour, "it leaks"})
	check(revoked, err, Revoked{Revocation: Revocation{Scope: "step", UUID: "s", Reason: "it leaks"}, Closed: 2})
	restored, err := c.Unrevoke(ctx, UnrevokeRequest{Subject: Subject{Repository: "r"}})
	check(restored, err, Unrevoked{UUID: "r", Lifted: 1})
	revocations, err := c.Revocations(ctx)
	check(revocations, err, []Revocation{{ID: 7, Scope: "repository"}})
	tunnels, err := c.Tunnels(ctx)
	check(tunnels, err, TunnelList{Tunnels: []Tunnel{{ID: "x", Target: "a.example:443"}}, Stop: &Stop{By: "ada"}})
	closed, err := c.CloseTunnels(ctx, CloseRequest{IDs: []string{"x", "y"}})
	check(closed, err, Closed{Closed: 1, Unknown: []string{"y"}})
	stopped, err := c.EmergencyStop(ctx, StopRequest{"fire"})
	check(stopped, err, Stopped{Stop: Stop{Reason: "fire"}, Closed: 3, Warnings: []string{"w"}})
	resumed, err := c.LiftEmergencyStop(ctx, StopRequest{})
	check(resumed, err, StopLifted{Was: &Stop{By: "ada"}})
	state, err := c.ReloadPolicy(ctx)
	check(state, err, PolicyState{Revision: "sha256:x", Changed: true})

	data, err := c.Debug(ctx, DebugRequest{DebugProfile, time.Second})
	check(data, err, DebugData{[]byte{0, 255}})

	check(d.told, nil, []string{"revoke s for 1h0m0s", "restore r", "close [x y]", "emergency-stop fire", "resume", "reload", "debug profile for 1s"})
	for _, by := range d.by {
		if by.UID != uint32(os.Geteuid()) || by.PID != int32(os.Getpid()) || !strings.Contains(by.String(), fmt.Sprintf("uid %d", by.UID)) {
			t.Errorf("the operator is %+v", by)
		}
	}

	d.err = &Mistake{"no such step"}
	if _, err := c.Revoke(ctx, RevokeRequest{}); err == nil || err.Error() != "no such step" {
		t.Errorf("got %v", err)
	} else if _, ok := errors.AsType[*Mistake](err); !ok {
		t.Errorf("the mistake came back as %T", err)
	}
	d.err = errors.New("the database is away")
	if _, err := c.Tunnels(ctx); err == nil || err.Error() != "the database is away" {
		t.Errorf("got %v", err)
	}
}

// TestControlIsStrict speaks to the socket as no client of ours would.
func TestControlIsStrict(t *testing.T) {
	d, directory := office(t)
	c := NewControlClient(directory)
	for name, r := range map[string]struct {
		method, path, body string
		status             int
	}{
		"unknown verb":  {"POST", "/v1/everything", "{}", 404},
		"act by GET":    {"GET", pathEmergencyStop, "", 404},
		"no body":       {"POST", pathEmergencyStop, "", 400},
		"not JSON":      {"POST", pathEmergencyStop, "why", 400},
		"unknown field": {"POST", pathEmergencyStop, `{"cause":"x"}`, 400},
		"two values":    {"POST", pathEmergencyStop, `{}{}`, 400},
		"wrong type":    {"POST", pathClose, `{"ids":"x"}`, 400},
		"too large":     {"POST", pathEmergencyStop, `{"reason":"` + strings.Repeat("x", maxControl) + `"}`, 400},
		"read by POST":  {"POST", pathTunnels, "{}", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), r.method, "http://control"+r.path, strings.NewReader(r.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.http.Transport.RoundTrip(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != r.status {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, r.status)
		}
	}
	if len(d.told) != 0 {
		t.Errorf("it did %v", d.told)
	}
}

func TestControlSocketFile(t *testing.T) {
	_, directory := office(t)
	info, err := os.Lstat(ControlPath(directory))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("its mode is %v", info.Mode())
	}
	// Another instance on the same directory is refused, and the first continues.
	if _, err := ListenControl(directory); err == nil || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("got %v", err)
	}
	if _, err := NewControlClient(directory).Tunnels(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestControlAfterACrash: a socket without a listener is replaced; anything
// else of that name is not.
func TestControlAfterACrash(t *testing.T) {
	directory := t.TempDir()
	l, err := net.Listen("unix", ControlPath(directory))
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := NewControlClient(directory).Tunnels(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	if l, err = ListenControl(directory); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	if err := os.WriteFile(ControlPath(directory), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenControl(directory); err == nil {
		t.Error("a file was taken for a socket")
	}
	if raw, err := os.ReadFile(ControlPath(directory)); err != nil || string(raw) != "mine" {
		t.Errorf("the file is gone: %q, %v", raw, err)
	}
}

func TestControlErrorsSayWhatToDo(t *testing.T) {
	directory := t.TempDir()
	_, err := NewControlClient(directory).Tunnels(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), directory) || !strings.Contains(err.Error(), "serve") {
		t.Errorf("not running: %v", err)
	}
	deep := filepath.Join(directory, strings.Repeat("d", 120))
	if _, err := ListenControl(deep); err == nil || !strings.Contains(err.Error(), "shorter data_directory") {
		t.Errorf("a long path: %v", err)
	}
	if _, err := NewControlClient(deep).Tunnels(t.Context()); err == nil || !strings.Contains(err.Error(), "shorter data_directory") {
		t.Errorf("a long path: %v", err)
	}
	err = NewControlClient(directory).explain(&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if err == nil || !strings.Contains(err.Error(), "only root") {
		t.Errorf("no permission: %v", err)
	}
}

// TestWhoMayControl: root and the instance's own user, and no user whom the kernel does
// not name.
func TestWhoMayControl(t *testing.T) {
	for _, c := range []struct {
		uid, own uint32
		may      bool
	}{{0, 1000, true}, {1000, 1000, true}, {1001, 1000, false}, {1000, 0, false}, {65534, 1000, false}} {
		if got := mayControl(c.uid, c.own); got != c.may {
			t.Errorf("uid %d of an instance of uid %d: %v", c.uid, c.own, got)
		}
	}
	// Without the kernel's credentials no client is accepted: TCP has none.
	d := &desk{}
	c := NewControl(Operations{Credentials: deskCredentials{d}, Tunnels: deskTunnels{d}, Policy: deskPolicy{d}, Debug: deskDebug{d}}, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- c.Serve(l) }()
	defer func() {
		_ = c.Close(context.Background())
		<-served
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+l.Addr().String()+pathEmergencyStop, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden || len(d.told) != 0 {
		t.Errorf("%d, did %v", resp.StatusCode, d.told)
	}
}
