package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pause"
)

// The kinds of refreshes, in the column name of webhook.refreshes.
const (
	PolicyRefresh = "policy"
	NamesRefresh  = "names"
)

// refreshChannel is what LISTEN and NOTIFY call a requested refresh.
const refreshChannel = "sallyport_webhook_refresh"

const (
	refreshPoll           = time.Second           // between two reads without a notification
	refreshReadTimeout    = 2 * time.Second       // the database is unavailable if a response takes longer
	refreshConnectTimeout = time.Second           // for one server; then the next server is tried
	minRefreshRead        = 20 * time.Millisecond // between two reads, regardless of notifications
	maxRefreshBackoff     = 500 * time.Millisecond
	maxRefreshKinds       = 64 // rows that are read
)

// Refreshes watches the refreshes that deliveries request in any instance. Committing a
// delivery with such an action increases a counter and notifies every instance.
type Refreshes struct {
	log     *slog.Logger
	connect *pgx.ConnConfig
	poll    time.Duration
	channel string
	outage  atomic.Pointer[RefreshOutage] // nil: the counters are read
}

// RefreshOutage is why and since when the counters cannot be read.
type RefreshOutage struct {
	Since time.Time
	Err   error
}

// NewRefreshes returns a watcher of the database, as the role sallyport_writer or a member of
// it. It does not connect. log may be nil.
func NewRefreshes(url string, log *slog.Logger) (*Refreshes, error) {
	config, err := database.ParseConfig(url, "sallyport webhook refreshes")
	if err != nil {
		return nil, fmt.Errorf("webhook refreshes: %w", err)
	}
	config.ConnectTimeout = min(config.ConnectTimeout, refreshConnectTimeout)
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // no state that a connection pooler would lose
	return &Refreshes{log: cmp.Or(log, slog.New(slog.DiscardHandler)), connect: config, poll: refreshPoll, channel: refreshChannel}, nil
}

// Outage returns nil while the counters can be read, or before Watch has connected for the
// first time. It does not query the database and is safe for concurrent use.
func (r *Refreshes) Outage() *RefreshOutage { return r.outage.Load() }

// Watch calls notify with the name of each kind of refresh that was requested since the last
// call, until ctx ends, and then returns nil. The database notifies of a request at once;
// without a notification the counters are read each second. After an outage Watch reports
// what was requested meanwhile. At the start it reports every kind that was ever requested:
// such a request may be younger than what this instance has loaded. Only one goroutine may
// call Watch, and notify must not block.
func (r *Refreshes) Watch(ctx context.Context, notify func(name string)) error {
	seen := map[string]string{}
	for failures := 0; ; failures++ {
		began := time.Now()
		err := r.session(ctx, seen, notify)
		if ctx.Err() != nil {
			return nil
		}
		r.outageBegan(ctx, err)
		if time.Since(began) > 10*time.Second { // the session worked
			failures = 0
		}
		wait := min(maxRefreshBackoff, 25*time.Millisecond<<min(failures, 5))
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return nil
		}
	}
}

func (r *Refreshes) outageBegan(ctx context.Context, err error) {
	o := &RefreshOutage{Since: time.Now(), Err: err}
	if old := r.outage.Load(); old != nil {
		o.Since = old.Since
	} else {
		r.log.WarnContext(ctx, "webhook refreshes cannot be read; the policy source is polled at its interval", "error", err)
	}
	r.outage.Store(o)
}

// session reads counters on one connection until the connection fails, its server becomes
// read-only, or ctx ends. Deadlines are those of the socket: a wait that ends at one leaves
// the connection usable.
func (r *Refreshes) session(ctx context.Context, seen map[string]string, notify func(string)) error {
	config := r.connect.Copy()
	notified := false
	// Every login that may connect can notify. A notification only causes a read.
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { notified = true }
	connecting, cancel := context.WithTimeout(ctx, refreshReadTimeout+time.Duration(len(config.Fallbacks))*config.ConnectTimeout)
	conn, err := database.Connect(connecting, config)
	cancel()
	if err != nil {
		return err
	}
	defer closeSession(conn)
	socket := conn.PgConn().Conn()
	stop := context.AfterFunc(ctx, func() { _ = socket.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	bound := func(d time.Duration) error {
		if err := socket.SetDeadline(time.Now().Add(d)); err != nil {
			return err
		}
		return ctx.Err() // ctx may have ended before the deadline was set
	}
	if err := bound(refreshReadTimeout); err != nil {
		return err
	}
	if _, err := conn.Exec(context.Background(), "LISTEN "+r.channel); err != nil {
		return database.Explain("listen", &r.connect.Config, err)
	}
	for {
		if err := bound(refreshReadTimeout); err != nil {
			return err
		}
		notified = false
		if err := r.read(conn.PgConn(), seen, notify); err != nil {
			return database.Explain("read webhook refreshes", &r.connect.Config, err)
		}
		if o := r.outage.Swap(nil); o != nil {
			r.log.InfoContext(ctx, "webhook refreshes are read again", "duration", time.Since(o.Since).Round(time.Millisecond))
		}
		if !pause.For(ctx, minRefreshRead) {
			return ctx.Err()
		}
		if notified {
			continue
		}
		if err := bound(r.poll); err != nil {
			return err
		}
		if err := conn.PgConn().WaitForNotification(context.Background()); err != nil && (!pgconn.Timeout(err) || conn.IsClosed()) {
			return database.Explain("listen", &r.connect.Config, err)
		}
	}
}

// read reports the kinds whose counter is another one than in seen. A former primary has the
// counters from before the failover: it is not read.
func (r *Refreshes) read(conn *pgconn.PgConn, seen map[string]string, notify func(string)) error {
	if err := database.CheckWritable(context.Background(), conn); err != nil {
		return err
	}
	results, err := conn.Exec(context.Background(), fmt.Sprintf("SELECT name, counter FROM webhook.refreshes ORDER BY name LIMIT %d", maxRefreshKinds)).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 {
		return errors.New("the database returned no rows")
	}
	for _, row := range results[0].Rows {
		name, counter := string(row[0]), string(row[1])
		if seen[name] != counter {
			seen[name] = counter
			notify(name)
		}
	}
	return nil
}

// closeSession closes a connection without waiting long for a server that may not respond.
func closeSession(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_ = conn.Close(ctx)
}
