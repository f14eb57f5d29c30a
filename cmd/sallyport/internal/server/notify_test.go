package server

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStuckPartGivesNoSignOfLife: a part that does not answer keeps the sign of
// life back and is named; one that is merely slow continues.
func TestStuckPartGivesNoSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := &notifier{log: slog.New(slog.NewTextHandler(&log, nil))}
		answer := make(chan struct{})
		probes := []probe{{"quick", func() {}}, {"stuck", func() { <-answer }}}
		alive := make(chan bool, 1)
		go func() { alive <- n.alive(t.Context(), probes, time.Second) }()
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if len(alive) != 0 || !strings.Contains(log.String(), "component=stuck") {
			t.Fatalf("a stuck part is alive: %s", &log)
		}
		close(answer)
		if !<-alive {
			t.Error("a slow part is dead")
		}
	})
}

func TestBound(t *testing.T) {
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
		if got := bound(netip.MustParseAddrPort(c.socket), c.configured); got != c.want {
			t.Errorf("a socket at %s is for %s: %v", c.socket, c.configured, got)
		}
	}
}
