// Package postgres stores what a reconciliation finds in the audit database, under a
// lock that one instance holds at a time, and reads it for reports.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

const (
	schemaNeeded = 7
	closeTimeout = 5 * time.Second // to release the lock
	writeTimeout = 10 * time.Second
	observedLead = time.Hour      // Bitbucket's clock may be behind ours, and a token is used before a run is noted
	observedTail = 48 * time.Hour // a journal may bring what was recorded while the database was unavailable
)

// errLockLost is the error of a write by a session that does not hold the lock of
// reconciliation any more.
var errLockLost = errors.New("the lock of reconciliation is lost: another session holds it")

// Session is the connection that holds the lock of reconciliation, reads the log and
// makes every write. One goroutine uses it.
type Session struct {
	conn   *pgx.Conn
	config *pgx.ConnConfig
}

// Open connects to the database of url and acquires the lock of reconciliation, without
// waiting. Where another session holds the lock the error is an
// [identity.ReconciliationBusy], which names that session. The result must be closed.
func Open(ctx context.Context, url string) (_ *Session, err error) {
	config, err := database.ParseConfig(url, "sallyport reconciliation")
	if err != nil {
		return nil, fmt.Errorf("reconciliation: %w", err)
	}
	conn, err := database.Connect(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("reconciliation: %w", err)
	}
	s := &Session{conn, config}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	version, err := database.Version(ctx, conn)
	if err != nil {
		return nil, fmt.Errorf("reconciliation: %w", err)
	}
	if version < schemaNeeded {
		return nil, fmt.Errorf("reconciliation: the database's schema is version %d, and reconciliation needs %d; run `sallyport migrate`", version, schemaNeeded)
	}
	var mine bool
	var holder *string
	var since *time.Time
	if err := conn.QueryRow(ctx, "SELECT acquired, holder, since FROM audit.try_reconciliation_lock()").Scan(&mine, &holder, &since); err != nil {
		return nil, s.explain("acquire the lock of reconciliation", err)
	}
	if !mine {
		busy := &identity.ReconciliationBusy{Since: orZero(since)}
		if holder != nil {
			busy.Holder = *holder
		}
		return nil, busy
	}
	return s, s.explain("settle the session", database.Durable(ctx, conn.PgConn()))
}

// Close releases the lock and ends the connection.
func (s *Session) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	// The end of a connection is noticed some time later by the database.
	_, _ = s.conn.Exec(ctx, "SELECT audit.release_reconciliation_lock()")
	_ = s.conn.Close(ctx)
}

func (s *Session) explain(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reconciliation: %w", database.Explain(operation, &s.config.Config, err))
}

// Began returns when the log begins; zero: it is empty. What was deployed before
// cannot be in it.
func (s *Session) Began(ctx context.Context) (time.Time, error) {
	var began *time.Time
	err := s.conn.QueryRow(ctx, "SELECT min(time) FROM audit.events").Scan(&began)
	if err != nil || began == nil {
		return time.Time{}, s.explain("ask when the log begins", err)
	}
	return *began, nil
}

// Latest returns the latest reconciliation of a workspace that noted a look;
// empty: none.
func (s *Session) Latest(ctx context.Context, workspaceUUID string) (string, error) {
	var id string
	err := s.conn.QueryRow(ctx, "SELECT reconciliation::text FROM audit.reconciliation_scans WHERE workspace_uuid = $1::uuid ORDER BY reconciliation DESC LIMIT 1",
		workspaceUUID).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	return id, s.explain("ask for the latest reconciliation", err)
}

// ScanState returns what is known of the workspace's repositories from scans before.
func (s *Session) ScanStates(ctx context.Context, workspaceUUID string) ([]identity.ScanState, error) {
	rows, err := s.conn.Query(ctx, `
		SELECT l.repository_uuid::text, l.repository, l.outcome, a.scanned_at,
		       (SELECT count(*) FROM identity.deployments n WHERE n.repository_uuid = l.repository_uuid AND n.valid_to IS NULL)
		FROM (
			SELECT DISTINCT ON (repository_uuid) repository_uuid, repository, outcome
			FROM audit.reconciliation_scans WHERE workspace_uuid = $1::uuid
			ORDER BY repository_uuid, scanned_at DESC, reconciliation DESC
		) l
		CROSS JOIN LATERAL (
			SELECT max(scanned_at) FILTER (WHERE outcome NOT IN ('gone', 'not_scanned')) AS scanned_at
			FROM audit.reconciliation_scans WHERE repository_uuid = l.repository_uuid
		) a`, workspaceUUID)
	if err != nil {
		return nil, s.explain("ask for looks", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.ScanState, error) {
		var l identity.ScanState
		var at *time.Time
		err := row.Scan(&l.RepositoryUUID, &l.Repository, &l.Latest, &at, &l.Deployments)
		l.At = orZero(at)
		return l, err
	})
	return list, s.explain("ask for looks", err)
}

