package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	pollInterval    = time.Second           // between two reads without a notification
	readTimeout     = 2 * time.Second       // the database is unavailable if a response takes longer
	connectTimeout  = time.Second           // for one server; then the next server is tried
	minReadInterval = 20 * time.Millisecond // between two reads, regardless of notifications
	// maxReconnectBackoff is the longest pause between two attempts to connect. Together
	// with the time of an attempt it must stay below two seconds.
	maxReconnectBackoff = 500 * time.Millisecond
)

// Watch keeps the set of revocations of [Store.Revoked] up to date until ctx ends, and then
// returns nil. It reads the set after each notification of the database, and at least once a
// second.
//
// Watch calls notify with all revocations in force, and later with each new one once. notify
// may be nil and must not block. While the database is unavailable, the latest set stays in
// force, and [Store.Status] has the start of the outage. Only one goroutine may call Watch.
func (s *Store) Watch(ctx context.Context, notify func([]identity.Revocation)) error {
	w := &watcher{store: s, notify: notify, reported: map[int64]struct{}{}}
	w.report(s.revoked.Load().list)
	for failures := 0; ; failures++ {
		before := time.Now()
		err := w.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.outageBegan(ctx, err)
		if time.Since(before) > 10*time.Second { // the session worked
			failures = 0
		}
		wait := min(maxReconnectBackoff, 25*time.Millisecond<<min(failures, 5))
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return nil
		}
	}
}

// outageBegan records an outage and logs its start once.
func (s *Store) outageBegan(ctx context.Context, err error) {
	o := &readOutage{since: time.Now(), err: err}
	if old := s.outage.Load(); old != nil {
		o.since = old.since
	} else {
		s.log.WarnContext(ctx, "identity store: revocations cannot be read; those in force stay so", "error", err)
	}
	s.outage.Store(o)
}

// outageEnded clears the outage and logs its end.
func (s *Store) outageEnded(ctx context.Context) {
	if o := s.outage.Swap(nil); o != nil {
		s.log.InfoContext(ctx, "identity store: revocations are read again", "duration", time.Since(o.since).Round(time.Millisecond))
	}
}

// watcher is the state of Watch, for its goroutine only.
type watcher struct {
	store    *Store
	notify   func([]identity.Revocation)
	reported map[int64]struct{} // ids of revocations in force that notify has received
	received bool               // a notification arrived since the last read
}

// session reads revocations on one connection until the connection fails, its server becomes
// read-only, or ctx ends.
func (w *watcher) session(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	// Use deadlines on the socket instead of contexts. They leave no resources behind if the
	// server does not respond, and a wait that ends at a deadline leaves the connection usable.
	socket := conn.PgConn().Conn()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bound := func(d time.Duration) error {
		if err := socket.SetDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		return ctx.Err() // ctx may have ended before the deadline was set
	}
	if err := bound(readTimeout); err != nil {
		return err
	}
	if _, err := conn.Exec(context.Background(), "LISTEN "+channel); err != nil {
		return w.store.explain("listen", err)
	}
	for {
		if err := bound(readTimeout); err != nil {
			return err
		}
		w.received = false
		read := w.store.reads.Add(1)
		at, err := w.begin(conn.PgConn())
		if err != nil {
			return w.store.explain("read revocations", err)
		}
		list, err := readRevocations(context.Background(), conn)
		if err != nil {
			return w.store.explain("read revocations", err)
		}
		w.publish(ctx, list, read)
		if err := w.confirm(conn.PgConn(), at); err != nil {
			return w.store.explain("confirm revocations", err)
		}
		if !pause.For(ctx, minReadInterval) {
			return ctx.Err()
		}
		if err := w.await(conn.PgConn(), bound); err != nil {
			return w.store.explain("listen", err)
		}
	}
}

// begin returns the time of the database in microseconds. It returns an error if the server
// is read-only: a former primary has the data from before the failover.
func (w *watcher) begin(conn *pgconn.PgConn) (string, error) {
	if err := database.CheckWritable(context.Background(), conn); err != nil {
		return "", err
	}
	results, err := conn.Exec(context.Background(), `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errors.New("read the clock: no answer")
	}
	return string(results[0].Rows[0][0]), nil
}

// confirm publishes to other instances that every revocation committed before a time is in
// force here. The time is a bigint of the server, so that it needs no quoting.
func (w *watcher) confirm(conn *pgconn.PgConn, at string) error {
	_, err := conn.Exec(context.Background(), "SET application_name = '"+readerName+w.store.instance+" "+at+"'").ReadAll()
	return err
}

// await returns after a notification, or when the next read is due.
func (w *watcher) await(conn *pgconn.PgConn, bound func(time.Duration) error) error {
	if w.received {
		return nil
	}
	if err := bound(pollInterval - minReadInterval); err != nil {
		return err
	}
	err := conn.WaitForNotification(context.Background())
	if err != nil && pgconn.Timeout(err) && !conn.IsClosed() {
		return nil
	}
	return err
}

func (w *watcher) connect(ctx context.Context) (*pgx.Conn, error) {
	config := w.store.connect.Copy()
	config.ConnectTimeout = min(config.ConnectTimeout, connectTimeout)
	ctx, cancel := context.WithTimeout(ctx, readTimeout+time.Duration(len(config.Fallbacks))*config.ConnectTimeout)
	defer cancel()
	config.RuntimeParams["application_name"] = readerName + w.store.instance
	// The sender is ignored: every login that may connect can notify.
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { w.received = true }
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, and no state that a connection pooler would lose
	return database.Connect(ctx, config)
}

// closeNow closes a connection without waiting long for a server that may not respond.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// publish replaces the set in force and reports new revocations.
func (w *watcher) publish(ctx context.Context, list []identity.Revocation, read int64) {
	w.store.replace(list, read)
	w.store.outageEnded(ctx)
	w.report(list)
}

func (w *watcher) report(list []identity.Revocation) {
	var news []identity.Revocation
	in := make(map[int64]struct{}, len(list))
	for _, r := range list {
		in[r.ID] = struct{}{}
		if _, known := w.reported[r.ID]; !known {
			news = append(news, r)
		}
	}
	w.reported = in
	if len(news) > 0 && w.notify != nil {
		w.notify(news)
	}
}
