package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxPrepared bounds the statements of companions that a session prepares.
const maxPrepared = 32

// beginPrepare has the bounds of [boundCompanions]: to parse a statement takes locks too.
const beginPrepare = "BEGIN; SET LOCAL lock_timeout = '250ms'; SET LOCAL statement_timeout = '2s'"

// prepareCompanions counts an attempt of each companion of a group, and prepares the
// statements that the session does not know yet: to parse and plan a delivery takes a fifth
// of its time. A statement that cannot be prepared is sent unprepared, so that its error
// concerns its companion alone.
func (s *session) prepareCompanions(ctx context.Context, g *group) error {
	for _, r := range g.rows {
		if r.companion == nil || r.companion.dropped {
			continue
		}
		r.companion.attempts++
		for _, e := range r.companion.statements {
			if _, known := s.prepared[e.sql]; known || len(s.prepared) >= maxPrepared {
				continue
			}
			if err := s.prepareCompanion(ctx, e.sql); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *session) prepareCompanion(ctx context.Context, sql string) error {
	conn := s.conn.PgConn()
	if _, err := conn.Exec(ctx, beginPrepare).ReadAll(); err != nil {
		return err
	}
	statement, err := conn.Prepare(ctx, fmt.Sprintf("sallyport_companion_%d", len(s.prepared)), sql, nil)
	pg, isError := errors.AsType[*pgconn.PgError](err)
	if err != nil && (!isError || !isRefusal(pg)) {
		return err
	}
	if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil { // the prepared statement stays
		return err
	}
	if isError && (companionError{pg}).blocked() {
		return nil // the next group tries again
	}
	if s.prepared == nil {
		s.prepared = make(map[string]*pgconn.StatementDescription)
	}
	s.prepared[sql] = statement // nil after an error
	return nil
}