// Environments returns how many deployment environments each repository of a
// workspace has, as far as is known, by its UUID.
func (s *Session) Environments(ctx context.Context, workspaceUUID string) (map[string]int, error) {
	rows, err := s.conn.Query(ctx, `SELECT repository_uuid::text, count(*) FROM identity.deployments
		WHERE workspace_uuid = $1::uuid AND valid_to IS NULL GROUP BY repository_uuid`, workspaceUUID)
	if err != nil {
		return nil, s.explain("ask for environments", err)
	}
	counts := map[string]int{}
	var uuid string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&uuid, &n}, func() error {
		counts[uuid] = n
		return nil
	})
	return counts, s.explain("ask for environments", err)
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// Findings returns the latest finding of every run of a repository's deployments
// that began since a time.
func (s *Session) Findings(ctx context.Context, repositoryUUID string, since time.Time) ([]identity.DeploymentFinding, error) {
	rows, err := s.conn.Query(ctx, latestFindings+` WHERE f.began >= $2`, repositoryUUID, since)
	if err != nil {
		return nil, s.explain("ask for findings", err)
	}
	list, err := pgx.CollectRows(rows, scanFinding)
	return list, s.explain("ask for findings", err)
}

const latestFindings = `
	SELECT f.deployment_run_uuid::text, f.workspace_uuid::text, f.repository_uuid::text,
	       coalesce(f.deployment_uuid::text, ''), coalesce(f.pipeline_uuid::text, ''), coalesce(f.step_uuid::text, ''), coalesce(f.build_number, 0),
	       f.state, f.class, f.detail, f.created_at, f.started_at, f.completed_at, f.found_at, f.reconciliation::text
	FROM (
		SELECT DISTINCT ON (repository_uuid, deployment_run_uuid) *, coalesce(started_at, created_at, found_at) AS began
		FROM audit.deployment_findings WHERE repository_uuid = $1::uuid OR $1 IS NULL
		ORDER BY repository_uuid, deployment_run_uuid, found_at DESC
	) f`

func scanFinding(row pgx.CollectableRow) (identity.DeploymentFinding, error) {
	var f identity.DeploymentFinding
	var created, started, completed *time.Time
	err := row.Scan(&f.UUID, &f.WorkspaceUUID, &f.RepositoryUUID, &f.DeploymentUUID, &f.PipelineUUID, &f.StepUUID, &f.BuildNumber,
		&f.State, &f.Class, &f.Detail, &created, &started, &completed, &f.Found, &f.Reconciliation)
	f.Created, f.Started, f.Completed = orZero(created), orZero(started), orZero(completed)
	return f, err
}

