// Package writer records events durably in PostgreSQL.
//
// Whoever records an event waits until it is on the database's disk. One
// goroutine, the committer, takes what is waiting, numbers it, and writes it in
// one transaction: a group commit, so that a thousand callers pay for one flush.
// An event that has a number stays with the committer until it is durable; its
// number, its time and its bytes never change again, so that writing it once
// more after a lost answer does no harm, and what is found is compared.
package writer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// Config says where the log is and how long anybody waits for it. A zero field
// is its default.
type Config struct {
	URL     string // the database, as the role sallyport_writer or a member of it
	Version string // the program's version, for the writer's first event
	// Signer, which may be nil, reads the key of the log that this process has; nil: it
	// has none. The first event of a writer shows the key (see audit.Signer.SignWriter).
	Signer func() (*audit.Signer, error)
	Log    *slog.Logger // default: none

	// Deadline bounds the wait of one Record. Default 5 s.
	Deadline time.Duration
	// WriteTimeout is after what time a write's connection is given up, and its
	// outcome found out over a new one. Default 5 s.
	WriteTimeout time.Duration
	// Queue is how many events may wait to be taken, and QueueBytes how many bytes
	// of memory they may have. Defaults 8192 and 32 MiB. Of both, each repository
	// has a share.
	Queue      int
	QueueBytes int64

	// Journal is the folder for what happens while the database is unavailable. Empty:
	// it is not recorded until the database is back, and lost if we end before.
	Journal string
	// Acknowledged is the folder where the last acknowledged number is kept for the
	// next process, which compares it. Empty: it is not.
	Acknowledged string
	// JournalBytes and JournalAge bound the journal. Defaults 256 MiB and 24 h.
	JournalBytes int64
	JournalAge   time.Duration
	// Spool lets the journal back an allow while the database is unavailable
	// (audit.on_outage: spool). Without it only refusals and ends are recorded.
	Spool bool
}

// ErrUnavailable is returned, wrapped, while the log cannot be written.
var ErrUnavailable = errors.New("the audit log is not available")

// ErrClosed is returned, wrapped, by Record after Close.
var ErrClosed = errors.New("the audit log is closed")

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
	closing    chan struct{} // nothing new is taken
	done       chan struct{} // the committer has ended
	ctx        context.Context
	cancel     context.CancelFunc // everything stops at once

	outage atomic.Pointer[outage] // nil: as far as we know, all is well
	stats  counters

	connect   *pgx.ConnConfig
	committer // belongs to the goroutine of run, and before it to Open
}

// outage says since when the log is unavailable, and why.
type outage struct {
	since time.Time
	err   error
	fatal bool // it does not come back by itself
}

// Open connects, checks the schema's version, makes the partitions of this and
// the next month, replays what an earlier process left in the journal, and
// records that this writer started. ctx bounds opening alone. An error says what
// an operator should do.
func Open(ctx context.Context, config Config) (*Log, error) {
	l := &Log{config: withDefaults(config)}
	l.log = l.config.Log
	name, secret := auditpg.NewWriter(time.Now())
	l.name.Store(&name)
	var err error
	// The name leads a new session to what an old one of this writer left open.
	if l.connect, err = database.ParseConfig(config.URL, auditpg.ApplicationName(name)); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l.connect.RuntimeParams["application_name"] = auditpg.ApplicationName(name)
	l.queue = newQueue(l.config.Queue, l.config.QueueBytes)
	l.closing, l.done = make(chan struct{}), make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.committer = newCommitter(name, secret)
	if err := l.begin(ctx); err != nil {
		l.cancel()
		l.committer.discard()
		return nil, fmt.Errorf("audit log: %w", err)
	}
	go l.run()
	return l, nil
}

func withDefaults(c Config) Config {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Deadline = cmp.Or(c.Deadline, 5*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 5*time.Second)
	c.Queue = cmp.Or(max(c.Queue, 0), 8192)
	c.QueueBytes = cmp.Or(c.QueueBytes, 32<<20)
	c.JournalBytes = cmp.Or(c.JournalBytes, 256<<20)
	c.JournalAge = cmp.Or(c.JournalAge, 24*time.Hour)
	return c
}

// begin does what must work before anything is recorded.
func (l *Log) begin(ctx context.Context) error {
	if err := database.CheckSessions(ctx, l.connect); err != nil {
		return err
	}
	s, err := l.openSession(ctx)
	if err != nil {
		return err
	}
	l.session = s
	clock, err := l.examine(ctx, s)
	if err != nil {
		return err
	}
	if err := s.ensureAhead(ctx, time.Now()); err != nil {
		return database.Explain("make partitions", &l.connect.Config, err)
	}
	if err := l.compareDatabase(ctx, s); err != nil {
		return err
	}
	if err := l.compareTails(ctx, s); err != nil {
		return err
	}
	if err := l.openJournal(ctx); err != nil {
		return err
	}
	g := newGroup(l.writer)
	started := l.started(l.writer, clock, s.where)
	if len(l.lostTails) > 0 {
		started.Attributes = append(started.Attributes, audit.Attribute{Name: "previous_writer", Value: strings.Join(l.lostTails, " ")})
		started.Normalise()
		if err := s.showPrevious(ctx, l.lostSecrets...); err != nil {
			return err
		}
	}
	l.number(g, started, nil)
	if _, err := s.settle(ctx, g); err != nil {
		return database.Explain("record the writer's start", &l.connect.Config, err)
	}
	l.acknowledged.where = s.where
	l.acknowledged.keep(g)
	l.stats.recorded.Add(1)
	return nil
}

