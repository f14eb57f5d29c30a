package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database/listen"
)

// newListener returns the listener of Watch. Its sessions have the name by which this
// instance confirms what it has read.
func (s *Store) newListener() *listen.Listener {
	config := s.connect.Copy()
	config.RuntimeParams["application_name"] = readerName + s.instance
	return &listen.Listener{
		Config: config, Channel: channel, Log: s.log,
		Subject: "identity store: revocations", Effect: "those in force stay so",
	}
}

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
	s.listener.Run(ctx, w.read)
	return nil
}

// watcher is the state of Watch, for its goroutine only.
type watcher struct {
	store    *Store
	notify   func([]identity.Revocation)
	reported map[int64]struct{} // ids of revocations in force that notify has received
}

// read replaces the set in force, and then publishes to other instances that every
// revocation committed before the read is in force here.
func (w *watcher) read(ctx context.Context, conn *pgx.Conn) error {
	read := w.store.reads.Add(1)
	at, err := now(ctx, conn.PgConn())
	if err != nil {
		return err
	}
	list, err := readRevocations(ctx, conn)
	if err != nil {
		return err
	}
	w.store.replace(list, read)
	w.report(list)
	// The time is a bigint of the server, so that it needs no quoting.
	_, err = conn.PgConn().Exec(ctx, "SET application_name = '"+readerName+w.store.instance+" "+at+"'").ReadAll()
	return err
}

// now returns the time of the database in microseconds.
func now(ctx context.Context, conn *pgconn.PgConn) (string, error) {
	results, err := conn.Exec(ctx, `SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint`).ReadAll()
	if err != nil {
		return "", err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return "", errors.New("read the clock: the database returned no row")
	}
	return string(results[0].Rows[0][0]), nil
}

// report calls notify with the revocations that it has not received.
func (w *watcher) report(list []identity.Revocation) {
	var added []identity.Revocation
	in := make(map[int64]struct{}, len(list))
	for _, r := range list {
		in[r.ID] = struct{}{}
		if _, known := w.reported[r.ID]; !known {
			added = append(added, r)
		}
	}
	w.reported = in
	if len(added) > 0 && w.notify != nil {
		w.notify(added)
	}
}
