package sealer

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Status is a snapshot. It costs some memory reads.
func (s *Sealer) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	for _, p := range s.places {
		status.Places = append(status.Places, p.status())
	}
	return status
}

// note keeps the outcome of a pass for the status, and logs a change.
func (s *Sealer) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.status.Err
	s.status.Err = err
	if err == nil && !s.lockHolder.stalled {
		s.status.LastSuccess = time.Now()
	}
	switch {
	case err == nil && was != nil:
		s.log.Info("the audit log is sealed again", "size", s.status.Size)
	case err != nil && (was == nil || was.Error() != err.Error()):
		level := slog.LevelError
		if errors.Is(err, errKeyRotated) {
			level = slog.LevelWarn // an operator is at it
		}
		s.log.Log(context.Background(), level, "the audit log is not sealed", "error", err)
	}
}

// behind notes whether events wait to be sealed, and since when. unknown: not all
// writers were surveyed, so that this step alone does not show that none waits.
func (s *Sealer) behind(left, unknown bool, findings []string, blocked int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Findings, s.status.Blocked = findings, blocked
	if left = left || blocked > 0; left || !unknown {
		s.setUnsealed(left)
	}
}

func (s *Sealer) setUnsealed(left bool) {
	switch {
	case !left:
		s.status.UnsealedSince = time.Time{}
	case s.status.UnsealedSince.IsZero():
		s.status.UnsealedSince = time.Now()
	}
}

// behindAfterFailure determines whether events wait although a pass has failed,
// whatever made it fail. If the database does not report it, they count as waiting.
func (s *Sealer) behindAfterFailure(ctx context.Context) {
	v, err := s.unsealed(ctx)
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.setUnsealed(true)
		return
	}
	findings, blocked := s.writers.stuckOnes()
	s.behind(len(v.ready) > 0 || v.rest, false, findings, blocked)
	s.writers = newWriters()
}

// unsealed surveys what waits in a transaction of its own, as far as one pass goes.
// It uses nothing that was read before: the database may have been restored since.
func (s *Sealer) unsealed(ctx context.Context) (v survey, err error) {
	conn, err := s.session(ctx)
	if err != nil {
		return v, err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return v, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	s.writers = newWriters()
	for range maxPassSteps {
		if v, err = s.survey(ctx, tx); err != nil || len(v.ready) > 0 || !v.rest {
			break
		}
	}
	return v, err
}
