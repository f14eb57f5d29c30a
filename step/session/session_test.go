package session

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// newDir returns a session's directory with a short path.
func newDir(t *testing.T) Dir {
	t.Helper()
	parent, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(parent) })
	d, err := Create(filepath.Join(parent, "session"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func serve(t *testing.T, d Dir, change func(*Server), handle func(context.Context, Request) (any, error)) {
	t.Helper()
	s, err := Listen(d, handle)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		served.Wait()
	})
}

func echo(_ context.Context, r Request) (any, error) {
	if r.Operation == OperationReport {
		return nil, errors.New("no \x1b[2Jreport")
	}
	return Status{Version: r.Operation + r.Forward}, nil
}

func TestCall(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	ctx := t.Context()
	if err := Call(ctx, d.Path(), Request{Operation: OperationStatus}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	if err := Call(ctx, filepath.Join(d.Path(), "missing"), Request{Operation: OperationStatus}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	serve(t, d, nil, echo)
	var status Status
	if err := Call(ctx, d.Path(), Request{Operation: OperationForward, Forward: "1:a:2"}, &status); err != nil || status.Version != "forward1:a:2" {
		t.Errorf("%+v, %v", status, err)
	}
	err := Call(ctx, d.Path(), Request{Operation: OperationReport}, nil)
	if remote, ok := errors.AsType[RemoteError](err); !ok || strings.Contains(remote.Error(), "\x1b") {
		t.Errorf("got %q", err)
	}
	for text, want := range map[string]string{
		`{"operation":"stpo"}`: "not known", `{"operation":"status","x":1}`: "unknown field", `{"operation":"status"} {}`: "after the value",
		`{"operation":"status","forward":"1"}`: "belong together", `{"operation":"forward"}`: "belong together", `{"operation":"network_check"}`: "belong together", `{"operation":"evaluate"}`: "has 0 targets",
		`{"operation":"status","targets":["a:1"]}`: "has 1 targets", `{"operation":"evaluate","targets":[` + strings.Repeat(`"a:1",`, 32) + `"a:1"]}`: "has 33 targets", ``: "EOF", `[]`: "not valid",
		`{"operation":"` + strings.Repeat("s", maxRequestBytes) + `"}`: "too long",
	} {
		if got := raw(t, d, text); !strings.Contains(got, want) {
			t.Errorf("%.60s: %s, want %s", text, got, want)
		}
	}
}

// raw sends a text to the control socket and returns the response.
func raw(t *testing.T, d Dir, text string) string {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(d.Path(), socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, _ = io.WriteString(conn, text)
	_ = conn.CloseWrite()
	answer, _ := io.ReadAll(conn)
	return string(answer)
}

// TestLongPath: a path that a socket address has no room for is served.
func TestLongPath(t *testing.T) {
	t.Parallel()
	path := newDir(t).Path()
	for range 3 {
		path = filepath.Join(path, strings.Repeat("long", 25))
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Call(t.Context(), path, Request{Operation: OperationStatus}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before: %v", err)
	}
	serve(t, d, nil, echo)
	var status Status
	if err := Call(t.Context(), path, Request{Operation: OperationStatus}, &status); err != nil || status.Version != OperationStatus {
		t.Errorf("%+v, %v", status, err)
	}
}

// TestLeftSocket: a forwarder that was killed leaves a socket, which the next one replaces.
func TestLeftSocket(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(d.Path(), socketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if err := Call(t.Context(), d.Path(), Request{Operation: OperationStatus}, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v", err)
	}
	serve(t, d, nil, echo)
	if err := Call(t.Context(), d.Path(), Request{Operation: OperationStatus}, nil); err != nil {
		t.Error(err)
	}
}

// TestPrivateDirectory: a directory that another user prepared or can open is refused.
func TestPrivateDirectory(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	path := func(name string) string { return filepath.Join(parent, name) }
	for _, err := range []error{
		os.Mkdir(path("real"), 0o700), os.Symlink(path("real"), path("link")), os.WriteFile(path("file"), nil, 0o600),
		os.Mkdir(path("open"), 0o700), os.Chmod(path("open"), 0o750),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := map[string]string{"link": "not a directory", "file": "not a directory", "open": "chmod 700"}
	if os.Geteuid() == 0 {
		want["foreign"] = "another user"
		if err := errors.Join(os.Mkdir(path("foreign"), 0o700), os.Chown(path("foreign"), 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range want {
		if _, err := Create(path(name)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Call(t.Context(), path(name), Request{Operation: OperationStatus}, nil); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: call: %v", name, err)
		}
	}
	if _, err := Create(path("real")); err != nil {
		t.Error(err)
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct{ session, tmp, want string }{
		{"", "", "/tmp/sallyport-step-" + strconv.Itoa(os.Geteuid())}, {"", "/a/", "/a/sallyport-step-" + strconv.Itoa(os.Geteuid())},
		{"/s/", "/a", "/s"}, {"s", "", "not absolute"}, {"", "tmp", "not absolute"},
	} {
		got, err := Path(func(name string) string { return map[string]string{Variable: c.session, "TMPDIR": c.tmp}[name] })
		if err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

// TestPeerIsNeeded: the check of the peer's user is what refuses another user. Without it,
// a peer that reaches the socket is served.
func TestPeerIsNeeded(t *testing.T) {
	t.Parallel()
	for _, checked := range []bool{true, false} {
		d := newDir(t)
		serve(t, d, func(s *Server) {
			s.admit = func(*net.UnixConn) error {
				if !checked {
					return nil
				}
				return admitUser(12345, 1000) // the peer's user, and ours
			}
		}, echo)
		got := raw(t, d, `{"operation":"stop"}`)
		if refused := strings.Contains(got, "user 12345 may not"); refused != checked {
			t.Errorf("checked %v: %s", checked, got)
		}
	}
	for peer, want := range map[uint32]bool{0: true, 1000: true, 1001: false} {
		if err := admitUser(peer, 1000); (err == nil) != want {
			t.Errorf("%d: %v", peer, err)
		}
	}
}

// TestLock: one holder at a time, also across the removal of the directory.
func TestLock(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	var mu sync.Mutex
	held := 0
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				dir, err := Create(d.Path())
				if err != nil {
					t.Error(err)
					return
				}
				unlock, err := dir.Lock()
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				held++
				if held > 1 {
					t.Error("two holders")
				}
				mu.Unlock()
				mu.Lock()
				held--
				mu.Unlock()
				if err := dir.Remove(); err != nil {
					t.Error(err)
				}
				unlock()
			}
		})
	}
	all.Wait()
}

// TestWaitEnded: the end of a forwarder is the end of its lock.
func TestWaitEnded(t *testing.T) {
	d := newDir(t)
	if err := d.WaitEnded(t.Context()); err != nil {
		t.Error(err)
	}
	if err := d.MarkRunning(); err != nil {
		t.Fatal(err)
	}
	if err := d.MarkRunning(); err == nil {
		t.Error("two forwarders")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.WaitEnded(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	var waited sync.WaitGroup
	waited.Go(func() {
		if err := d.WaitEnded(t.Context()); err != nil {
			t.Error(err)
		}
	})
	d.ClearRunning()
	waited.Wait()
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"operation":"status"}`, `{"operation":"forward","forward":"1:a:2"}`, `{"operation":"stop"} `, `{}`, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRequest(text)
		if err == nil && (r.Operation == "" || (r.Operation == OperationForward) != (r.Forward != "")) {
			t.Errorf("%q: %+v", text, r)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, s := range []string{`{"result":{"pid":1}}`, `{"error":"x"}`, `{}`, `null`, `{"result":null}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var status Status
		_ = parseResponse(text, &status)
	})
}
