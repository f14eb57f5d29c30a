package writer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
)

// boundCompanions bounds what a companion can cost the events behind it. A deadlock between
// the companions of two instances ends by the first of these, before the database looks for
// deadlocks (deadlock_timeout: 1 s).
const boundCompanions = "SELECT set_config('lock_timeout', '250ms', true), set_config('statement_timeout', '2s', true)"

// addCompanions adds the companions of a group to the batch of its events.
func (s *session) addCompanions(g *group) {
	s.batch.ExecParams(boundCompanions, nil, nil, nil, nil)
	for _, r := range g.rows {
		if r.companion == nil {
			continue
		}
		for _, e := range r.companion.statements {
			if p := s.prepared[e.sql]; p != nil {
				s.batch.ExecStatement(p, e.values, e.formats, nil)
			} else {
				s.batch.ExecParams(e.sql, e.values, nil, e.formats, nil)
			}
		}
	}
}

// writeGroup writes a group. If the database refuses a companion, the events and the other
// companions are still written.
func (s *session) writeGroup(ctx context.Context, g *group) error {
	if !g.dropExhausted() {
		err := s.write(ctx, g)
		if _, refused := errors.AsType[companionError](err); !refused {
			return err
		}
	}
	return s.writeSeparately(ctx, g)
}

// writeSeparately writes each event that has a companion in a separate transaction. Events
// without a companion come first: refused companions delay them by one attempt at most.
func (s *session) writeSeparately(ctx context.Context, g *group) error {
	if err := s.writeIfAny(ctx, g.only(g.without())); err != nil {
		return err
	}
	var blocked error // another session holds the lock that companions need
	for _, r := range g.rows {
		if r.companion == nil {
			continue
		}
		if blocked != nil && !r.companion.dropped {
			r.companion.drop(blocked)
		}
		one := g.only([]row{r})
		err := s.write(ctx, one)
		if refused, ok := errors.AsType[companionError](err); ok {
			if refused.blocked() {
				blocked = refused
			}
			r.companion.drop(refused)
			err = s.write(ctx, one)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) writeIfAny(ctx context.Context, g *group) error {
	if len(g.rows) == 0 {
		return nil
	}
	return s.write(ctx, g)
}

// findEffects finds the effects of companions whose event is in the database.
func (s *session) findEffects(ctx context.Context, g *group, stored map[int64][]found) error {
	if g.companions == 0 {
		return nil
	}
	for _, r := range g.rows {
		c := r.companion
		if c == nil || c.dropped || len(stored[r.sequence]) == 0 {
			continue
		}
		result := s.conn.PgConn().ExecParams(ctx, c.applied.sql, c.applied.values, nil, c.applied.formats, nil).Read()
		if pg, ok := errors.AsType[*pgconn.PgError](result.Err); ok && isRefusal(pg) {
			c.err = companionError{pg}
			continue
		}
		if result.Err != nil {
			return fmt.Errorf("look for the change of event %d: %w", r.sequence, result.Err)
		}
		if c.err = nil; result.CommandTag.RowsAffected() == 0 {
			c.err = audit.ErrNoEffect
		}
	}
	return nil
}
