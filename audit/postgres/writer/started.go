package writer

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// examine warns of what makes a commit less than durable, and returns how far
// the database's clock is ahead of ours. What a session can ask for itself it
// does (database.Durable); these two are the server's alone.
func (l *Log) examine(ctx context.Context, s *session) (time.Duration, error) {
	var fsync, fullPageWrites string
	var now time.Time
	before := time.Now()
	if err := s.conn.QueryRow(ctx, "SELECT current_setting('fsync'), current_setting('full_page_writes'), clock_timestamp()").
		Scan(&fsync, &fullPageWrites, &now); err != nil {
		return 0, fmt.Errorf("ask for settings: %w", err)
	}
	unsafe := fsync != "on" || fullPageWrites != "on"
	if l.stats.unsafe.Swap(unsafe) != unsafe {
		l.log.Warn("settings of the database: unless both are on, events can be lost when its machine fails", "fsync", fsync, "full_page_writes", fullPageWrites)
		if l.sequence > 0 { // otherwise the first event has it
			l.pending = append(l.pending, durabilityEvent(fsync, fullPageWrites))
		}
	}
	middle := before.Add(time.Since(before) / 2)
	return now.Sub(middle).Round(time.Microsecond), nil
}

// durabilityEvent records in the log how durable its events are from here on.
func durabilityEvent(fsync, fullPageWrites string) *audit.Event {
	e := &audit.Event{Time: time.Now(), Kind: audit.KindAdmin, Action: "database_settings", Attributes: []audit.Attribute{
		{Name: "fsync", Value: fsync}, {Name: "full_page_writes", Value: fullPageWrites},
	}}
	e.Normalise()
	return e
}

func (l *Log) started(writer string, clock time.Duration, where databaseID) *audit.Event {
	host, _ := os.Hostname() // an empty name is not a reason not to start
	e := &audit.Event{Time: time.Now(), Kind: audit.KindWriterStarted, Attributes: []audit.Attribute{
		{Name: "version", Value: l.config.Version},
		{Name: "hostname", Value: host},
		{Name: "pid", Value: strconv.Itoa(os.Getpid())},
		{Name: "database_clock_ahead", Value: clock.String()},
		{Name: "database_durable", Value: strconv.FormatBool(!l.stats.unsafe.Load())},
		{Name: "database_system", Value: where.system},
		{Name: "database_timeline", Value: where.timeline},
		{Name: "database_oid", Value: where.database},
	}}
	e.Attributes = append(e.Attributes, l.signature(writer)...)
	e.Normalise()
	return e
}

// signature shows the key of this process in an event of a writer. Without a key, or
// with one that cannot be read, the event has none: it is recorded regardless.
func (l *Log) signature(writer string) []audit.Attribute {
	if l.config.Signer == nil {
		return nil
	}
	signer, err := l.config.Signer()
	if err == nil && signer == nil {
		return nil
	}
	var attributes []audit.Attribute
	if err == nil {
		attributes, err = signer.SignWriter(writer)
	}
	if err != nil {
		l.log.Warn("the start of this writer is recorded without the signing key", "writer", writer, "error", err)
	}
	return attributes
}
