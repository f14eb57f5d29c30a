// Package logging makes the loggers of the program, and the buffer that keeps a slow
// reader of the log from delaying it.
package logging

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/config"
)

// New returns a logger that writes lines to w as configured.
func New(c config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.Level}
	if c.Format == config.FormatText {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// The bounds of a Buffer.
const (
	logDelay     = 20 * time.Millisecond // that a line waits for others
	logBytes     = 32 << 10              // that are written without waiting
	logWaiting   = 4 << 20               // that wait for a reader; lines over that are dropped
	FlushTimeout = 2 * time.Second       // that the end of the process waits for a reader
)

// Buffer gathers log lines for a moment, so that a busy instance writes many
// with one call. What a crash takes with it is the last moment's lines; the audit
// log holds every decision itself. A reader that is slow, blocked or gone costs
// lines, which are counted, and never the time of who logs. It is safe for
// concurrent use.
type Buffer struct {
	out io.Writer
	// lost makes the line that reports how many were dropped. Nil: none is made.
	lost func(lines int64) []byte

	mu      sync.Mutex
	lines   []byte
	dropped int64 // since it was reported
	total   int64 // dropped, ever
	full    chan struct{}
	idle    *sync.Cond
	busy    bool // a goroutine writes, or is about to
}

func newLineBuffer(out io.Writer) *Buffer {
	b := &Buffer{out: out, full: make(chan struct{}, 1)}
	b.idle = sync.NewCond(&b.mu)
	return b
}

// Write takes one or more whole lines. It never fails and never waits.
func (b *Buffer) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.lines)+len(line) > logWaiting {
		b.dropped++
		b.total++
		return len(line), nil
	}
	b.lines = append(b.lines, line...)
	if !b.busy {
		b.busy = true
		go b.write()
	}
	if len(b.lines) >= logBytes {
		b.hurry()
	}
	return len(line), nil
}

// Dropped is how many lines were dropped because the output did not accept them in time.
func (b *Buffer) Dropped() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Flush waits until what is waiting is written, and for a reader that does not
// read for so long at most.
func (b *Buffer) Flush() {
	done := make(chan struct{})
	go func() {
		b.mu.Lock()
		for b.busy {
			b.hurry()
			b.idle.Wait()
		}
		b.mu.Unlock()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(FlushTimeout):
	}
}

// hurry has the waiting lines written at once.
func (b *Buffer) hurry() {
	select {
	case b.full <- struct{}{}:
	default:
	}
}

// write writes what is waiting, and what comes meanwhile.
func (b *Buffer) write() {
	var batch []byte
	for {
		select {
		case <-b.full:
		case <-time.After(logDelay):
		}
		b.mu.Lock()
		batch, b.lines = b.lines, batch[:0]
		dropped := b.dropped
		b.dropped = 0
		b.mu.Unlock()
		if dropped > 0 && b.lost != nil {
			batch = append(batch, b.lost(dropped)...)
		}
		_, _ = b.out.Write(batch) // there is nowhere to report it
		b.mu.Lock()
		if len(b.lines) == 0 && b.dropped == 0 {
			b.busy = false
			b.idle.Broadcast()
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
	}
}

// NewServer returns the logger of a server, which writes to w by way of the
// buffer.
func NewServer(c config.Log, w io.Writer) (*slog.Logger, *Buffer) {
	lines := newLineBuffer(w)
	lines.lost = func(n int64) []byte {
		var line bytes.Buffer
		New(c, &line).Warn("log lines were dropped: standard error was not read in time", "lines", n)
		return line.Bytes()
	}
	return New(c, lines), lines
}
