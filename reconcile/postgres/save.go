package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

// Save adds findings and scans, in one transaction that is durable when Save returns.
// A value that cannot be stored fails the whole call, before anything is written. After
// an error that leaves the outcome unknown the session must be closed.
func (s *Session) Save(ctx context.Context, reconciliation string, findings []identity.DeploymentFinding, scans []identity.RepositoryScan) error {
	if !uuid.IsCanonical(reconciliation) {
		return fmt.Errorf("reconciliation: save findings: the reconciliation %q is not a UUID", reconciliation)
	}
	for i := range findings {
		if err := checkFinding(&findings[i]); err != nil {
			return fmt.Errorf("reconciliation: save what was found of deployment %q: %w", findings[i].UUID, err)
		}
	}
	for i := range scans {
		if err := checkScan(&scans[i]); err != nil {
			return fmt.Errorf("reconciliation: save a scan of repository %q: %w", scans[i].RepositoryUUID, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return s.explain("save findings", pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		var mine bool
		if err := tx.QueryRow(ctx, "SELECT audit.confirm_reconciliation_lock()").Scan(&mine); err != nil {
			return err
		} else if !mine {
			return errLockLost
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"audit", "deployment_findings"}, []string{
			"deployment_run_uuid", "repository_uuid", "workspace_uuid", "reconciliation", "deployment_uuid", "pipeline_uuid", "step_uuid",
			"build_number", "found_at", "created_at", "started_at", "completed_at", "state", "class", "detail",
		}, pgx.CopyFromSlice(len(findings), func(i int) ([]any, error) {
			f := &findings[i]
			return []any{f.UUID, f.RepositoryUUID, f.WorkspaceUUID, reconciliation, orNull(f.DeploymentUUID), orNull(f.PipelineUUID), orNull(f.StepUUID),
				orNull(f.BuildNumber), database.Timestamp(f.Found), orNever(f.Created), orNever(f.Started), orNever(f.Completed),
				string(f.State), string(f.Class), f.Detail}, nil
		}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"audit", "reconciliation_scans"}, []string{
			"reconciliation", "workspace_uuid", "repository_uuid", "scanned_at", "complete_until", "requests", "runs", "in_order", "whole",
			"repository", "outcome", "detail",
		}, pgx.CopyFromSlice(len(scans), func(i int) ([]any, error) {
			l := &scans[i]
			return []any{reconciliation, l.WorkspaceUUID, l.RepositoryUUID, database.Timestamp(l.Began), orNever(l.Until), int32(l.Requests), int32(l.Runs),
				l.InOrder, l.Whole, l.Repository, string(l.Outcome), l.Detail}, nil
		}))
		return err
	}))
}

// maxText bounds a text that is stored, in bytes; the tables check the same.
const maxText = 1000

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func orNever(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return database.Timestamp(t)
}

func checkFinding(f *identity.DeploymentFinding) error {
	for _, id := range []string{f.UUID, f.RepositoryUUID, f.WorkspaceUUID} {
		if !uuid.IsCanonical(id) {
			return fmt.Errorf("%q is not a bare lower-case UUID", id)
		}
	}
	for _, id := range []string{f.DeploymentUUID, f.PipelineUUID, f.StepUUID} {
		if id != "" && !uuid.IsCanonical(id) {
			return fmt.Errorf("%q is not a bare lower-case UUID", id)
		}
	}
	if f.BuildNumber < 0 || !database.IsText(f.Detail, maxText) || f.Found.IsZero() {
		return errors.New("its build number, its detail or its time cannot be kept")
	}
	return nil
}

func checkScan(l *identity.RepositoryScan) error {
	switch {
	case !uuid.IsCanonical(l.RepositoryUUID) || !uuid.IsCanonical(l.WorkspaceUUID):
		return errors.New("a UUID of it is not bare and lower-case")
	case !database.IsText(l.Repository, maxText) || !database.IsText(l.Detail, maxText):
		return errors.New("its name or its detail cannot be kept")
	case l.Began.IsZero() || l.Outcome.Conclusive() != !l.Until.IsZero():
		return errors.New("its times do not fit its outcome")
	}
	return nil
}
