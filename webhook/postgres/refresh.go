package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/database/listen"
)

// The kinds of refreshes. Each has a sequence in the schema webhook.
const (
	PolicyRefresh = "policy"
	NamesRefresh  = "names"
)

// refreshChannel is what LISTEN and NOTIFY call a requested refresh.
const refreshChannel = "sallyport_webhook_refresh"

// refreshesSQL reads the number of each kind that was ever requested. A sequence that was
// restored, or whose server failed, has another number than before, and never the same one
// for a later request.
const refreshesSQL = `SELECT 'names', last_value FROM webhook.names_refreshes WHERE is_called
	UNION ALL SELECT 'policy', last_value FROM webhook.policy_refreshes WHERE is_called ORDER BY 1`

// Refreshes watches the refreshes that deliveries request in any instance. A
// delivery with such an action increases a number, and its instance notifies the others once
// the delivery is committed.
type Refreshes struct {
	listener *listen.Listener
}

// NewRefreshes returns a watcher of the database, as the role sallyport_writer or a member of
// it. It does not connect. log may be nil.
func NewRefreshes(url string, log *slog.Logger) (*Refreshes, error) {
	config, err := database.ParseConfig(url, "sallyport webhook refreshes")
	if err != nil {
		return nil, fmt.Errorf("webhook refreshes: %w", err)
	}
	return &Refreshes{&listen.Listener{
		Config: config, Channel: refreshChannel, Log: log,
		Subject: "webhook refreshes", Effect: "the policy source is polled at its interval",
	}}, nil
}

// Outage returns nil while the counters can be read, or before Watch has connected for the
// first time. It does not query the database and is safe for concurrent use.
func (r *Refreshes) Outage() *listen.Outage { return r.listener.Outage() }

// Watch calls notify with the name of each kind of refresh that was requested since the last
// call, until ctx ends, and then returns nil. The database notifies of a request at once;
// without a notification the counters are read each second. After an outage Watch reports
// what was requested meanwhile. At the start it reports every kind that was ever requested:
// such a request may be younger than what this instance has loaded. Only one goroutine may
// call Watch, and notify must not block.
func (r *Refreshes) Watch(ctx context.Context, notify func(name string)) error {
	seen := map[string]string{}
	r.listener.Run(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return readRefreshes(ctx, conn.PgConn(), seen, notify)
	})
	return nil
}

// readRefreshes reports the kinds whose counter is another one than in seen.
func readRefreshes(ctx context.Context, conn *pgconn.PgConn, seen map[string]string, notify func(string)) error {
	results, err := conn.Exec(ctx, refreshesSQL).ReadAll()
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