// examine warns of what makes a commit less than durable, and returns how far
// the database's clock is ahead of ours. What a session can ask for itself it
// does (postgres.Durable); these two are the server's alone.
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
		if l.sequence > 0 { // the first event says it otherwise
			l.pending = append(l.pending, durabilityEvent(fsync, fullPageWrites))
		}
	}
	middle := before.Add(time.Since(before) / 2)
	return now.Sub(middle).Round(time.Microsecond), nil
}

// durabilityEvent says in the log itself what its events are worth from here on.
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

// Writer is the name of this writer in the log. It changes where a failover lost
// events that were acknowledged to it; an event of kind events_lost says so.
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

// AvailableTo is [Log.Available] for the events of one step: it returns an error,
// wrapping [ErrUnavailable] and [ErrShare], also where the database is unavailable
// and the step or its repository has used its share of the journal.
func (l *Log) AvailableTo(of audit.Source) error {
	o := l.away()
	switch {
	case o == nil:
		return nil
	case !l.mayAllow(o):
		return o.error()
	}
	return l.journalShare(of, audit.MaxRequestRecord)
}

// away returns the outage that those who record should know of. A connection
// that was only cut is found again in a moment, and nobody is refused for it.
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

// Close takes nothing new, writes what is waiting and the event of the writer's
// end, and returns when that is durable. Where ctx ends first, it returns an
// error that says how much was not written.
func (l *Log) Close(ctx context.Context) error {
	l.closeOnce.Do(func() { close(l.closing) })
	select {
	case <-l.done:
	case <-ctx.Done():
		l.cancel()
		<-l.done
	}
	l.cancel()
	if l.clean { // written before done was closed
		return nil
	}
	return fmt.Errorf("close audit log: %d events were not written: %w",
		l.stats.unwritten.Load(), cmp.Or(l.Available(), context.Cause(ctx), ErrUnavailable))
}

// Stats is a snapshot of the log's counters.
type Stats struct {
	Recorded     int64         // events that are durable
	Groups       int64         // transactions that they took
	Waiting      int           // events in the queue
	Rejected     int64         // events that were not taken, the queue being full: counted only
	OverShare    int64         // of these, events of a repository or step that had used its share
	Late         int64         // events whose caller did not wait to the end
	Lost         int64         // events that the database had acknowledged and misses
	Reconnects   int64         // times that the connection was lost and found again
	Outage       time.Duration // how long the database has been away; zero: it is not
	Journaled    int64         // events that went to the journal
	Spooled      int64         // allows among them that counted at once
	JournalBytes int64         // the journal's size now
	JournalSince time.Time     // when its first event was put in it; zero: it is empty
	JournalFull  bool          // it takes no more: it is full, too old, or cannot be written
	Spooling     bool          // the database is unavailable, and the journal backs allows
	Unsafe       bool          // the database's settings can lose what it has committed
}

type counters struct {
	lost, recorded, groups, rejected, overShare, late, reconnects, unwritten atomic.Int64
	journaled, spooled, journalBytes, journalSince                           atomic.Int64
	journalFull, unsafe                                                      atomic.Bool
}

// Stats returns the counters. It costs some memory reads.
func (l *Log) Stats() Stats {
	s := Stats{
		Recorded: l.stats.recorded.Load(), Groups: l.stats.groups.Load(), Waiting: l.queue.len(), OverShare: l.stats.overShare.Load(),
		Lost: l.stats.lost.Load(), Rejected: l.stats.rejected.Load(), Late: l.stats.late.Load(), Reconnects: l.stats.reconnects.Load(),
		Journaled: l.stats.journaled.Load(), Spooled: l.stats.spooled.Load(), JournalBytes: l.stats.journalBytes.Load(),
		JournalFull: l.stats.journalFull.Load() || l.journalOld(), Unsafe: l.stats.unsafe.Load(),
	}
	if since := l.stats.journalSince.Load(); since != 0 {
		s.JournalSince = time.Unix(0, since)
	}
	if o := l.outage.Load(); o != nil {
		s.Outage = time.Since(o.since)
	}
	if o := l.away(); o != nil {
		s.Spooling = l.mayAllow(o)
	}
	return s
}
