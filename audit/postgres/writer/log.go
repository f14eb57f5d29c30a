// Package writer records events durably in PostgreSQL.
//
// Record returns when the event is on the database's disk. One
// goroutine, the committer, numbers the waiting events and writes them in
// one transaction: a group commit, so that a thousand callers pay for one flush.
// An event that has a number stays with the committer until it is durable; its
// number, its time and its bytes never change again, so that writing it once
// more after a lost answer does no harm, and what is found is compared.
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

// Log is the durable log of one writer. It implements proxy.Recorder. It is safe
// for concurrent use. What it returns is an implementation of the contract
// there; in addition, an allow whose Record returned an error is never left
// standing alone in the log: where it had no number yet it is written as the
// refusal (audit_unavailable) that it became, and otherwise an event follows
// that closes it with the cause audit_unavailable. So the caller must not
// record the refusal again.
type Log struct {
	config Config
	log    *slog.Logger
	name   atomic.Pointer[string] // of the writer, for everybody

	queue      *queue
	journalUse journalUse
	closeOnce  sync.Once
	closing    chan struct{} // nothing new is accepted
	done       chan struct{} // the committer has ended
	ctx        context.Context
	cancel     context.CancelFunc // everything stops at once

	outage atomic.Pointer[outage] // nil: as far as we know, all is well
	stats  counters

	connect   *pgx.ConnConfig
	committer // belongs to the goroutine of run, and before it to Open
}

// outage has the time since when the log is unavailable, and the reason.
type outage struct {
	since time.Time
	err   error
	fatal bool // it does not come back by itself
}

// Writer is the name of this writer in the log. It changes where a failover lost
// events that were acknowledged to it; an event of kind events_lost records that.
func (l *Log) Writer() string { return *l.name.Load() }

// Available returns an error, wrapping [ErrUnavailable], while the log is known
// to be unavailable and the journal may not stand in for it. It costs a memory read.
func (l *Log) Available() error {
	o := l.away()
	if o == nil || l.mayAllow(o) {
		return nil
	}
	return o.error()
}

// away returns the outage that those who record should know of. A connection
// that was only cut is restored in a moment, and no request is refused for it.
func (l *Log) away() *outage {
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

// journalOld reports whether the journal may take no more for its age.
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

// heartbeat is how often an idle connection is tried, and how often the
// partitions are looked after (every so many beats).
const (
	heartbeat                   = 5 * time.Second
	heartbeatsPerPartitionCheck = 360 // half an hour
)

// committer is the state of the goroutine that numbers and writes.
type committer struct {
	session  *session // nil: unavailable
	writer   string   // the name under which it numbers; see succession
	secret   string   // that the name is made from; see NewWriter
	sequence int64
	acknowledged
	next    *succession    // belongs to the goroutine that dials
	pending []*audit.Event // events of our own that are to be written next
	journal *journal       // nil: none
	tail    tailFile
	// tailsDone are files of earlier processes whose comparison is in owed.
	tailsDone []string
	// lostTails are the writers of those whose events are missing: this writer continues them.
	lostTails   []string
	lostSecrets []string         // of lostTails, in the same order
	reconnects  chan reconnected // from the goroutine that dials again
	dialling    bool
	failures    int  // since the last success
	busy        bool // since the last beat
	heartbeats  int
	clean       bool // the end of the writer is durable
}

func newCommitter(writer, secret string) committer {
	return committer{writer: writer, secret: secret, reconnects: make(chan reconnected)}
}

// discard closes what the committer holds.
func (c *committer) discard() {
	if c.session != nil {
		c.session.close()
	}
	if c.journal != nil {
		c.journal.close()
	}
	c.tail.close()
}

// fail ends the log for good.
func (l *Log) fail(err error) {
	l.outage.Store(&outage{since: time.Now(), err: err, fatal: true})
	l.log.Error("audit log stopped", "error", err)
}

// failed reports whether the log has ended for good.
func (l *Log) failed() bool {
	o := l.outage.Load()
	return o != nil && o.fatal
}

func isConflict(err error) bool {
	_, ok := errors.AsType[conflictError](err)
	return ok
}

// How long between attempts to connect: doubled from the first, up to the last,
// each with up to half of it left out at random, so that many do not come at once.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
	// settleTimeout bounds finding out the outcome of a group, and writing what
	// is missing. A backend that was cut off may have to be waited for.
	settleTimeout = 30 * time.Second
	// grace is how long a connection that was cut is not yet an outage.
	grace = 500 * time.Millisecond
)

// reconnected is a session after an outage, and how far the journal has been
// replayed over it.
type reconnected struct {
	session    *session
	caught     caughtUp
	succession *succession // acknowledged events are missing, and another writer continues
	conflict   error       // another has written under our name: the log ends
}

func (b reconnected) close() {
	if b.session != nil {
		b.session.close()
	}
}

// caughtUp is how far our own journal has been replayed while events were
// still added to it.
type caughtUp struct {
	size int64
	last int64 // the number of the last event up to there
	sum  replayed
}

// A succession is a writer that continues another of the same process: events
// that the database had acknowledged to that one are missing, so that no event
// of its name may follow them. The new writer begins with writer_started and
// events_lost, which record that; what had a number of the old one and no
// acknowledgment, and what is in the journal, follows under new numbers.
type succession struct {
	loss    loss
	before  string // the secret of the writer that is continued
	writer  string
	secret  string
	connect *pgx.ConnConfig
	group   *group // the first events, which are written before anything else
}

// A tailFile is where a writer keeps, on its own disk, up to which number the
// database has acknowledged its events. A process that is killed, or was closed,
// right before a failover does not compare that with what is left; the next
// process with the same data_directory does. The file is written every few
// seconds and not synced: it survives the process, and mostly the machine. It is
// locked while its process lives.
type tailFile struct {
	file    *os.File // nil: there is none yet
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
