package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// maxLines bounds the lines that wait for a slow reader of standard error. Further ones are
// counted.
const maxLines = 256

// closeTimeout is how long the last lines may take.
const closeTimeout = time.Second

// lineWriter prints lines without delaying those that print them.
type lineWriter struct {
	lines chan string
	done  chan struct{}

	mu      sync.Mutex
	closed  bool
	dropped int
}

func newLineWriter(w io.Writer) *lineWriter {
	l := &lineWriter{lines: make(chan string, maxLines), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for line := range l.lines {
			if n := l.takeDropped(); n > 0 {
				line = fmt.Sprintf("sallyport: %d lines are missing here, because standard error was not read\n", n) + line
			}
			_, _ = io.WriteString(w, line) // without a reader, nothing can be reported
		}
	}()
	return l
}

func (l *lineWriter) takeDropped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.dropped
	l.dropped = 0
	return n
}

// print adds a line. It never blocks.
func (l *lineWriter) print(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	select {
	case l.lines <- line:
	default:
		l.dropped++
	}
}

// Write is print for a whole text.
func (l *lineWriter) Write(text []byte) (int, error) {
	l.print(string(text))
	return len(text), nil
}

// close waits for the last lines, but not for a reader that reads none.
func (l *lineWriter) close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.lines)
	}
	l.mu.Unlock()
	select {
	case <-l.done:
	case <-time.After(closeTimeout):
	}
}
