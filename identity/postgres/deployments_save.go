package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
)

// Save adds findings and looks, in one transaction that is durable when it
// returns. One that cannot be kept fails the whole call, before anything is
// written. After an error the session is of no more use where the database said
// nothing of the outcome.
func (r *Reconciliation) Save(ctx context.Context, reconciliation string, findings []identity.DeploymentFinding, looks []identity.DeploymentLook) error {
	if !isUUID(reconciliation) {
		return fmt.Errorf("identity store: save findings: the reconciliation %q is no UUID", reconciliation)
	}
	for i := range findings {
		if err := checkFinding(&findings[i]); err != nil {
			return fmt.Errorf("identity store: save what was found of deployment %q: %w", findings[i].UUID, err)
		}
	}
	for i := range looks {
		if err := checkLook(&looks[i]); err != nil {
			return fmt.Errorf("identity store: save a look at repository %q: %w", looks[i].RepositoryUUID, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return r.wrong("save findings", pgx.BeginFunc(ctx, r.conn, func(tx pgx.Tx) error {
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
				orNull(f.BuildNumber), stamp(f.Found), orNever(f.Created), orNever(f.Started), orNever(f.Completed),
				string(f.State), string(f.Coverage), f.Detail}, nil
		}))
		if err != nil {
			return err
		}
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"audit", "reconciliation_scans"}, []string{
			"reconciliation", "workspace_uuid", "repository_uuid", "scanned_at", "complete_until", "requests", "runs", "in_order", "whole",
			"repository", "outcome", "detail",
		}, pgx.CopyFromSlice(len(looks), func(i int) ([]any, error) {
			l := &looks[i]
			return []any{reconciliation, l.WorkspaceUUID, l.RepositoryUUID, stamp(l.Began), orNever(l.Until), int32(l.Requests), int32(l.Runs),
				l.InOrder, l.Whole, l.Repository, string(l.Outcome), l.Detail}, nil
		}))
		return err
	}))
}

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
	return stamp(t)
}

func checkFinding(f *identity.DeploymentFinding) error {
	for _, uuid := range []string{f.UUID, f.RepositoryUUID, f.WorkspaceUUID} {
		if !isUUID(uuid) {
			return fmt.Errorf("%q is not a bare lower-case UUID", uuid)
		}
	}
	for _, uuid := range []string{f.DeploymentUUID, f.PipelineUUID, f.StepUUID} {
		if uuid != "" && !isUUID(uuid) {
			return fmt.Errorf("%q is not a bare lower-case UUID", uuid)
		}
	}
	if f.BuildNumber < 0 || !isText(f.Detail, maxText) || f.Found.IsZero() {
		return errors.New("its build number, its detail or its time cannot be kept")
	}
	return nil
}

func checkLook(l *identity.DeploymentLook) error {
	switch {
	case !isUUID(l.RepositoryUUID) || !isUUID(l.WorkspaceUUID):
		return errors.New("a UUID of it is not bare and lower-case")
	case !isText(l.Repository, maxText) || !isText(l.Detail, maxText):
		return errors.New("its name or its detail cannot be kept")
	case l.Began.IsZero() || l.Outcome.Told() != !l.Until.IsZero():
		return errors.New("its times do not fit its outcome")
	}
	return nil
}
