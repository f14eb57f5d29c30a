package postgres

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

const (
	pollEvery     = time.Second            // reads the revocations with or without a notification
	readAtMost    = 2 * time.Second        // an answer that takes longer is a database that is unavailable
	connectAtMost = time.Second            // to one server; the next is tried then
	readFloor     = 20 * time.Millisecond  // between two reads, however many notifications arrive
	reconnectMost = 500 * time.Millisecond // between two attempts; with the rest it must stay below two seconds
)

// Watch keeps what [Store.Revoked] answers from up to date until ctx ends, and
// returns nil: it listens, and reads once a second without a notification too. It
// calls notify, which may be nil and must not block, of what is newly in force:
// first of everything that is, and of nothing twice. While the database is unavailable
// the latest set stays in force, and [Store.Status] has the time since when. One
// goroutine watches.
func (s *Store) Watch(ctx context.Context, notify func([]Revocation)) error {
	w := &watcher{store: s, notify: notify, reported: map[int64]struct{}{}}
	w.report(s.revoked.Load().list)
	for failures := 0; ; failures++ {
		before := time.Now()
		err := w.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.outageBegan(ctx, err)
		if time.Since(before) > 10*time.Second { // it worked for a while
			failures = 0
		}
		wait := min(reconnectMost, 25*time.Millisecond<<min(failures, 5))
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return nil
		}
	}
}

// outageBegan notes an outage, once.
func (s *Store) outageBegan(ctx context.Context, err error) {
	o := &watchOutage{since: time.Now(), err: err}
	if old := s.outage.Load(); old != nil {
		o.since = old.since
	} else {
		s.log.WarnContext(ctx, "identity store: revocations cannot be read; those in force stay so", "error", err)
	}
	s.outage.Store(o)
}

// outageEnded notes its end.
func (s *Store) outageEnded(ctx context.Context) {
	if o := s.outage.Swap(nil); o != nil {
		s.log.InfoContext(ctx, "identity store: revocations are read again", "away", time.Since(o.since).Round(time.Millisecond))
	}
}

// watcher belongs to the goroutine of Watch.
type watcher struct {
	store    *Store
	notify   func([]Revocation)
	reported map[int64]struct{} // of what is in force
	received bool               // since the set was last read
}

// session reads on one connection until that fails, its server may not write any
// more, or ctx ends.
func (w *watcher) session(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeNow(conn)
	// Deadlines on the socket instead of contexts: they leave nothing behind
	// where the server does not answer, and a wait that ends by one is not an error
	// of the connection.
	socket := conn.PgConn().Conn()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bound := func(d time.Duration) error {
		if err := socket.SetDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		return ctx.Err() // it may have ended just before
	}
	if err := bound(readAtMost); err != nil {
		return err
	}
	if _, err := conn.Exec(context.Background(), "LISTEN "+channel); err != nil {
		return w.store.explain("listen", err)
	}
	for {
		if err := bound(readAtMost); err != nil {
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
		if !pause.For(ctx, readFloor) {
			return ctx.Err()
		}
		if err := w.await(conn.PgConn(), bound); err != nil {
			return w.store.explain("listen", err)
		}
	}
}

// begin returns the database's clock, where the server may still write: what is
// read elsewhere is of the time before a failover.
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

// confirm shows other instances that everything which was committed before a time
// is in force here. The time has digits only: it is a bigint of the server.
func (w *watcher) confirm(conn *pgconn.PgConn, at string) error {
	_, err := conn.Exec(context.Background(), "SET application_name = '"+readerName+w.store.instance+" "+at+"'").ReadAll()
	return err
}

// await returns after a notification, or when the next read is due.
func (w *watcher) await(conn *pgconn.PgConn, bound func(time.Duration) error) error {
	if w.received {
		return nil
	}
	if err := bound(pollEvery - readFloor); err != nil {
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
	config.ConnectTimeout = min(config.ConnectTimeout, connectAtMost)
	ctx, cancel := context.WithTimeout(ctx, readAtMost+time.Duration(len(config.Fallbacks))*config.ConnectTimeout)
	defer cancel()
	config.RuntimeParams["application_name"] = readerName + w.store.instance
	// The sender is ignored: every login that may connect can notify.
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { w.received = true }
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // one round trip, and nothing that a pooler would lose
	return database.Connect(ctx, config)
}

// closeNow ends a connection without waiting for a server that may not answer.
func closeNow(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}

// publish makes a list the set in force, and reports what is new in it.
func (w *watcher) publish(ctx context.Context, list []Revocation, read int64) {
	w.store.replace(list, read)
	w.store.outageEnded(ctx)
	w.report(list)
}

func (w *watcher) report(list []Revocation) {
	var news []Revocation
	in := make(map[int64]struct{}, len(list))
	for _, r := range list {
		in[r.ID] = struct{}{}
		if _, told := w.reported[r.ID]; !told {
			news = append(news, r)
		}
	}
	w.reported = in
	if len(news) > 0 && w.notify != nil {
		w.notify(news)
	}
}
