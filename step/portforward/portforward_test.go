package portforward

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseSpec(t *testing.T) {
	for given, want := range map[string]string{
		"5432:db.example:5432":              "127.0.0.1:5432:db.example:5432",
		"0:db.example:5432":                 "127.0.0.1:0:db.example:5432",
		"127.0.0.2:5432:db.example:5432":    "127.0.0.2:5432:db.example:5432",
		"[::1]:5432:db.example:5432":        "[::1]:5432:db.example:5432",
		"5432:[2001:db8::1]:5432":           "127.0.0.1:5432:[2001:db8::1]:5432",
		"127.0.0.2:5432:[2001:db8::1]:5432": "127.0.0.2:5432:[2001:db8::1]:5432",
		"":                                  "local port",
		"5432":                              "local port",
		"x:db.example:5432":                 "local port",
		"70000:db.example:5432":             "local port",
		"5432:db.example":                   "HOST:PORT",
		"5432:db.example:0":                 "1 to 65535",
		"5432:db.example:x":                 "1 to 65535",
		"5432::5432":                        "HOST:PORT",
		"0.0.0.0:5432:db.example:5432":      "loopback",
		"10.0.0.1:5432:db.example:5432":     "loopback",
		"[::]:5432:db.example:5432":         "loopback",
		"[::1":                              "loopback",
		"localhost:5432:db.example:5432":    "local port",
		"5432:db example:5432":              "HOST:PORT",
		"5432:db\r\nX: y:5432":              "HOST:PORT",
	} {
		spec, err := ParseSpec(given)
		if err == nil && spec.String() != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v, want %s", given, spec, err, want)
		}
	}
}

func FuzzSpec(f *testing.F) {
	f.Add("5432:db.example:5432")
	f.Add("[::1]:1:[::2]:3")
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := ParseSpec(s)
		if err != nil {
			return
		}
		if again, err := ParseSpec(spec.String()); err != nil || again != spec || !spec.Local.Addr().IsLoopback() {
			t.Errorf("%q: %+v, again %+v, %v", s, spec, again, err)
		}
	})
}

// upperTarget answers in upper case, and after the client's end with "bye".
func upperTarget(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				text, _ := io.ReadAll(conn)
				_, _ = conn.Write(append(bytes.ToUpper(text), " bye"...))
			}()
		}
	}()
	return l.Addr().String()
}

func direct(ctx context.Context, target string) (Stream, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// TestServe: half-closes arrive in both directions, a peer that is not admitted reaches
// nothing, and the end of the context ends all connections.
func TestServe(t *testing.T) {
	t.Parallel()
	target := upperTarget(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	refuse := make(chan bool, 1)
	refuse <- false
	refused := make(chan struct{}, 1)
	connected := make(chan string, 4)
	var served sync.WaitGroup
	served.Go(func() {
		if err := Serve(ctx, l, target, Config{
			Admit: func(net.Conn) bool {
				r := <-refuse
				refuse <- r
				if r {
					refused <- struct{}{}
				}
				return !r
			},
			Connect: func(ctx context.Context, target string) (Stream, error) {
				connected <- target
				return direct(ctx, target)
			},
		}); err != nil {
			t.Error(err)
		}
	})
	dial := func() *net.TCPConn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { _ = conn.Close() })
		return conn.(*net.TCPConn)
	}
	conn := dial()
	_, _ = io.WriteString(conn, "hello")
	_ = conn.CloseWrite()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "HELLO bye" {
		t.Errorf("%q, %v", text, err)
	}
	<-connected
	<-refuse
	refuse <- true
	if _, err := io.ReadAll(dial()); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	<-refused
	if len(connected) > 0 {
		t.Error("a peer that is not admitted was connected")
	}
	<-refuse
	refuse <- false
	open := dial()
	<-connected
	cancel()
	served.Wait()
	if _, err := io.ReadAll(open); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
}

// TestRelayReportsAnError: a broken input does not end the tunnel as a complete one.
func TestRelayReportsAnError(t *testing.T) {
	t.Parallel()
	ended := &fakeStream{read: make(chan struct{})}
	var out bytes.Buffer
	Relay(t.Context(), ended, brokenReader{}, &out, func() error { return nil })
	if ended.closedWrite {
		t.Error("a broken input was passed on as an end")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

// fakeStream blocks readers until it is closed.
type fakeStream struct {
	once        sync.Once
	read        chan struct{}
	closedWrite bool
}

func (s *fakeStream) Read([]byte) (int, error)    { <-s.read; return 0, net.ErrClosed }
func (s *fakeStream) Write(b []byte) (int, error) { return len(b), nil }
func (s *fakeStream) CloseWrite() error           { s.closedWrite = true; return nil }
func (s *fakeStream) Close() error                { s.once.Do(func() { close(s.read) }); return nil }