// ObservedSteps returns which steps of these runs, and of their pipelines, are in the log:
// by a decision, or by a token that was admitted. The runs are of one repository.
func (s *Session) ObservedSteps(ctx context.Context, repositoryUUID string, runs []identity.DeploymentRun) ([]identity.ObservedStep, error) {
	var steps, pipelines []string
	var from, to time.Time
	for _, run := range runs {
		if run.StepUUID != "" {
			steps = append(steps, run.StepUUID)
		}
		if run.PipelineUUID != "" {
			pipelines = append(pipelines, run.PipelineUUID)
		}
		if first := run.Began(); from.IsZero() || first.Before(from) {
			from = first
		}
		last := run.Latest()
		if !run.State.Over() {
			last = time.Now()
		}
		if last.After(to) {
			to = last
		}
	}
	if len(steps)+len(pipelines) == 0 {
		return nil, nil
	}
	rows, err := s.conn.Query(ctx, `
		SELECT DISTINCT coalesce(step_uuid::text, ''), coalesce(pipeline_uuid::text, ''), coalesce(deployment_uuid::text, '')
		FROM audit.events
		WHERE kind = 'decision' AND repository_uuid = $1::uuid AND time BETWEEN $2 AND $3
		  AND (step_uuid = ANY ($4::text[]::uuid[]) OR pipeline_uuid = ANY ($5::text[]::uuid[]))
		UNION
		SELECT step_uuid::text, '', '' FROM identity.admitted_tokens
		WHERE repository_uuid = $1::uuid AND step_uuid = ANY ($4::text[]::uuid[])`,
		repositoryUUID, from.Add(-observedLead), to.Add(observedTail), steps, pipelines)
	if err != nil {
		return nil, s.explain("look for steps in the log", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[identity.ObservedStep])
	return list, s.explain("look for steps in the log", err)
}

// LastSuccess returns when the latest reconciliation of a workspace began that was
// whole, of those before a time; zero: none was. It reads the events of kind reconciled.
func (s *Session) LastSuccess(ctx context.Context, workspaceUUID string, before time.Time) (time.Time, error) {
	var at *time.Time
	err := s.conn.QueryRow(ctx, `SELECT max((a ->> 'until')::timestamptz)
		FROM (SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS a FROM audit.events
		      WHERE kind = 'reconciled' AND kind NOT IN ('decision', 'tunnel_closed', 'request_closed') AND workspace_uuid = $1::uuid) e
		WHERE a ->> 'outcome' = 'whole' AND (a ->> 'until')::timestamptz <= $2`, workspaceUUID, before).Scan(&at)
	return orZero(at), s.explain("ask for the latest whole reconciliation", err)
}

// Counts returns how many runs of a workspace's deployments that began since a
// time are of each class.
func (s *Session) Counts(ctx context.Context, workspaceUUID string, since time.Time) (map[identity.DeploymentClass]int, error) {
	rows, err := s.conn.Query(ctx, `SELECT class, count(*) FROM audit.deployment_reconciliation
		WHERE workspace_uuid = $1::uuid AND coalesce(began, found_at) >= $2 GROUP BY class`, workspaceUUID, since)
	if err != nil {
		return nil, s.explain("count deployments", err)
	}
	counts := map[identity.DeploymentClass]int{}
	var class identity.DeploymentClass
	var n int
	_, err = pgx.ForEachRow(rows, []any{&class, &n}, func() error {
		counts[class] = n
		return nil
	})
	return counts, s.explain("count deployments", err)
}

// Unrecorded returns what was found since a time and is in no event yet:
// reconciliations that no event of kind reconciled names, and missing runs that
// no event of kind deployment_unobserved names. The first are by their workspace.
func (s *Session) Unrecorded(ctx context.Context, since time.Time) (reconciliations map[string]string, missing []identity.DeploymentFinding, err error) {
	recorded, err := s.named(ctx, "reconciled", "reconciliation", since)
	if err != nil {
		return nil, nil, err
	}
	rows, err := s.conn.Query(ctx, `SELECT reconciliation::text, workspace_uuid::text FROM audit.reconciliation_scans WHERE scanned_at >= $1
		UNION SELECT reconciliation::text, workspace_uuid::text FROM audit.deployment_findings WHERE found_at >= $1`, since)
	if err != nil {
		return nil, nil, s.explain("look for reconciliations", err)
	}
	reconciliations = map[string]string{}
	var id, workspace string
	if _, err = pgx.ForEachRow(rows, []any{&id, &workspace}, func() error {
		if !recorded[id] {
			reconciliations[id] = workspace
		}
		return nil
	}); err != nil {
		return nil, nil, s.explain("look for reconciliations", err)
	}

	if recorded, err = s.named(ctx, "deployment_unobserved", "deployment_run_uuid", since); err != nil {
		return nil, nil, err
	}
	if rows, err = s.conn.Query(ctx, latestFindings+` WHERE f.class IN ('unobserved', 'pipeline_only') AND f.found_at >= $2 ORDER BY f.began`, nil, since); err == nil {
		missing, err = pgx.CollectRows(rows, scanFinding)
	}
	if err != nil {
		return nil, nil, s.explain("look for missing deployments", err)
	}
	return reconciliations, slices.DeleteFunc(missing, func(f identity.DeploymentFinding) bool { return recorded[f.UUID] }), nil
}

// named returns the values of an attribute of the events of a kind.
func (s *Session) named(ctx context.Context, kind, attribute string, since time.Time) (map[string]bool, error) {
	rows, err := s.conn.Query(ctx, `SELECT coalesce(convert_from(record, 'UTF8')::json -> 'attributes' ->> $2, '') FROM audit.events
		WHERE kind = $1 AND kind NOT IN ('decision', 'tunnel_closed', 'request_closed') AND time >= $3`, kind, attribute, since)
	if err != nil {
		return nil, s.explain("look for events", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	set := make(map[string]bool, len(list))
	for _, id := range list {
		set[id] = true
	}
	return set, s.explain("look for events", err)
}

// Digest returns the digest of what a reconciliation added.
func (s *Session) Digest(ctx context.Context, reconciliation string) (digest []byte, err error) {
	err = s.conn.QueryRow(ctx, "SELECT audit.reconciliation_digest($1::uuid)", reconciliation).Scan(&digest)
	return digest, s.explain("digest a reconciliation", err)
}
