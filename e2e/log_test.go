package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is how long anything may take before a test gives up. It is never
// waited for when all is well.
const patience = 45 * time.Second

// fields are the fields of a log line, the columns of an audit row, or what is
// expected of them.
type fields map[string]any

// logbook receives what a server writes to its standard error, line by line.
type logbook struct {
	mu      sync.Mutex
	raw     bytes.Buffer
	rest    []byte
	lines   []fields
	stray   []string // lines that are not JSON
	changed chan struct{}
}

func newLogbook() *logbook { return &logbook{changed: make(chan struct{})} }

// Write receives what the process has written. It never fails.
func (b *logbook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.raw.Write(p)
	b.rest = append(b.rest, p...)
	for {
		line, after, whole := bytes.Cut(b.rest, []byte("\n"))
		if !whole {
			break
		}
		var f fields
		if err := json.Unmarshal(line, &f); err != nil {
			b.stray = append(b.stray, string(line))
		} else {
			b.lines = append(b.lines, f)
		}
		b.rest = after
	}
	close(b.changed)
	b.changed = make(chan struct{})
	return len(p), nil
}

// text is all that was written.
func (b *logbook) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.raw.String()
}

func (b *logbook) find(from int, match func(fields) bool) fields {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.lines[from:], match); i >= 0 {
		return b.lines[from+i]
	}
	return nil
}

// written is how many lines there are so far.
func (b *logbook) written() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.lines)
}

// wait returns the first line that matches, once there is one.
func (b *logbook) wait(t testing.TB, what string, match func(fields) bool) fields {
	t.Helper()
	return b.waitFrom(t, 0, what, match)
}

// waitFrom does so for the lines after the first so many.
func (b *logbook) waitFrom(t testing.TB, from int, what string, match func(fields) bool) fields {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		changed := b.changed
		b.mu.Unlock()
		if line := b.find(from, match); line != nil {
			return line
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no log line: %s", what)
		}
	}
}

// message matches a line by its message and some of its fields.
func message(message string, want fields) func(fields) bool {
	return func(line fields) bool {
		if line["msg"] != message {
			return false
		}
		for name, value := range want {
			if show(line[name]) != show(value) {
				return false
			}
		}
		return true
	}
}

// check compares the expected fields with the actual ones.
func check(t testing.TB, what string, have, want fields) {
	t.Helper()
	for name, value := range want {
		if show(have[name]) != show(value) {
			t.Errorf("%s: %s is %s, want %s", what, name, show(have[name]), show(value))
		}
	}
	if t.Failed() {
		t.Logf("%s: %v", what, have)
	}
}

// show makes values from JSON and from Go comparable. Absent is empty.
func show(value any) string {
	if value == nil {
		return `""`
	}
	switch v := value.(type) {
	case float64:
		if v == float64(int64(v)) {
			return fmt.Sprintf("%q", fmt.Sprint(int64(v)))
		}
	}
	return fmt.Sprintf("%q", fmt.Sprint(value))
}

// eventually polls a condition that has no notification.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it did not happen in %v: %s", patience, what)
		}
	}
}
