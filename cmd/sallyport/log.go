package main

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/config"
)

// newLogger writes lines as the configuration says.
func newLogger(c config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.FormatText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// The bounds of what lies in a lineBuffer.
const (
	logDelay = 20 * time.Millisecond
	logBytes = 32 << 10
)

// lineBuffer gathers log lines for a moment, so that a busy instance writes many
// with one call. What a crash takes with it is the last moment's lines; the audit
// log holds every decision itself. It is safe for concurrent use.
type lineBuffer struct {
	out io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer // nil: nothing is waiting
}

func newLineBuffer(out io.Writer) *lineBuffer { return &lineBuffer{out: out} }

// Write takes one or more whole lines. It never fails: there is nowhere to say so.
func (b *lineBuffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line...)
	switch {
	case len(b.lines) >= logBytes:
		b.flush()
	case b.timer == nil:
		b.timer = time.AfterFunc(logDelay, b.Flush)
	}
	return len(line), nil
}

// Flush writes what is waiting.
func (b *lineBuffer) Flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flush()
}

func (b *lineBuffer) flush() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.lines) > 0 {
		_, _ = b.out.Write(b.lines)
		b.lines = b.lines[:0]
	}
}
