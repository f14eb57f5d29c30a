// Package writer records events durably in PostgreSQL.
//
// Record returns after the event is on the database's disk. One goroutine, the committer,
// numbers the waiting events and writes them in one transaction. This is a group commit: a
// thousand callers share one flush.
//
// The committer holds a numbered event until it is durable. The number, time and bytes of
// such an event never change. If the response to a commit is lost, the committer can
// therefore write the event again. It compares an event that is already in the database.
package writer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// Log is the durable log of one writer. It implements proxy.Recorder. It is safe for
// concurrent use.
//
// If Record returns an error for an allow, the log itself records the refusal. An allow
// without a number is recorded as the refusal audit_unavailable. An allow with a number is
// followed by an event that closes it with the cause audit_unavailable. The caller must not
// record the refusal again.
type Log struct {
	config Config
	log    *slog.Logger
	name   atomic.Pointer[string] // the writer's name, for all goroutines

	queue      *queue
	journalUse journalUse
	closeOnce  sync.Once
	closing    chan struct{} // nothing new is accepted
	done       chan struct{} // the committer has ended
	ctx        context.Context
	cancel     context.CancelFunc // stops all goroutines at once

	outage atomic.Pointer[outage] // nil: no known outage
	stats  counters

	connect   *pgx.ConnConfig
	committer // belongs to the goroutine of run, and before it to Open
}

// outage is the start of an outage of the log, and its reason.
type outage struct {
	since time.Time
	err   error
	fatal bool // the log does not recover by itself
}

// Writer returns the name of this writer in the log. The name changes after a failover that
// lost acknowledged events of this writer; an event of kind events_lost records the loss.
func (l *Log) Writer() string { return *l.name.Load() }

// Available returns an error that wraps [ErrUnavailable] while the log is known to be
// unavailable and the journal may not replace it. It does not query the database.
func (l *Log) Available() error {
	o := l.currentOutage()
	if o == nil || l.mayAllow(o) {
		return nil
	}
	return o.error()
}

// currentOutage returns an outage that is fatal or older than grace, or nil. A lost
// connection is usually restored within grace, so that no request is refused for it.
func (l *Log) currentOutage() *outage {
	o := l.outage.Load()
	if o == nil || !o.fatal && time.Since(o.since) < grace {
		return nil
	}
	return o
}

// mayAllow reports whether an allow may be recorded during an outage.
func (l *Log) mayAllow(o *outage) bool {
	return l.config.Spool && l.config.Journal != "" && !o.fatal && !l.stats.journalFull.Load() && !l.journalOld()
}

// journalOld reports whether the journal is older than JournalAge and accepts no events.
func (l *Log) journalOld() bool {
	since := l.stats.journalSince.Load()
	return since != 0 && time.Since(time.Unix(0, since)) > l.config.JournalAge
}

func (o *outage) error() error {
	return fmt.Errorf("%w since %s: %w", ErrUnavailable, o.since.UTC().Format(time.RFC3339), o.err)
}

type counters struct {
	lost, recorded, groups, rejected, overShare, late, reconnects, unwritten atomic.Int64
	journaled, spooled, journalBytes, journalSince                           atomic.Int64
	journalFull, unsafe                                                      atomic.Bool
}

// heartbeat is the interval at which an idle connection is checked. The partitions are
// checked every heartbeatsPerPartitionCheck heartbeats.
const (
	heartbeat                   = 5 * time.Second
	heartbeatsPerPartitionCheck = 360 // half an hour
)

