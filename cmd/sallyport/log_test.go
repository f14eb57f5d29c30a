package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counted counts the calls that reach the operating system.
type counted struct {
	mu    sync.Mutex
	calls int
	lines bytes.Buffer
}

func (c *counted) sofar() (calls int, lines string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls, c.lines.String()
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return c.lines.Write(b)
}

func TestLinesAreWrittenTogetherAndSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := new(counted)
		b := newLineBuffer(out)
		var want strings.Builder
		for range 100 {
			if _, err := b.Write([]byte("a line\n")); err != nil {
				t.Fatal(err)
			}
			want.WriteString("a line\n")
		}
		if calls, _ := out.sofar(); calls != 0 {
			t.Fatalf("%d calls before the delay", calls)
		}
		<-time.After(logDelay)
		synctest.Wait()
		if calls, lines := out.sofar(); calls != 1 || lines != want.String() {
			t.Fatalf("%d calls, %d bytes", calls, len(lines))
		}
	})
}

func TestLinesDoNotPileUp(t *testing.T) {
	out := new(counted)
	b := newLineBuffer(out)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 10 * logBytes / len(line) {
		_, _ = b.Write(line)
	}
	b.Flush()
	if calls, lines := out.sofar(); len(lines) != 10*logBytes || calls > 11 {
		t.Fatalf("%d calls for %d bytes", calls, len(lines))
	}
}
