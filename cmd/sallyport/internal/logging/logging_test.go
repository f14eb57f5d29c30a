package logging

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/config"
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

// TestBlockedReaderStopsNobody: who logs does not wait for a reader that does not
// read; lines beyond the bound are dropped, counted, and reported once it reads.
func TestBlockedReaderStopsNobody(t *testing.T) {
	read, out := io.Pipe() // a write waits for its reader
	log, lines := NewServer(config.Log{Format: config.FormatText}, out)
	text := strings.Repeat("x", 8<<10)
	const written = 2 * logWaiting / (8 << 10)
	for range written {
		log.Info(text)
	}
	lost := lines.Dropped()
	if lost == 0 || lost >= written {
		t.Fatalf("%d of %d lines are dropped", lost, written)
	}
	got := make(chan string)
	go func() {
		var all strings.Builder
		_, _ = io.Copy(&all, read)
		got <- all.String()
	}()
	lines.Flush()
	_ = out.Close()
	all := <-got
	if n := strings.Count(all, text); int64(n) != written-lost || !strings.Contains(all, fmt.Sprintf("log lines were dropped: standard error was not read in time\" lines=%d", lost)) {
		t.Errorf("%d lines were read, and of %d reported as dropped: %s", n, lost, all[len(all)-200:])
	}
}

// TestFlushEnds: the end of the process does not wait for a reader forever.
func TestFlushEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read, out := io.Pipe()
		b := newLineBuffer(out)
		_, _ = b.Write([]byte("a line\n"))
		began := time.Now()
		b.Flush()
		if took := time.Since(began); took > FlushTimeout+logDelay {
			t.Errorf("after %v", took)
		}
		_ = read.Close()
		b.Flush()
	})
}
