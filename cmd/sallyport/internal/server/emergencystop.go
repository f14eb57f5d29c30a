package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/durable"
	"github.com/sallyport/sallyport/proxy"
)

// emergencyStop refuses everything and closes everything that is open, until an
// operator lifts it. A stop that a crash or a restart lifts is not a stop: a file in
// the data directory keeps it. It is this instance's alone, so that it needs no
// database, which may be what is wrong.
type emergencyStop struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	gate    *proxy.Gate
	tracker *proxy.Tracker
	current *admin.Stop // nil: nothing is stopped
}

// loadEmergencyStop reads whether there is a stop that an earlier process was
// given. A file that cannot be understood is one.
func loadEmergencyStop(directory string, log *slog.Logger) (*emergencyStop, error) {
	e := &emergencyStop{path: filepath.Join(directory, "emergency-stop.json"), log: log}
	raw, err := os.ReadFile(e.path)
	if errors.Is(err, fs.ErrNotExist) {
		return e, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the emergency stop: %w: let the server's user read the file, or remove it to lift the stop", err)
	}
	e.current = new(admin.Stop)
	if err := json.Unmarshal(raw, e.current); err != nil {
		e.current = &admin.Stop{By: "unknown", Reason: "the file " + e.path + " cannot be read: " + err.Error()}
	}
	return e, nil
}

// guard takes over the gate and open tunnels behind it, stopped where a stop is on.
func (e *emergencyStop) guard(gate *proxy.Gate, tracker *proxy.Tracker) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gate, e.tracker = gate, tracker
	if e.current != nil {
		gate.Stop()
		e.log.Warn("emergency stop is on: every request is refused until `sallyport emergency-stop --lift`",
			"since", e.current.Since, "operator", e.current.By, "reason", e.current.Reason)
	}
}

// state returns the stop that is on, or nil.
func (e *emergencyStop) state() *admin.Stop {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return nil
	}
	return new(*e.current)
}

// check is an error while a stop is on: the instance lets nothing out, and no load
// balancer should send it anything.
func (e *emergencyStop) check() error {
	s := e.state()
	if s == nil {
		return nil
	}
	return fmt.Errorf("an emergency stop is on since %s, by %s: %s: lift it with `sallyport emergency-stop --lift`",
		s.Since.UTC().Format(time.RFC3339), s.By, cmp.Or(s.Reason, "no reason was given"))
}

// stop stops at once. After an error, a restart would lift the stop.
func (e *emergencyStop) stop(s admin.Stop) (closed int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gate.Stop()
	closed = e.tracker.Close(proxy.CauseEmergencyStop, nil)
	e.current = &s
	if err := e.keep(s); err != nil {
		return closed, fmt.Errorf("a restart would lift the stop, which cannot be kept: %w", err)
	}
	return closed, nil
}

// lift lifts the stop, after on has returned nil for it; it returns nil where
// there was none.
func (e *emergencyStop) lift(on func(admin.Stop) error) (*admin.Stop, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return nil, nil
	}
	if err := on(*e.current); err != nil {
		return nil, err
	}
	if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the stop stays on: %w", err)
	}
	if err := durable.SyncDirectory(filepath.Dir(e.path)); err != nil {
		e.log.Warn("an emergency stop was lifted, and may be on again after a power failure", "error", err)
	}
	was := e.current
	e.current = nil
	e.gate.Resume()
	return was, nil
}

// keep writes the file so that it survives a power failure, whole.
func (e *emergencyStop) keep(s admin.Stop) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.WriteFile(e.path, raw, []byte("\n"))
}