// committer is the state of the goroutine that numbers and writes.
type committer struct {
	session  *session // nil: unavailable
	writer   string   // the name of the writer; see succession
	secret   string   // the name is derived from it; see NewWriter
	sequence int64
	acknowledged
	next    *succession    // owned by the goroutine that reconnects
	pending []*audit.Event // the writer's own events, to be written next
	journal *journal       // nil: none
	tail    tailFile
	// tailsDone are tail files of earlier processes whose comparison is in pending.
	tailsDone []string
	// lostTails are the writers of tail files whose events are missing. This writer
	// continues them.
	lostTails   []string
	lostSecrets []string         // of lostTails, in the same order
	reconnects  chan reconnected // from the goroutine that reconnects
	dialing     bool
	failures    int // since the last success
	// attempts to connect that failed in this outage, and the time of the latest log line
	// about them. Both belong to the goroutine that reconnects, while there is one.
	attempts      int
	attemptLogged time.Time
	busy          bool // since the last heartbeat
	heartbeats    int
	clean         bool // the event writer_ended is durable
	// companionsBlocked is when a companion last did not get its lock in time.
	companionsBlocked time.Time
	accompanied       bool      // the previous group had companions
	decided           time.Time // of the latest urgent event without companion
}

func newCommitter(writer, secret string) committer {
	return committer{writer: writer, secret: secret, reconnects: make(chan reconnected)}
}

// discard closes the session, the journal and the tail file.
func (c *committer) discard() {
	if c.session != nil {
		c.session.close()
	}
	if c.journal != nil {
		c.journal.close()
	}
	c.tail.close()
}

// fail stops the log permanently.
func (l *Log) fail(err error) {
	l.outage.Store(&outage{since: time.Now(), err: err, fatal: true})
	l.log.Error("audit log stopped", "error", err)
}

// failed reports whether the log has stopped permanently.
func (l *Log) failed() bool {
	o := l.outage.Load()
	return o != nil && o.fatal
}

func isConflict(err error) bool {
	_, ok := errors.AsType[conflictError](err)
	return ok
}

// The pause between attempts to connect doubles from minBackoff to maxBackoff. Up to half of
// each pause is left out at random, so that many instances do not connect at once.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
	// settleTimeout bounds the time to find the outcome of a group and to write its missing
	// events. The writer may have to wait for a backend whose connection was lost.
	settleTimeout = 30 * time.Second
	// attemptLogInterval is the minimum interval between two log lines about failed attempts
	// of one outage.
	attemptLogInterval = time.Minute
	// grace is how long a lost connection does not count as an outage.
	grace = 500 * time.Millisecond
)

// reconnected is a new session after an outage, and how far the journal has been replayed
// into it.
type reconnected struct {
	session    *session
	caught     caughtUp
	succession *succession // acknowledged events are missing, and another writer continues
	conflict   error       // another process wrote under this name: the log stops
}

func (r reconnected) close() {
	if r.session != nil {
		r.session.close()
	}
}

// caughtUp is how far this process's journal has been replayed while events were still
// added to it.
type caughtUp struct {
	size int64
	last int64 // the number of the last event up to there
	sum  replayed
}

// succession is a new writer that continues another of the same process. Events that the
// database had acknowledged to the old writer are missing, so that no event may follow under
// the old name. The new writer begins with the events writer_started and events_lost. Events
// that the old writer numbered without an acknowledgment, and events in the journal, follow
// under new numbers.
type succession struct {
	loss    loss
	before  string // the secret of the old writer
	writer  string
	secret  string
	connect *pgx.ConnConfig
	group   *group // the first events, which are written before anything else
}

// tailFile stores the last number that the database has acknowledged to a writer. A process
// that ends right before a failover cannot compare this number with the database. The next
// process with the same data_directory does.
//
// The file is written every few seconds and not synced. It survives a crash of the process,
// and usually one of the machine. It is locked while its process runs.
type tailFile struct {
	file    *os.File // nil: not created yet
	path    string
	written int64
	at      time.Time
}

func (t *tailFile) close() {
	if t.file != nil {
		_ = t.file.Close()
		t.file = nil
	}
}

// openSession opens a session that may write as this writer.
func (l *Log) openSession(ctx context.Context) (*session, error) {
	s, err := openSessionWithin(ctx, l.connect, l.config.WriteTimeout)
	if err != nil {
		return nil, err
	}
	if err := s.authenticate(ctx, l.secret); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}
