package listen

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// env is a database with a counter, and a listener that reads it.
type env struct {
	*Listener
	conn *pgx.Conn // of the owner

	mu       sync.Mutex
	counter  int      // that was read last
	reads    int      // without an error
	sessions []uint32 // process identifiers of the sessions that read
}

// start starts a listener whose poll interval is an hour, unless change sets another one.
// read is called after each read of the counter; nil: nothing.
func start(t *testing.T, change func(*Listener), read func(context.Context, *pgx.Conn) error) *env {
	t.Helper()
	db := pgtest.New(t)
	e := &env{conn: pgtest.Connect(t, db.URL(""))}
	pgtest.Exec(t, e.conn, `CREATE TABLE public.counter AS SELECT 0 AS value`)
	config, err := database.ParseConfig(db.URL(""), "sallyport listen")
	if err != nil {
		t.Fatal(err)
	}
	e.Listener = &Listener{
		Config: config, Channel: "changes", Poll: time.Hour, Log: slog.New(slog.NewTextHandler(pgtest.LogWriter{T: t}, nil)),
		Subject: "counters", Effect: "the last one stays",
	}
	if change != nil {
		change(e.Listener)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		e.Run(ctx, func(ctx context.Context, conn *pgx.Conn) error {
			var value int
			if err := conn.QueryRow(ctx, `SELECT value FROM public.counter`).Scan(&value); err != nil {
				return err
			}
			if read != nil {
				if err := read(ctx, conn); err != nil {
					return err
				}
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			e.counter, e.sessions = value, append(e.sessions, conn.PgConn().PID())
			e.reads++
			return nil
		})
	})
	t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	pgtest.Eventually(t, "the first read", func() bool { return e.count() > 0 })
	return e
}

func (e *env) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reads
}

// awaitCounter waits until a read found a value.
func (e *env) awaitCounter(t *testing.T, want int) {
	t.Helper()
	pgtest.Eventually(t, "the value is read", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.counter == want
	})
}

// set changes the counter, with or without a notification.
func (e *env) set(t *testing.T, value int, notification string) {
	t.Helper()
	pgtest.Exec(t, e.conn, `UPDATE public.counter SET value = $1`, value)
	if notification != "" {
		pgtest.Exec(t, e.conn, notification)
	}
}

const (
	notify    = `NOTIFY changes`
	terminate = `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'sallyport listen' AND datname = current_database()`
)

// TestNotification: a change is read without a poll; each further one is, too.
func TestNotification(t *testing.T) {
	t.Parallel()
	e := start(t, nil, nil)
	for value := range 20 {
		e.set(t, value+1, notify)
		e.awaitCounter(t, value+1)
	}
}

// TestPoll: a change without a notification is read by the next poll.
func TestPoll(t *testing.T) {
	t.Parallel()
	e := start(t, func(l *Listener) { l.Poll = 50 * time.Millisecond }, nil)
	e.set(t, 1, "")
	e.awaitCounter(t, 1)
	e.set(t, 2, `NOTIFY another`)
	e.awaitCounter(t, 2)
}

// TestPollIsNeeded: without polls, only the next notification finds such a change.
func TestPollIsNeeded(t *testing.T) {
	t.Parallel()
	e := start(t, nil, nil)
	reads := e.count()
	e.set(t, 1, "")
	if e.count() != reads {
		t.Error("read without a notification and before the poll")
	}
	e.set(t, 2, notify)
	e.awaitCounter(t, 2)
}

// TestLostConnection: a notification that is sent while the session does not exist is lost.
// Its change is found by the read after the next connect, also without polls. The outage
// shows until then.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	e := start(t, nil, nil)
	if e.Outage() != nil {
		t.Error(e.Outage())
	}
	for value := 1; value < 5; value++ {
		pgtest.Exec(t, e.conn, `UPDATE pg_database SET datallowconn = false WHERE datname = current_database()`)
		pgtest.Exec(t, e.conn, terminate)
		pgtest.Eventually(t, "the outage is known", func() bool { return e.Outage() != nil })
		if o := e.Outage(); o == nil || o.Err == nil || o.Since.IsZero() {
			t.Errorf("%+v", o)
		}
		e.set(t, value, notify)
		pgtest.Exec(t, e.conn, `UPDATE pg_database SET datallowconn = true WHERE datname = current_database()`)
		e.awaitCounter(t, value)
		pgtest.Eventually(t, "the outage has ended", func() bool { return e.Outage() == nil })
	}
}

// TestListensBeforeItReads: a change between LISTEN and the first read would be lost in the
// other order.
func TestListensBeforeItReads(t *testing.T) {
	t.Parallel()
	start(t, nil, func(ctx context.Context, conn *pgx.Conn) error {
		var channel string
		if err := conn.QueryRow(ctx, `SELECT coalesce((SELECT * FROM pg_listening_channels()), '')`).Scan(&channel); err != nil || channel != "changes" {
			t.Errorf("reads while it listens on %q, %v", channel, err)
		}
		return nil
	})
}

// TestNotificationDuringARead: what is notified of while a read is in progress causes another.
func TestNotificationDuringARead(t *testing.T) {
	t.Parallel()
	reading, proceed := make(chan struct{}), make(chan struct{})
	var hold atomic.Bool
	e := start(t, nil, func(context.Context, *pgx.Conn) error {
		if hold.CompareAndSwap(true, false) {
			close(reading)
			<-proceed
		}
		return nil
	})
	hold.Store(true)
	e.set(t, 1, notify)
	<-reading
	e.set(t, 2, notify)
	close(proceed)
	e.awaitCounter(t, 2)
}

// TestFailedRead: an error of the read ends the session and shows as an outage.
func TestFailedRead(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var failure error
	set := func(err error) { mu.Lock(); failure = err; mu.Unlock() }
	e := start(t, nil, func(context.Context, *pgx.Conn) error { mu.Lock(); defer mu.Unlock(); return failure })
	set(errors.New("unreadable"))
	e.set(t, 1, notify)
	pgtest.Eventually(t, "the outage is known", func() bool { return e.Outage() != nil })
	if got := e.Outage().Err.Error(); got != "read counters: unreadable" {
		t.Error(got)
	}
	set(nil)
	e.awaitCounter(t, 1)
	pgtest.Eventually(t, "the outage has ended", func() bool { return e.Outage() == nil })
}

// TestReadOnlySession: a session whose server stops accepting writes is replaced, and not
// read any more.
func TestReadOnlySession(t *testing.T) {
	t.Parallel()
	var once sync.Once
	e := start(t, func(l *Listener) { l.Poll = 20 * time.Millisecond }, func(ctx context.Context, conn *pgx.Conn) (err error) {
		once.Do(func() { _, err = conn.Exec(ctx, `SET default_transaction_read_only = on`) })
		return err
	})
	pgtest.Eventually(t, "a second session", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.sessions[len(e.sessions)-1] != e.sessions[0]
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions[1] == e.sessions[0] {
		t.Error("read again over a read-only session")
	}
}

// TestPayloads: with Notified, each payload is reported at once and causes no read; polls
// continue.
func TestPayloads(t *testing.T) {
	t.Parallel()
	payloads := make(chan string, 100)
	e := start(t, func(l *Listener) { l.Notified = func(p string) { payloads <- p } }, nil)
	for _, want := range []string{"one", "two", ""} {
		pgtest.Exec(t, e.conn, `SELECT pg_notify('changes', $1)`, want)
		select {
		case got := <-payloads:
			if got != want {
				t.Errorf("%q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatal("no payload")
		}
	}
	if n := e.count(); n != 1 {
		t.Errorf("%d reads", n)
	}
}
