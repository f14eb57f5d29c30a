// Package listen keeps a process up to date with a change that PostgreSQL notifies of. A
// session executes LISTEN, reads the state once, and reads it again after each notification.
// PostgreSQL does not keep notifications for a session that is not connected: a poll and a
// read after each connect find what a lost notification was about.
package listen

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	// MaxDelay bounds the time from a commit without a notification to the end of a read
	// that finds it, while the database responds at once: a poll, or a new session.
	MaxDelay = DefaultPoll + maxBackoff

	// DefaultPoll is the longest time between two reads.
	DefaultPoll = time.Second

	readTimeout     = 2 * time.Second       // the database is unavailable if a response takes longer
	connectTimeout  = time.Second           // for one server; then the next server is tried
	minReadInterval = 20 * time.Millisecond // between two reads, regardless of notifications
	maxBackoff      = 500 * time.Millisecond
	stableSession   = 10 * time.Second // a session that lasted as long resets the backoff
)

// Listener reads state from the database after each notification on a channel. Set the
// fields before Run, and do not change them afterwards.
type Listener struct {
	// Config is copied for each session. The connect timeout is shortened, and statements
	// are executed without state that a connection pooler would lose.
	Config  *pgx.ConnConfig
	Channel string        // an SQL identifier
	Poll    time.Duration // between two reads without a notification; 0: DefaultPoll
	Log     *slog.Logger  // nil: none
	// Subject is what is read, in log messages and errors ("revocations"). Effect is what
	// an outage means ("those in force stay so").
	Subject, Effect string
	// Notified receives the payload of each notification, which then causes no read. It
	// must not block. Nil: a notification causes a read. Every login that may connect to
	// the database can notify: trust no payload.
	Notified func(payload string)

	outage atomic.Pointer[Outage]
}

// Outage is a time without successful reads.
type Outage struct {
	Since time.Time
	Err   error // of the latest attempt
}

// Outage returns nil while the state can be read, and before the first attempt. It does not
// query the database and is safe for concurrent use.
func (l *Listener) Outage() *Outage { return l.outage.Load() }

// Run calls read until ctx ends: after each connect, after a notification, and at least once
// in each poll interval. read may use the session until it returns; the socket has a deadline
// and ctx none, so that a server that does not respond holds no resources. If read returns an
// error, Run connects again with a backoff of at most half a second. It does so also if the
// server is read-only: a former primary has the state from before the failover. Read is
// called by one goroutine.
func (l *Listener) Run(ctx context.Context, read func(context.Context, *pgx.Conn) error) {
	for failures := 0; ; failures++ {
		began := time.Now()
		err := l.session(ctx, read)
		if ctx.Err() != nil {
			return
		}
		l.failed(ctx, err)
		if time.Since(began) > stableSession {
			failures = 0
		}
		wait := min(maxBackoff, 25*time.Millisecond<<min(failures, 5))
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return
		}
	}
}

// failed records an outage, and logs its start once.
func (l *Listener) failed(ctx context.Context, err error) {
	o := &Outage{Since: time.Now(), Err: err}
	if old := l.outage.Load(); old != nil {
		o.Since = old.Since
	} else {
		l.log().WarnContext(ctx, l.Subject+" cannot be read; "+l.Effect, "error", err)
	}
	l.outage.Store(o)
}

// recovered clears the outage, and logs its end.
func (l *Listener) recovered(ctx context.Context) {
	if o := l.outage.Swap(nil); o != nil {
		l.log().InfoContext(ctx, l.Subject+" are read again", "duration", time.Since(o.Since).Round(time.Millisecond))
	}
}

func (l *Listener) log() *slog.Logger { return cmp.Or(l.Log, slog.New(slog.DiscardHandler)) }

// session is one connection. Its methods use deadlines on the socket instead of contexts:
// they leave no resources behind if the server does not respond, and a wait that ends at a
// deadline leaves the connection usable.
type session struct {
	*Listener
	ctx      context.Context // ends the session
	conn     *pgx.Conn
	notified bool // a notification arrived since the last read began
}

// session reads over one connection until it fails, its server becomes read-only, or ctx ends.
func (l *Listener) session(ctx context.Context, read func(context.Context, *pgx.Conn) error) error {
	s := &session{Listener: l, ctx: ctx}
	if err := s.connect(); err != nil {
		return err
	}
	defer closeNow(s.conn)
	socket := s.conn.PgConn().Conn()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.bound(readTimeout); err != nil {
		return err
	}
	// Before the first read: a change is either read, or notified of.
	if _, err := s.conn.Exec(context.Background(), "LISTEN "+l.Channel); err != nil {
		return l.explain("listen for changes of ", err)
	}
	for {
		next := time.Now().Add(cmp.Or(l.Poll, DefaultPoll))
		if err := s.read(read); err != nil {
			return err
		}
		l.recovered(ctx)
		if l.Notified == nil && !pause.For(ctx, minReadInterval) {
			return ctx.Err()
		}
		if err := s.await(next); err != nil {
			return err
		}
	}
}

// bound sets the deadline of what follows.
func (s *session) bound(d time.Duration) error {
	if err := s.conn.PgConn().Conn().SetDeadline(time.Now().Add(d)); err != nil {
		return err
	}
	return s.ctx.Err() // ctx may have ended before the deadline was set
}

func (s *session) read(read func(context.Context, *pgx.Conn) error) error {
	if err := s.bound(readTimeout); err != nil {
		return err
	}
	s.notified = false
	if err := database.CheckWritable(context.Background(), s.conn.PgConn()); err != nil {
		return s.explain("read ", err)
	}
	if err := read(context.Background(), s.conn); err != nil {
		return s.explain("read ", err)
	}
	return nil
}

// await returns after a notification that causes a read, or when the next read is due.
func (s *session) await(next time.Time) error {
	for !s.notified {
		left := time.Until(next)
		if left <= 0 {
			return nil
		}
		if err := s.bound(left); err != nil {
			return err
		}
		if err := s.conn.PgConn().WaitForNotification(context.Background()); err != nil && (!pgconn.Timeout(err) || s.conn.IsClosed()) {
			return s.explain("listen for changes of ", err)
		}
	}
	return nil
}

// connect opens the connection of a session.
func (s *session) connect() (err error) {
	config := s.Config.Copy()
	config.ConnectTimeout = min(config.ConnectTimeout, connectTimeout)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, and no state that a pooler would lose
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) {
		if s.Notified == nil {
			s.notified = true
			return
		}
		s.Notified(n.Payload)
	}
	ctx, cancel := context.WithTimeout(s.ctx, readTimeout+time.Duration(len(config.Fallbacks))*config.ConnectTimeout)
	defer cancel()
	s.conn, err = database.Connect(ctx, config)
	return err
}

func (l *Listener) explain(operation string, err error) error {
	return database.Explain(operation+l.Subject, &l.Config.Config, err)
}

// closeNow closes a connection without waiting long for a server that may not respond.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
