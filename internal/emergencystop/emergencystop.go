// Package emergencystop refuses every request and closes everything that is open until
// an operator lifts the stop. A file in the data directory keeps the stop over crashes
// and restarts. The stop belongs to one instance, so that it needs no database, which
// may be the cause of the emergency.
package emergencystop

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

// fileName is the file of a stop in the data directory.
const fileName = "emergency-stop.json"

// Gate is a [proxy.Gate].
type Gate interface {
	Stop()
	Resume()
}

// Tracker is a [proxy.Tracker].
type Tracker interface {
	Close(cause proxy.Cause, which func(*proxy.Admission) bool) int
}

// Switch is the emergency stop of one instance. It is safe for concurrent use.
type Switch struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex
	gate    Gate
	tracker Tracker
	current *admin.Stop // nil: nothing is stopped
}

// Load reads from the data directory whether there is a stop. A file without a valid
// content is a stop.
func Load(directory string, log *slog.Logger) (*Switch, error) {
	s := &Switch{path: filepath.Join(directory, fileName), log: log}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the emergency stop: %w: let the server's user read the file, or remove it to lift the stop", err)
	}
	s.current = new(admin.Stop)
	if err := json.Unmarshal(raw, s.current); err != nil {
		s.current = &admin.Stop{By: "unknown", Reason: "the file " + s.path + " cannot be read: " + err.Error()}
	}
	return s, nil
}

// Guard connects the switch to the gate and to the open tunnels behind it, and stops the
// gate if there is a stop. It must be called before every other method but Current and
// Check.
func (s *Switch) Guard(gate Gate, tracker Tracker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate, s.tracker = gate, tracker
	if s.current != nil {
		gate.Stop()
		s.log.Warn("emergency stop is on: every request is refused until `sallyport emergency-stop --lift`",
			"since", s.current.Since, "operator", s.current.By, "reason", s.current.Reason)
	}
}

// Current returns a copy of the stop, or nil if there is none.
func (s *Switch) Current() *admin.Stop {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil
	}
	return new(*s.current)
}

// Check returns an error during a stop: the instance admits nothing, and a load balancer
// should send it nothing.
func (s *Switch) Check() error {
	stop := s.Current()
	if stop == nil {
		return nil
	}
	return fmt.Errorf("an emergency stop is on since %s, by %s: %s: lift it with `sallyport emergency-stop --lift`",
		stop.Since.UTC().Format(time.RFC3339), stop.By, cmp.Or(stop.Reason, "no reason was given"))
}

// Stop stops at once, and returns the number of closed tunnels and requests. An error
// means that the stop is on and that a restart would lift it.
func (s *Switch) Stop(stop admin.Stop) (closed int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.Stop()
	closed = s.tracker.Close(proxy.CauseEmergencyStop, nil)
	s.current = &stop
	if err := s.keep(stop); err != nil {
		return closed, fmt.Errorf("a restart would lift the stop, which cannot be kept: %w", err)
	}
	return closed, nil
}

// Lift lifts the stop after record has returned nil for it, and returns the lifted stop;
// nil: there was none. After an error the stop stays on.
func (s *Switch) Lift(record func(admin.Stop) error) (*admin.Stop, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil {
		return nil, nil
	}
	if err := record(*s.current); err != nil {
		return nil, err
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the stop stays on: %w", err)
	}
	if err := durable.SyncDirectory(filepath.Dir(s.path)); err != nil {
		s.log.Warn("an emergency stop was lifted, and may be on again after a power failure", "error", err)
	}
	was := s.current
	s.current = nil
	s.gate.Resume()
	return was, nil
}

// keep writes the file so that it survives a power failure, whole.
func (s *Switch) keep(stop admin.Stop) error {
	raw, err := json.Marshal(stop)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.path, raw, []byte("\n"))
}
