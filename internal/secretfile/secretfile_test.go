package secretfile

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// file is a source whose content must not be empty.
type file string

func (f file) File() string { return string(f) }

func (f file) Read() (string, error) {
	text, err := os.ReadFile(string(f))
	if err == nil && len(text) == 0 {
		err = errors.New("it is empty")
	}
	return string(text), err
}

func parse(text string) (string, error) {
	if strings.HasPrefix(text, "bad") {
		return "", errors.New("it is bad")
	}
	return text, nil
}

func TestRotation(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(file(name), parse, nil); err == nil {
		t.Error("a missing secret is accepted at the start")
	}
	for _, text := range []string{"", "bad"} {
		write(text)
		if _, err := Open(file(name), parse, nil); err == nil {
			t.Errorf("%q is accepted at the start", text)
		}
	}
	write("swordfish-1")
	var log bytes.Buffer
	s, err := Open(file(name), parse, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.now = func() time.Time { return now }
	for _, step := range []struct {
		wait   time.Duration
		change func()
		want   string
		failed bool
		errors int // in the log so far
	}{
		{0, func() {}, "swordfish-1", false, 0},
		{checkInterval / 2, func() { write("swordfish-2") }, "swordfish-1", false, 0}, // not checked yet
		{checkInterval, func() {}, "swordfish-2", false, 0},
		{checkInterval, func() { write("") }, "swordfish-2", true, 1},
		{checkInterval, func() {}, "swordfish-2", true, 1}, // reported once
		{checkInterval, func() { write("bad") }, "swordfish-2", true, 2},
		{checkInterval, func() { _ = os.Remove(name) }, "swordfish-2", true, 3},
		{checkInterval, func() { write("swordfish-2") }, "swordfish-2", false, 3},
		{checkInterval, func() { write("swordfish-3") }, "swordfish-3", false, 3},
		{-time.Hour, func() { write("swordfish-44") }, "swordfish-44", false, 3}, // the clock was set back
	} {
		now = now.Add(step.wait)
		step.change()
		if got := s.Get(); got != step.want || (s.Err() != nil) != step.failed || strings.Count(log.String(), "level=ERROR") != step.errors {
			t.Errorf("got %q, error %v, log:\n%s\nwant %+v", got, s.Err(), log.String(), step)
		}
	}
	if strings.Contains(log.String(), "swordfish") {
		t.Errorf("the log shows a secret:\n%s", log.String())
	}
	if s.Modified().IsZero() {
		t.Error("the time of the last change is not known")
	}
}
