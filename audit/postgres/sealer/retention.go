package sealer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
)

// Retention takes the events of old months away, and keeps months from that. It
// acts as the role sallyport_owner, of which the login has to be a member; to
// look, and to set a hold, an auditor's login is enough. It is not safe for
// concurrent use.
type Retention struct {
	connect *pgx.ConnConfig
	conn    *pgx.Conn
	purpose string
}

// OpenRetention connects.
func OpenRetention(ctx context.Context, url string) (*Retention, error) {
	return openAsOwner(ctx, url, "retention")
}

// openAsOwner connects, and acts as the owner where the login may.
func openAsOwner(ctx context.Context, url, purpose string) (*Retention, error) {
	connect, err := database.ParseConfig(url, "sallyport "+purpose)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", purpose, err)
	}
	database.Set(&connect.Config, map[string]string{"statement_timeout": "0"}) // a month is read from end to end
	conn, err := database.Connect(ctx, connect)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", purpose, err)
	}
	r := &Retention{connect, conn, purpose}
	err = database.CheckVersion(ctx, conn)
	if err == nil {
		err = r.begin(ctx)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("%s: %w", purpose, err)
	}
	return r, nil
}

func (r *Retention) begin(ctx context.Context) error {
	var owner bool
	if err := r.conn.QueryRow(ctx, `SELECT pg_has_role(current_user, $1, 'MEMBER')`, database.Owner).Scan(&owner); err != nil {
		return database.Explain("read roles", &r.connect.Config, err)
	}
	if !owner {
		return nil // what it may not, the database refuses
	}
	_, err := r.conn.Exec(ctx, "SET ROLE "+database.Owner)
	return database.Explain("act as "+database.Owner, &r.connect.Config, err)
}

// Close ends the connection.
func (r *Retention) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = r.conn.Close(ctx)
}

// An ExpiringMonth is a month of the log, and what retention would do with it.
type ExpiringMonth struct {
	Month    time.Time // its first day
	Events   int64     // that it has; 0 where it was refused before they were counted
	Removed  int64     // of these, that would be removed
	SealedBy time.Time // when the last of these was sealed, by the signed checkpoints
	Refusal  string    // why nothing is removed; empty: the month may be
}

const monthsSQL = `SELECT m.month FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
	CROSS JOIN LATERAL (SELECT to_date(substr(c.relname, 8), 'YYYY_MM') AS month) m
	WHERE i.inhparent = 'audit.events'::regclass AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
	  AND m.month + interval '1 month' <= (now() AT TIME ZONE 'UTC') - make_interval(days => $1)
	ORDER BY m.month`

// Months examines each month of the log that ended more than so many days ago,
// the oldest first. It reads all of those that may be removed.
func (r *Retention) Months(ctx context.Context, keepDays int) ([]ExpiringMonth, error) {
	rows, err := r.conn.Query(ctx, monthsSQL, keepDays)
	if err != nil {
		return nil, r.explain("list months", err)
	}
	months, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, r.explain("list months", err)
	}
	var all []ExpiringMonth
	for _, month := range months {
		m := ExpiringMonth{Month: month}
		var events, removed *int64
		var sealed *time.Time
		var refusal *string
		if err := r.conn.QueryRow(ctx, `SELECT events, taken, sealed_by, refusal FROM audit.check_month($1, $2)`, month, keepDays).
			Scan(&events, &removed, &sealed, &refusal); err != nil {
			return nil, r.explain("examine "+month.Format("2006-01"), err)
		}
		m.Events, m.Removed, m.SealedBy, m.Refusal = value(events), value(removed), value(sealed), value(refusal)
		all = append(all, m)
	}
	return all, nil
}

func value[T any](p *T) T {
	if p == nil {
		return *new(T)
	}
	return *p
}

// How often, and how long apart, a month is tried whose lock another session has.
const (
	expireAttempts = 3
	expirePause    = 5 * time.Second
)

// Expire takes away the events of a month, and returns the number of the event
// that records it, of the writer audit.DatabaseWriter; zero: there was nothing to
// take. It is one transaction: where it fails, nothing has changed. Where
// another session holds the log for long, it is tried again some times.
func (r *Retention) Expire(ctx context.Context, month time.Time, keepDays int) (sequence int64, err error) {
	for attempt := 1; ; attempt++ {
		var number *int64
		err := r.conn.QueryRow(ctx, `SELECT audit.expire($1, $2)`, month, keepDays).Scan(&number)
		if err == nil {
			return value(number), nil
		}
		if !passing(err) || attempt == expireAttempts {
			return 0, r.explain("take "+month.Format("2006-01"), err)
		}
		select {
		case <-time.After(expirePause):
		case <-ctx.Done():
			return 0, r.explain("take "+month.Format("2006-01"), err)
		}
	}
}

// passing reports whether what was refused may do a moment later.
func passing(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "55P03" || pg.Code == "40001" || pg.Code == "40P01")
}

// A Hold keeps months from retention.
type Hold struct {
	Number                   int64 // of its event, of the writer audit.DatabaseWriter
	SetAt, FirstDay, LastDay time.Time
	Reason, SetBy            string
	LiftedAt                 time.Time // zero: it is in force
	LiftedBecause, LiftedBy  string
}

// Holds lists all holds, those that were lifted included, in the order in which
// they were set.
func (r *Retention) Holds(ctx context.Context) ([]Hold, error) {
	rows, err := r.conn.Query(ctx, `SELECT hold, set_at, first_day, last_day, reason, set_by, lifted_at, lifted_because, lifted_by FROM audit.holds ORDER BY hold`)
	if err != nil {
		return nil, r.explain("list holds", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Hold, error) {
		var h Hold
		var at *time.Time
		var because, by *string
		err := row.Scan(&h.Number, &h.SetAt, &h.FirstDay, &h.LastDay, &h.Reason, &h.SetBy, &at, &because, &by)
		h.LiftedAt, h.LiftedBecause, h.LiftedBy = value(at), value(because), value(by)
		return h, err
	})
	return all, r.explain("list holds", err)
}

// SetHold keeps the months of these days and of those between them. It returns
// the number of the hold.
func (r *Retention) SetHold(ctx context.Context, first, last time.Time, reason string) (number int64, err error) {
	err = r.conn.QueryRow(ctx, `SELECT audit.set_hold($1, $2, $3)`, first, last, reason).Scan(&number)
	return number, r.explain("set a hold", err)
}

// LiftHold ends a hold.
func (r *Retention) LiftHold(ctx context.Context, number int64, reason string) error {
	_, err := r.conn.Exec(ctx, `SELECT audit.lift_hold($1, $2)`, number, reason)
	return r.explain(fmt.Sprintf("lift hold %d", number), err)
}

// explain states what to do. Refusals of the database's own functions state it
// already.
func (r *Retention) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pg.Code == "42883":
		return fmt.Errorf("%s: %s: the database's schema is older than this program; run `sallyport migrate`", r.purpose, doing)
	case ok && pg.Code == "42501":
		return fmt.Errorf("%s: %s: this login may not: it has to be a member of %s, as that of audit.migration_url_file is", r.purpose, doing, database.Owner)
	case ok:
		return fmt.Errorf("%s: %s: %s", r.purpose, doing, pg.Message)
	}
	return fmt.Errorf("%s: %w", r.purpose, database.Explain(doing, &r.connect.Config, err))
}
