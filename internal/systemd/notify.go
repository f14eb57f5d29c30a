// Package systemd implements the two protocols between systemd and a service:
// notifications and the watchdog (sd_notify(3)), and inherited listening sockets
// (sd_listen_fds(3)). Other service managers speak them as well.
package systemd

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

// Notifier reports the state of this process to its service manager. The methods of a
// nil Notifier do nothing. It is safe for concurrent use.
type Notifier struct {
	socket   *net.UnixAddr
	watchdog time.Duration // 0: the manager expects no notification
	log      *slog.Logger
}

// NewNotifier returns a notifier, or nil if no service manager expects notifications. It
// removes the variables from the environment: a PostgreSQL that this process starts
// would report its own state with them.
func NewNotifier(log *slog.Logger) (*Notifier, error) {
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
	n := &Notifier{socket: &net.UnixAddr{Name: socket, Net: "unixgram"}, log: log}
	// sd_watchdog_enabled(3): without WATCHDOG_PID it is for every process.
	if usec != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		microseconds, err := strconv.ParseInt(usec, 10, 48)
		if err != nil || microseconds <= 0 {
			return nil, fmt.Errorf("WATCHDOG_USEC is %q: it has to be a number of microseconds", usec)
		}
		n.watchdog = time.Duration(microseconds) * time.Microsecond
	}
	return n, nil
}

// Ready reports that the start, or a reload, is complete.
func (n *Notifier) Ready(status string) { n.send("READY=1", "STATUS="+status) }

// Stopping reports that the shutdown has begun.
func (n *Notifier) Stopping(status string) { n.send("STOPPING=1", "STATUS="+status) }

// Reloading reports that a reload has begun; Ready must follow. The message has no
// MONOTONIC_USEC, which only units of Type=notify-reload need.
func (n *Notifier) Reloading() { n.send("RELOADING=1", "STATUS=loading the policy") }

// send sends one message. A failure is logged and does not end the process.
func (n *Notifier) send(lines ...string) {
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

// Probe is a health probe of one component, which is alive when the probe returns,
// whatever the result: a restart helps a component that hangs, and does not help
// against a database that is unavailable.
type Probe struct {
	Component string
	Run       func()
}

// Watch notifies the watchdog twice in the time in which the manager expects one
// notification, as long as every probe returns, until ctx ends.
func (n *Notifier) Watch(ctx context.Context, probes []Probe) {
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
		n.send("WATCHDOG=1")
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// alive waits for every probe, and reports whether ctx has not ended meanwhile. It logs
// a component whose probe does not return soon and waits on: a slow component that
// continues before the manager's timeout is alive.
func (n *Notifier) alive(ctx context.Context, probes []Probe, soon time.Duration) bool {
	for _, p := range probes {
		returned := make(chan struct{})
		go func() {
			p.Run()
			close(returned)
		}()
		select {
		case <-returned:
			continue
		case <-ctx.Done():
			return false
		case <-time.After(soon):
			n.log.Error("watchdog not notified: health probe failed", "component", p.Component, "waited", soon)
		}
		select {
		case <-returned:
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}
