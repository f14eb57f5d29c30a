package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

// writeNames writes responses into the tables, in the order in which they were
// fetched. The writer holds one lock, so that no two instances can undo or wait for one
// another row by row. Writing a response again changes nothing.
func (s *Store) writeNames(ctx context.Context, batch []observed) error {
	var reassignments []identity.Reassignment
	err := s.transact(ctx, func(tx pgx.Tx) error {
		reassignments = reassignments[:0]
		// The next statement's snapshot begins when the lock is held.
		var now time.Time
		// A row lock that only the owner's function can acquire: an advisory lock can
		// be acquired, and held, by every login that may connect.
		err := tx.QueryRow(ctx, `SELECT audit.acquire_names_lock()`).Scan(&now)
		s.noteBlocked(err)
		if err != nil {
			return fmt.Errorf("acquire the lock of names: %w", err)
		}
		for _, kind := range nameOrder {
			found, err := writeKind(ctx, tx, kind, ofKind(batch, kind, database.Timestamp(now)))
			if err != nil {
				return fmt.Errorf("names of %s: %w", kind, err)
			}
			reassignments = append(reassignments, found...)
		}
		return nil
	})
	if err != nil {
		return s.explain("write names", err)
	}
	for _, m := range reassignments {
		s.log.WarnContext(ctx, "identity store: a name belongs to another UUID now",
			"kind", m.Kind, "name", m.Name, "from_uuid", m.FromUUID, "to_uuid", m.ToUUID)
		if s.config.NameReassigned != nil {
			s.config.NameReassigned(m)
		}
	}
	return nil
}

// noteBlocked keeps since when another session holds the lock of names and does
// not end its transaction.
func (s *Store) noteBlocked(err error) {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		s.namesBlocked.Store(0)
	case ok && pg.Code == "55P03": // lock_not_available
		s.namesBlocked.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// ofKind returns the responses of one kind, in the order in which they were fetched.
// None is later than now, by the database's clock: otherwise the names of an instance
// whose clock is ahead would be valid until the other clocks reach that time.
func ofKind(batch []observed, kind string, now time.Time) []observed {
	var some []observed
	for _, o := range batch {
		if o.kind != kind {
			continue
		}
		if o.fetchedAt.After(now) {
			o.fetchedAt = now
		}
		some = append(some, o)
	}
	slices.SortStableFunc(some, func(a, b observed) int {
		return cmp.Or(a.fetchedAt.Compare(b.fetchedAt), slices.Compare(a.values, b.values))
	})
	return some
}

func writeKind(ctx context.Context, tx pgx.Tx, kind string, fetched []observed) ([]identity.Reassignment, error) {
	if len(fetched) == 0 {
		return nil, nil
	}
	table := nameTables[kind]
	news, err := table.news(ctx, tx, fetched)
	if err != nil {
		return nil, err
	}
	steps := &pgx.Batch{}
	for _, o := range news {
		args := o.args()
		steps.Queue(table.confirm, args...)
		steps.Queue(table.end, args...)
		steps.Queue(table.begin, args...)
	}
	if err := tx.SendBatch(ctx, steps).Close(); err != nil {
		return nil, err
	}
	return table.reassignments(ctx, tx, kind, fetched)
}

func (o observed) args() []any {
	args := make([]any, 0, len(o.values)+1)
	for _, v := range o.values {
		args = append(args, v)
	}
	return append(args, o.fetchedAt)
}

// news returns the responses that change something, which are few, and all responses of
// a key that has several, in order.
func (t *nameTable) news(ctx context.Context, tx pgx.Tx, fetched []observed) ([]observed, error) {
	times := map[nameKey]int{}
	for _, o := range fetched {
		times[o.key()]++
	}
	var single, news []observed
	for _, o := range fetched {
		if times[o.key()] > 1 {
			news = append(news, o)
		} else {
			single = append(single, o)
		}
	}
	rows, err := tx.Query(ctx, t.same, columnsOf(t, single)...)
	if err != nil {
		return nil, err
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	is := make(map[int64]bool, len(known))
	for _, n := range known {
		is[n] = true
	}
	for i, o := range single {
		if !is[int64(i)+1] {
			news = append(news, o)
		}
	}
	slices.SortStableFunc(news, func(a, b observed) int { return a.fetchedAt.Compare(b.fetchedAt) })
	return news, nil
}

// columnsOf turns rows into columns.
func columnsOf(t *nameTable, fetched []observed) []any {
	args := make([]any, 0, len(t.columns)+1)
	for i := range t.columns {
		values := make([]string, len(fetched))
		for j, o := range fetched {
			values[j] = o.values[i]
		}
		args = append(args, values)
	}
	fetchedAt := make([]time.Time, len(fetched))
	for j, o := range fetched {
		fetchedAt[j] = o.fetchedAt
	}
	return append(args, fetchedAt)
}

// reassignments asks for the names that passed to another UUID by these answers. It
// finds the same when they are written again, as after a commit whose answer was
// lost.
func (t *nameTable) reassignments(ctx context.Context, tx pgx.Tx, kind string, fetched []observed) ([]identity.Reassignment, error) {
	uuids, fetchedAt := make([]string, len(fetched)), make([]time.Time, len(fetched))
	for i, o := range fetched {
		uuids[i], fetchedAt[i] = o.values[0], o.fetchedAt
	}
	rows, err := tx.Query(ctx, t.moved, uuids, fetchedAt)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.Reassignment, error) {
		m := identity.Reassignment{Kind: kind}
		err := row.Scan(&m.Name, &m.WorkspaceUUID, &m.FromUUID, &m.ToUUID, &m.RepositoryUUID, &m.At)
		return m, err
	})
}
