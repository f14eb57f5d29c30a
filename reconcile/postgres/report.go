package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
)

// Report lists what reconciliations found about the deployments of a period. Its JSON
// is for programs, so fields are only added.
type Report struct {
	Since        time.Time                        `json:"since"`
	Until        time.Time                        `json:"until"` // when it was asked
	Counts       map[identity.DeploymentClass]int `json:"deployments"`
	Runs         []Run                            `json:"unobserved_or_unknown"` // the missing and the unknown ones
	Repositories []Repository                     `json:"repositories"`
	// Reconciliations is how many the log names, Changed of which the rows are not
	// what they were then, Unrecorded those that no event names yet. Of these
	// Foreign are a day old: rows that another session added.
	Reconciliations int      `json:"reconciliations"`
	Changed         []string `json:"changed"`
	Unrecorded      []string `json:"unrecorded"`
	Foreign         []string `json:"foreign"`
}

// Run is one run of a deployment.
type Run struct {
	Class             string    `json:"class"`
	Began             time.Time `json:"began"`
	State             string    `json:"state"`
	Repository        string    `json:"repository"`
	Deployment        string    `json:"deployment"`
	BuildNumber       int64     `json:"build_number"`
	Detail            string    `json:"detail"`
	RepositoryUUID    string    `json:"repository_uuid"`
	PipelineUUID      string    `json:"pipeline_uuid"`
	StepUUID          string    `json:"step_uuid"`
	DeploymentRunUUID string    `json:"deployment_run_uuid"`
}

// Repository is how far a repository was checked. A time that is not
// known is the zero one.
type Repository struct {
	Repository     string    `json:"repository"`
	RepositoryUUID string    `json:"repository_uuid"`
	Outcome        string    `json:"outcome"`
	Scanned        time.Time `json:"last_scanned_at"`
	Until          time.Time `json:"complete_until"`
	Detail         string    `json:"detail"`
}

// Unclear reports whether a class of the period is unknown.
func (r *Report) Unclear() bool {
	if r.Reconciliations == 0 || len(r.Changed)+len(r.Foreign) > 0 || r.Counts[identity.ClassUnknown] > 0 {
		return true
	}
	for _, l := range r.Repositories {
		if l.Unclear() {
			return true
		}
	}
	return false
}

// Unclear reports whether not all of the repository's deployments up to the latest
// look are known. One that is gone is not unclear: its deployments are judged by
// themselves. One that had to wait is known up to its time.
func (l *Repository) Unclear() bool {
	switch identity.ScanOutcome(l.Outcome) {
	case identity.ScanGone:
		return false
	case identity.ScanPartial, identity.ScanForbidden:
		return true
	}
	return l.Until.IsZero()
}

// Missing reports whether a deployment did not come through.
func (r *Report) Missing() bool {
	return r.Counts[identity.ClassUnobserved]+r.Counts[identity.ClassPipelineOnly] > 0
}

// ReadReport reads what was found of deployments that began since a time, with
// any login that may read the log.
func ReadReport(ctx context.Context, url string, since time.Time) (*Report, error) {
	config, err := database.ParseConfig(url, "sallyport audit reconciliation")
	if err != nil {
		return nil, err
	}
	conn, err := database.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	version, err := database.Version(ctx, conn)
	if err != nil {
		return nil, err
	}
	if version < schemaNeeded {
		return nil, fmt.Errorf("the database's schema is version %d, and reconciliation needs %d; run `sallyport migrate`", version, schemaNeeded)
	}
	r := &Report{Since: since.UTC(), Counts: map[identity.DeploymentClass]int{}, Runs: []Run{}, Repositories: []Repository{},
		Changed: []string{}, Unrecorded: []string{}, Foreign: []string{}}
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		for _, read := range []func(context.Context, pgx.Tx) error{r.readRuns, r.readRepositories, r.readReconciliations} {
			if err := read(ctx, tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, database.Explain("read what was found of deployments", &config.Config, err)
	}
	return r, nil
}

func (r *Report) readRuns(ctx context.Context, tx pgx.Tx) error {
	if err := tx.QueryRow(ctx, "SELECT now()").Scan(&r.Until); err != nil {
		return err
	}
	r.Until = r.Until.UTC()
	rows, err := tx.Query(ctx, `SELECT class, count(*) FROM audit.deployment_reconciliation WHERE coalesce(began, found_at) >= $1 GROUP BY class`, r.Since)
	if err != nil {
		return err
	}
	var class identity.DeploymentClass
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&class, &n}, func() error {
		r.Counts[class] = n
		return nil
	}); err != nil {
		return err
	}
	if rows, err = tx.Query(ctx, `
		SELECT class, coalesce(began, found_at), state, coalesce(repository, ''), coalesce(deployment, ''), coalesce(build_number, 0), detail,
		       repository_uuid::text, coalesce(pipeline_uuid::text, ''), coalesce(step_uuid::text, ''), deployment_run_uuid::text
		FROM audit.deployment_reconciliation
		WHERE coalesce(began, found_at) >= $1 AND class IN ('unobserved', 'pipeline_only', 'unknown')
		ORDER BY 2, deployment_run_uuid`, r.Since); err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Run])
	if err != nil {
		return err
	}
	for i := range list {
		list[i].Began = list[i].Began.UTC()
	}
	r.Runs = append(r.Runs, list...)
	return nil
}

func (r *Report) readRepositories(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT repository, repository_uuid::text, outcome, last_scanned_at, complete_until, detail
		FROM audit.reconciliations ORDER BY repository, repository_uuid`)
	if err != nil {
		return err
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Repository, error) {
		var l Repository
		var scanned, until *time.Time
		err := row.Scan(&l.Repository, &l.RepositoryUUID, &l.Outcome, &scanned, &until, &l.Detail)
		l.Scanned, l.Until = orZero(scanned).UTC(), orZero(until).UTC()
		return l, err
	})
	r.Repositories = append(r.Repositories, list...)
	return err
}

// readReconciliations holds what was found against the digests in the log.
func (r *Report) readReconciliations(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
		WITH recorded AS (
			SELECT a ->> 'reconciliation' AS id, a ->> 'digest' AS digest
			FROM (SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS a FROM audit.events
			      WHERE kind = 'reconciled' AND kind NOT IN ('decision', 'tunnel_closed', 'request_closed') AND time >= $1) e
			WHERE a ->> 'reconciliation' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
		)
		SELECT id, CASE WHEN encode(audit.reconciliation_digest(id::uuid), 'hex') = digest THEN 'same' ELSE 'changed' END FROM recorded
		UNION ALL
		SELECT l.reconciliation::text, CASE WHEN max(l.at) < now() - interval '1 day' THEN 'foreign' ELSE 'unrecorded' END
		FROM (SELECT reconciliation, scanned_at AS at FROM audit.reconciliation_scans WHERE scanned_at >= $1
		      UNION ALL SELECT reconciliation, found_at FROM audit.deployment_findings WHERE found_at >= $1) l
		WHERE NOT EXISTS (SELECT FROM recorded WHERE id = l.reconciliation::text)
		GROUP BY l.reconciliation
		ORDER BY 1`, r.Since)
	if err != nil {
		return err
	}
	var id, what string
	_, err = pgx.ForEachRow(rows, []any{&id, &what}, func() error {
		switch what {
		case "unrecorded":
			r.Unrecorded = append(r.Unrecorded, id)
			return nil
		case "foreign":
			r.Foreign = append(r.Foreign, id)
			return nil
		case "changed":
			r.Changed = append(r.Changed, id)
		}
		r.Reconciliations++
		return nil
	})
	return err
}
