package pgembed

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	w := newLogWriter(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})))
	for n := range 100 {
		fmt.Fprintf(w, "LOG:  line %d\nPANIC:  ", n)
		fmt.Fprintf(w, "%s\n", strings.Repeat("x", 10*longestLine))
	}
	tail := w.tail()
	if lines := strings.Count(tail, "\n"); lines != tailLines {
		t.Errorf("the tail has %d lines", lines)
	}
	if len(tail) > tailLines*(longestLine+16) || cap(w.line) > 2*longestLine {
		t.Errorf("kept %d bytes and a line of %d", len(tail), cap(w.line))
	}
	if got := strings.Count(out.String(), "level=ERROR"); got != 100 {
		t.Errorf("%d errors logged", got)
	}
	if strings.Contains(out.String(), "line 7") {
		t.Error("an ordinary line is more than a debug message")
	}
	out.Reset()
	w.setQuiet(true)
	fmt.Fprintln(w, "FATAL:  the database system is starting up")
	if out.Len() > 0 {
		t.Errorf("while starting: %s", &out)
	}
}
