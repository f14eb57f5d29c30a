package emergencystop

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/proxy"
)

// instance is a gate with three open tunnels.
type instance struct {
	stopped bool
	open    int
}

func (i *instance) Stop()   { i.stopped = true }
func (i *instance) Resume() { i.stopped = false }
func (i *instance) Close(cause proxy.Cause, which func(*proxy.Admission) bool) int {
	if cause != proxy.CauseEmergencyStop || which != nil {
		panic("only some were closed")
	}
	n := i.open
	i.open = 0
	return n
}

// started is an instance that starts with a data directory.
func started(t *testing.T, directory string) (*Switch, *instance) {
	t.Helper()
	s, err := Load(directory, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{open: 3}
	s.Guard(i, i)
	return s, i
}

func TestStopSurvivesARestart(t *testing.T) {
	directory := t.TempDir()
	s, i := started(t, directory)
	if i.stopped || s.Current() != nil || s.Check() != nil {
		t.Fatalf("an instance without a stop is stopped: %+v", s.Current())
	}
	stop := admin.Stop{Since: time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), By: "alice", Reason: "a token leaked"}
	if closed, err := s.Stop(stop); closed != 3 || err != nil || !i.stopped {
		t.Fatalf("%d closed, %v, stopped %v", closed, err, i.stopped)
	}
	s, i = started(t, directory)
	if got := s.Current(); !i.stopped || got == nil || *got != stop {
		t.Fatalf("after a restart: stopped %v, %+v", i.stopped, got)
	}
	if err := s.Check(); err == nil || !strings.Contains(err.Error(), "by alice: a token leaked") {
		t.Errorf("the check reports %v", err)
	}
	if was, err := s.Lift(func(admin.Stop) error { return errors.New("not recorded") }); was != nil || err == nil || !i.stopped {
		t.Errorf("a stop was lifted without a record: %v, %v", was, err)
	}
	if was, err := s.Lift(func(admin.Stop) error { return nil }); err != nil || was == nil || *was != stop || i.stopped || s.Current() != nil {
		t.Errorf("lifted %+v, %v; stopped %v", was, err, i.stopped)
	}
	if was, err := s.Lift(func(admin.Stop) error { panic("there is no stop to record") }); was != nil || err != nil {
		t.Errorf("lifted twice: %+v, %v", was, err)
	}
	if _, i := started(t, directory); i.stopped {
		t.Error("a lifted stop is on after a restart")
	}
}

// TestInvalidFileIsAStop: what cannot be decided is denied.
func TestInvalidFileIsAStop(t *testing.T) {
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, fileName), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, i := started(t, directory)
	if got := s.Current(); !i.stopped || got == nil || !strings.Contains(got.Reason, fileName) {
		t.Errorf("stopped %v, %+v", i.stopped, got)
	}
}

// TestStopThatCannotBeKept: the instance is stopped, and the operator is informed.
func TestStopThatCannotBeKept(t *testing.T) {
	s, i := started(t, filepath.Join(t.TempDir(), "removed"))
	if closed, err := s.Stop(admin.Stop{By: "alice"}); err == nil || closed != 3 || !i.stopped || s.Current() == nil {
		t.Errorf("%d closed, %v, stopped %v", closed, err, i.stopped)
	}
}

// TestUnreadableFileIsAnError: a file that cannot be read prevents the start.
func TestUnreadableFileIsAnError(t *testing.T) {
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, fileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(directory, slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("loaded as %+v", s.Current())
	}
}
