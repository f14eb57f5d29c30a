package cli

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progressInterval is how often a long command reports its progress. A command that
// takes less reports none.
const progressInterval = 2 * time.Second

// Progress reports how many events a command has processed, and how fast. It is for
// one goroutine; nil reports nothing.
type Progress struct {
	Out   io.Writer // io.Discard: silent
	Began time.Time
	Total int64 // 0: unknown
	last  time.Time
}

// NewProgress returns a progress on errOut. It is silent if quiet, and unless errOut
// is a terminal: a log file has no reader who waits.
func NewProgress(errOut io.Writer, quiet bool) *Progress {
	now := time.Now()
	p := &Progress{Out: io.Discard, Began: now, last: now}
	if file, ok := errOut.(*os.File); ok && !quiet && IsTerminal(file) {
		p.Out = file
	}
	return p
}

// Show reports that so many events were processed, at most every two seconds.
func (p *Progress) Show(events int64) {
	if p == nil {
		return
	}
	now := time.Now()
	if now.Sub(p.last) < progressInterval {
		return
	}
	p.last = now
	rate := float64(events) / now.Sub(p.Began).Seconds()
	if p.Total > 0 {
		fmt.Fprintf(p.Out, "%d of %d events (%d %%), %.0f a second\n", events, p.Total, 100*events/p.Total, rate)
		return
	}
	fmt.Fprintf(p.Out, "%d events, %.0f a second\n", events, rate)
}
