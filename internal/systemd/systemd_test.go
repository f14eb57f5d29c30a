package systemd

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatchdogIsNotNotifiedWhileAComponentHangs: a component whose probe does not return
// holds the notification back and is named; one that is merely slow continues.
func TestWatchdogIsNotNotifiedWhileAComponentHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &Notifier{log: slog.New(slog.NewTextHandler(&log, nil))}
		answer := make(chan struct{})
		probes := []Probe{{"quick", func() {}}, {"stuck", func() { <-answer }}}
		alive := make(chan bool, 1)
		go func() { alive <- n.alive(t.Context(), probes, time.Second) }()
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if len(alive) != 0 || !strings.Contains(log.String(), "component=stuck") {
			t.Fatalf("a stuck component is alive: %s", &log)
		}
		close(answer)
		if !<-alive {
			t.Error("a slow component is dead")
		}
	})
}

// TestNotifierSendsStates: each state is one datagram, and the variables are not left to
// child processes.
func TestNotifierSendsStates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	n, err := NewNotifier(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	n.Ready("serving")
	n.Reloading()
	n.Stopping("waiting")
	var got []string
	for range 3 {
		b := make([]byte, 200)
		_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
		size, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(b[:size]))
	}
	if want := []string{"READY=1\nSTATUS=serving", "RELOADING=1\nSTATUS=loading the policy", "STOPPING=1\nSTATUS=waiting"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
	if n, err := NewNotifier(nil); n != nil || err != nil {
		t.Errorf("a second notifier got the environment of the first: %v, %v", n, err)
	}
	(*Notifier)(nil).Ready("no manager")
}

func TestNotifierRefusesInvalidVariables(t *testing.T) {
	for name, variables := range map[string]map[string]string{
		"a relative path":   {"NOTIFY_SOCKET": "run/notify"},
		"a negative time":   {"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "-1"},
		"a time with units": {"NOTIFY_SOCKET": "@notify", "WATCHDOG_USEC": "30s"},
	} {
		t.Run(name, func(t *testing.T) {
			for key, value := range variables {
				t.Setenv(key, value)
			}
			if n, err := NewNotifier(nil); err == nil {
				t.Errorf("accepted as %+v", n)
			}
		})
	}
}

func TestSocketNames(t *testing.T) {
	for _, c := range []struct {
		fds, names string
		want       []string // nil: refused
	}{
		{"0", "", []string{}},
		{"2", "", []string{"", ""}},
		{"2", "proxy:admin", []string{"proxy", "admin"}},
		{"2", "proxy:", []string{"proxy", ""}},
		{"2", "proxy", nil},
		{"1", "proxy:admin", nil},
		{"-1", "", nil},
		{"1025", "", nil},
		{"", "", nil},
		{"two", "", nil},
	} {
		got, err := socketNames(c.fds, c.names)
		if (err != nil) != (c.want == nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%q and %q: %q, %v", c.fds, c.names, got, err)
		}
	}
}

func TestSocketIsClaimedOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sockets := Sockets{{TCPListener: l.(*net.TCPListener)}}
	defer sockets.Close()
	if sockets.Unclaimed() != sockets[0] {
		t.Error("the socket is claimed before the claim")
	}
	if got := sockets.Claim(l.Addr().String()); got != sockets[0] {
		t.Errorf("claimed %v", got)
	}
	if got := sockets.Claim(l.Addr().String()); got != nil || sockets.Unclaimed() != nil {
		t.Errorf("claimed twice: %v", got)
	}
}

func TestSocketIsBoundToAddress(t *testing.T) {
	for _, c := range []struct {
		socket, configured string
		want               bool
	}{
		{"[::]:3129", ":3129", true},
		{"0.0.0.0:3129", ":3129", true},
		{"[::]:3129", ":3128", false},
		{"127.0.0.1:3129", ":3129", false},
		{"127.0.0.1:3129", "127.0.0.1:3129", true},
		{"[::ffff:127.0.0.1]:3129", "127.0.0.1:3129", true},
		{"127.0.0.2:3129", "127.0.0.1:3129", false},
		{"[::]:3129", "0.0.0.0:3129", false},
		{"[::]:3129", "[::]:3129", true},
		{"127.0.0.1:3129", "127.0.0.1:0", false},
	} {
		if got := isBoundTo(netip.MustParseAddrPort(c.socket), c.configured); got != c.want {
			t.Errorf("a socket at %s is for %s: %v", c.socket, c.configured, got)
		}
	}
}
