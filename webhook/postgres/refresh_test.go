package postgres

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// refreshable returns a database with the sequences of refreshes, and a connection as its owner.
func refreshable(t *testing.T) (*pgtest.DB, *pgx.Conn) {
	t.Helper()
	db := migrated(t)
	conn, err := pgx.Connect(t.Context(), db.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return db, conn
}

func execute(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// request requests a refresh as an accepted delivery does, with or without its notification.
func request(t *testing.T, conn *pgx.Conn, name string, notification bool) {
	t.Helper()
	execute(t, conn, `SELECT webhook.request_refresh('`+name+`')`)
	if notification {
		execute(t, conn, `SELECT pg_notify('`+refreshChannel+`', '`+name+`')`)
	}
}

// watching starts a watcher and returns the names that it reports.
func watching(t *testing.T, url string, change func(*Refreshes)) (*Refreshes, <-chan string) {
	t.Helper()
	r, err := NewRefreshes(url, slog.New(slog.NewTextHandler(pgtest.LogWriter{T: t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	names := make(chan string, 100)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = r.Watch(ctx, func(name string) { names <- name })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return r, names
}

func expectName(t *testing.T, names <-chan string, want string) {
	t.Helper()
	select {
	case got := <-names:
		if got != want {
			t.Errorf("%s was reported, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%s was not reported", want)
	}
}

// listening waits until the watcher waits for a notification.
func listening(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	pgtest.Eventually(t, "the watcher listens", func() bool {
		var n int
		if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sallyport webhook refreshes' AND datname = current_database() AND state = 'idle' AND query LIKE 'SELECT ''names''%'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
}

// TestRefreshByNotification: a request reaches an instance that does not poll; a
// notification without a request does nothing.
func TestRefreshByNotification(t *testing.T) {
	t.Parallel()
	db, conn := refreshable(t)
	_, names := watching(t, db.URL(database.Writer), func(r *Refreshes) { r.listener.Poll = time.Hour })
	listening(t, conn)
	execute(t, conn, `SELECT pg_notify('`+refreshChannel+`', 'policy')`)
	request(t, conn, PolicyRefresh, true)
	expectName(t, names, PolicyRefresh)
	request(t, conn, NamesRefresh, true)
	expectName(t, names, NamesRefresh)
	request(t, conn, PolicyRefresh, true)
	expectName(t, names, PolicyRefresh)
}

// TestRefreshWithoutNotification: where notifications are lost, the poll finds the request.
func TestRefreshWithoutNotification(t *testing.T) {
	t.Parallel()
	db, conn := refreshable(t)
	_, names := watching(t, db.URL(database.Writer), func(r *Refreshes) { r.listener.Channel = "another_channel" })
	listening(t, conn)
	request(t, conn, PolicyRefresh, true)
	expectName(t, names, PolicyRefresh)
	request(t, conn, PolicyRefresh, false)
	expectName(t, names, PolicyRefresh)
}

// TestRefreshAfterAnOutage: what is requested while an instance has no connection is
// reported when it has one again, and so is what was requested before its start.
func TestRefreshAfterAnOutage(t *testing.T) {
	t.Parallel()
	db, conn := refreshable(t)
	request(t, conn, PolicyRefresh, true)
	r, names := watching(t, db.URL(database.Writer), nil)
	expectName(t, names, PolicyRefresh)
	listening(t, conn)
	execute(t, conn, `REVOKE SELECT ON webhook.policy_refreshes FROM sallyport_writer`)
	execute(t, conn, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sallyport webhook refreshes' AND datname = current_database()`)
	pgtest.Eventually(t, "the outage is known", func() bool { return r.Outage() != nil })
	request(t, conn, PolicyRefresh, true)
	execute(t, conn, `GRANT SELECT ON webhook.policy_refreshes TO sallyport_writer`)
	expectName(t, names, PolicyRefresh)
	pgtest.Eventually(t, "the outage has ended", func() bool { return r.Outage() == nil })
	select {
	case name := <-names:
		t.Errorf("%s was reported once more", name)
	default:
	}
}

// TestRefreshCounterDecides: a database that was restored to an earlier state has other
// numbers, which are reported too.
func TestRefreshCounterDecides(t *testing.T) {
	t.Parallel()
	db, conn := refreshable(t)
	request(t, conn, PolicyRefresh, false)
	request(t, conn, PolicyRefresh, false)
	_, names := watching(t, db.URL(database.Writer), nil)
	expectName(t, names, PolicyRefresh)
	execute(t, conn, `SELECT setval('webhook.policy_refreshes', 1)`)
	expectName(t, names, PolicyRefresh)
}
