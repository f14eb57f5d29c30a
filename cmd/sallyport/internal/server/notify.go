package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notifier tells a service manager how this process is doing, as sd_notify(3)
// describes it. The nil notifier tells nobody.
type notifier struct {
	socket   *net.UnixAddr
	watchdog time.Duration // 0: nobody waits for a notification
	log      *slog.Logger
}

// newNotifier returns nil where no service manager asks to be told. It takes the
// variables out of the environment: a PostgreSQL that this process starts would
// say that it is ready, and mean itself.
func newNotifier(log *slog.Logger) (*notifier, error) {
	socket, usec, pid := os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		_ = os.Unsetenv(name)
	}
	if socket == "" {
		return nil, nil
	}
	if !strings.HasPrefix(socket, "/") && !strings.HasPrefix(socket, "@") {
		return nil, fmt.Errorf("NOTIFY_SOCKET is %q: it has to be a path, or a name that begins with @", socket)
	}
	n := &notifier{socket: &net.UnixAddr{Name: socket, Net: "unixgram"}, log: log}
	// sd_watchdog_enabled(3): without WATCHDOG_PID it is for whoever reads it.
	if usec != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		microseconds, err := strconv.ParseInt(usec, 10, 48)
		if err != nil || microseconds <= 0 {
			return nil, fmt.Errorf("WATCHDOG_USEC is %q: it has to be a number of microseconds", usec)
		}
		n.watchdog = time.Duration(microseconds) * time.Microsecond
	}
	return n, nil
}

func (n *notifier) Ready(status string) { n.tell("READY=1", "STATUS="+status) }

func (n *notifier) stopping(status string) { n.tell("STOPPING=1", "STATUS="+status) }

// Reloading is followed by ready. It says nothing of the time, which only units
// of Type=notify-reload need.
func (n *notifier) Reloading() { n.tell("RELOADING=1", "STATUS=loading the policy") }

// tell sends one message. A manager that cannot be told is not a reason to end.
func (n *notifier) tell(lines ...string) {
	if n == nil {
		return
	}
	err := func() error {
		c, err := net.DialUnix("unixgram", nil, n.socket)
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		_, err = c.Write([]byte(strings.Join(lines, "\n")))
		return err
	}()
	if err != nil {
		n.log.Warn("notify service manager failed", "state", lines[0], "error", err)
	}
}

// probe is a question to one part, which counts as alive when it answers,
// whatever it answers: to be restarted helps against a part that is stuck, and
// not against a database that is unavailable.
type probe struct {
	part string
	ask  func()
}

// keepAlive notifies the watchdog twice in the time that the manager waits for
// one, for as long as every part answers, until ctx ends.
func (n *notifier) keepAlive(ctx context.Context, probes []probe) {
	if n == nil || n.watchdog == 0 {
		return
	}
	interval := n.watchdog / 2
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if !n.alive(ctx, probes, interval) {
			return
		}
		n.tell("WATCHDOG=1")
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// alive asks every part. It says which one is stuck, and waits on: what was slow
// and continues before the manager's patience ends is alive.
func (n *notifier) alive(ctx context.Context, probes []probe, soon time.Duration) bool {
	for _, p := range probes {
		answered := make(chan struct{})
		go func() {
			p.ask()
			close(answered)
		}()
		select {
		case <-answered:
			continue
		case <-ctx.Done():
			return false
		case <-time.After(soon):
			n.log.Error("watchdog not notified: health probe failed", "component", p.part, "waited", soon)
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// probes are the parts without which nothing is decided or recorded.
func (s *server) probes() []probe {
	return []probe{
		{"audit", func() { _ = s.audit.Available() }},
		{"identity", func() { _ = s.authenticator.Ready() }},
		{"policy", func() { _ = s.policy.Ready(); _ = s.policy.Detail() }},
		{"tunnels", func() { _ = s.tracker.Len() }},
		{"connections", func() { _ = s.front.Connections() }},
	}
}
