package pgembed

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
)

const (
	tailLines   = 12   // how much of the server's log an error shows
	longestLine = 1024 // bytes of one line that are kept
)

// logWriter passes what the programs print to a slog.Logger, line by line, and
// keeps the last lines for an error message. Its memory is bounded. It is safe
// for use by several goroutines.
type logWriter struct {
	logger *slog.Logger

	mu      sync.Mutex
	quiet   bool   // readiness is being polled: refusals are not news
	line    []byte // the beginning of a line that has not ended
	dropped bool   // the line is longer than what is kept of it
	last    []string
}

func newLogWriter(logger *slog.Logger) *logWriter { return &logWriter{logger: logger} }

// Write never fails and never keeps the server waiting for long.
func (w *logWriter) Write(text []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := text; len(rest) > 0; {
		part, after, ended := bytes.Cut(rest, []byte("\n"))
		rest = after
		if room := longestLine - len(w.line); len(part) > room {
			part, w.dropped = part[:room], true
		}
		w.line = append(w.line, part...)
		if ended {
			w.emit()
		}
	}
	return len(text), nil
}

func (w *logWriter) emit() {
	line := strings.ToValidUTF8(string(w.line), "\uFFFD")
	if w.dropped {
		line += "…"
	}
	w.line, w.dropped = w.line[:0], false
	if strings.TrimSpace(line) == "" {
		return
	}
	if len(w.last) == tailLines {
		w.last = append(w.last[:0], w.last[1:]...)
	}
	w.last = append(w.last, line)
	level := levelOf(line)
	if w.quiet {
		level = slog.LevelDebug
	}
	w.logger.Log(context.Background(), level, "postgresql: "+line)
}

// levelOf maps PostgreSQL's severities. An ERROR is a statement's failure,
// which its client hears of and handles; a WARNING or worse is the operator's.
func levelOf(line string) slog.Level {
	severity, _, _ := strings.Cut(line, ":")
	switch severity {
	case "PANIC":
		return slog.LevelError
	case "FATAL", "WARNING":
		return slog.LevelWarn
	default:
		return slog.LevelDebug
	}
}

// setQuiet sets whether lines are logged for debugging only.
func (w *logWriter) setQuiet(quiet bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.quiet = quiet
}

// tail is the last lines, indented for the end of an error message.
func (w *logWriter) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.last) == 0 {
		return ""
	}
	return "\n  " + strings.Join(w.last, "\n  ")
}
