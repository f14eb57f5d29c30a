package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// StepEvent is an event of a step as the log has it. What it does not have is empty.
type StepEvent struct {
	Kind        string
	DecisionID  string
	Verdict     string
	Mode        string
	WouldDeny   bool
	Reason      string
	Rule        string
	CloseReason string
}

// StepEvents returns the events of a step since a time, in the order of time. The
// step's UUID is bare and lower-case. What waits in a server's journal is not there.
func (s *Store) StepEvents(ctx context.Context, stepUUID string, since time.Time) ([]StepEvent, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT kind, coalesce(decision_id::text, ''), coalesce(verdict, ''), coalesce(mode, ''), coalesce(would_deny, false),
			coalesce(reason, ''), coalesce(rule, ''), coalesce(close_reason, '')
		FROM audit.events
		WHERE time >= $2 AND (step_uuid = $1::uuid OR decision_id IN (
			SELECT d.decision_id FROM audit.events d WHERE d.kind = 'decision' AND d.step_uuid = $1::uuid AND d.time >= $2))
		ORDER BY time, writer, writer_sequence LIMIT 1000`, stepUUID, since)
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("look for events of a step", err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[StepEvent])
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("look for events of a step", err))
	}
	return list, nil
}
