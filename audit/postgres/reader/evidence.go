package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// What a Reader gives a pack of evidence beside the log itself. All of it is of
// the reader's moment. The statements are in plain SQL, so that a reviewer runs
// them again with psql.

// Identity names the database: the system identifier of its cluster and
// its name; who reads it, the version of its schema, and the time of its clock.
type Identity struct {
	System string
	Name   string
	User   string
	Schema int64
	Now    time.Time
}

const identitySQL = `SELECT (SELECT system_identifier FROM pg_control_system())::text, current_database()::text, session_user::text, now()`

// Identity asks for it.
func (r *Reader) Identity(ctx context.Context) (Identity, error) {
	var i Identity
	if err := r.tx.QueryRow(ctx, identitySQL).Scan(&i.System, &i.Name, &i.User, &i.Now); err != nil {
		return Identity{}, r.explain("name the database", err)
	}
	var err error
	if i.Schema, err = database.Version(ctx, r.tx); err != nil {
		return Identity{}, err
	}
	return i, nil
}

// Coverage is what of a period is sealed.
type Coverage struct {
	Events   int64 // in the period
	Unsealed int64 // of these, without a leaf
	Last     int64 // the highest leaf of the others; -1: none
}

const coverageSQL = `SELECT count(*), count(*) FILTER (WHERE l.index IS NULL), coalesce(max(l.index), -1)
FROM audit.events e
LEFT JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
WHERE e.time >= $1 AND e.time < $2`

// Coverage counts the events of a period. It has to be called before Walk and
// WalkTo, which settle how statements are planned.
func (r *Reader) Coverage(ctx context.Context, from, to time.Time) (Coverage, error) {
	var c Coverage
	err := r.tx.QueryRow(ctx, coverageSQL, from, to).Scan(&c.Events, &c.Unsealed, &c.Last)
	return c, r.explain("read the period", err)
}

const (
	checkpointSQL      = `SELECT note FROM audit.checkpoints WHERE size >= $1 ORDER BY size, number`
	checkpointSinceSQL = `SELECT note FROM audit.checkpoints WHERE time >= $1 ORDER BY number`
)

// CheckpointOf gives the first checkpoint of at least this size that a key of the log
// signed, or a trusted one (see Trust); where none did, the first; nil where there is
// none.
func (r *Reader) CheckpointOf(ctx context.Context, size int64) ([]byte, error) {
	return r.oneNote(ctx, checkpointSQL, size)
}

// CheckpointSince gives the first checkpoint that was signed at a time or later, by
// such a key as CheckpointOf; nil where there is none.
func (r *Reader) CheckpointSince(ctx context.Context, t time.Time) ([]byte, error) {
	return r.oneNote(ctx, checkpointSinceSQL, t)
}

func (r *Reader) oneNote(ctx context.Context, sql string, argument any) ([]byte, error) {
	note, _, err := r.firstSigned(ctx, sql, argument)
	return note, r.explain("look for a checkpoint", err)
}

const countDecisionsSQL = `SELECT count(*)
FROM audit.events e
WHERE e.kind = 'decision' AND e.time >= $1 AND e.time < $2
  AND (cardinality($4::text[]) = 0 OR e.repository = ANY ($4) OR e.repository_uuid::text = ANY ($4))
  AND EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence AND l.index < $3)`

// CountDecisions counts the decisions of a period that have a leaf below size, of
// these repositories (full names or UUIDs; none: all), by their columns.
func (r *Reader) CountDecisions(ctx context.Context, from, to time.Time, size int64, repositories []string) (int64, error) {
	if repositories == nil {
		repositories = []string{}
	}
	if err := r.settlePlans(ctx); err != nil {
		return 0, r.explain("count decisions", err)
	}
	var n int64
	err := r.tx.QueryRow(ctx, countDecisionsSQL, from, to, size, repositories).Scan(&n)
	return n, r.explain("count decisions", err)
}

// settlePlans keeps a million decisions from being joined with all leaves: they come
// by the index of their times, and each looks its leaf up.
func (r *Reader) settlePlans(ctx context.Context) error {
	_, err := r.tx.Exec(ctx, "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = off; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0")
	return err
}

const retentionAfterSQL = `SELECT coalesce(max(l.index), -1) FROM audit.events e
JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
WHERE e.kind = 'retention' AND e.writer = 'database' AND l.index >= $1`

// RetentionAfter gives the size of the first checkpoint that covers all retention
// events whose leaf is at this index or later; 0 where there are none, or none
// covers them yet.
func (r *Reader) RetentionAfter(ctx context.Context, leaf int64) (int64, error) {
	var last int64
	if err := r.tx.QueryRow(ctx, retentionAfterSQL, leaf).Scan(&last); err != nil || last < 0 {
		return 0, r.explain("look for retention", err)
	}
	note, err := r.CheckpointOf(ctx, last+1)
	if note == nil || err != nil {
		return 0, err
	}
	c, err := audit.ReadCheckpoint(note)
	if err != nil {
		return 0, fmt.Errorf("look for retention: %w: the checkpoint behind leaf %d: %v", auditpg.ErrDamaged, last, err)
	}
	return c.Size, nil
}

// findingsSQL makes the lines that audit.reconciliation_digest is of.
const findingsSQL = `SELECT line FROM (
    SELECT jsonb_build_array('scan', workspace_uuid, repository_uuid, scanned_at, complete_until, requests, runs, in_order, whole,
                             repository, outcome, detail)::text AS line
    FROM audit.reconciliation_scans WHERE reconciliation = $1
    UNION ALL
    SELECT jsonb_build_array('finding', deployment_run_uuid, repository_uuid, workspace_uuid, deployment_uuid, pipeline_uuid, step_uuid,
                             build_number, found_at, created_at, started_at, completed_at, state, class, detail)::text
    FROM audit.deployment_findings WHERE reconciliation = $1
) lines ORDER BY line COLLATE "C"`

// Findings gives what a reconciliation, by its bare UUID, has added to
// audit.reconciliation_scans and audit.deployment_findings: a JSON array for each
// row, in the order of their bytes. The SHA-256 of these, with a line feed between
// them, is what audit.reconciliation_digest gives.
func (r *Reader) Findings(ctx context.Context, reconciliation string) ([]string, error) {
	if _, err := r.tx.Exec(ctx, "SET LOCAL timezone = 'UTC'"); err != nil {
		return nil, r.explain("read findings", err)
	}
	rows, err := r.tx.Query(ctx, findingsSQL, reconciliation)
	if err != nil {
		return nil, r.explain("read findings", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	return list, r.explain("read findings", err)
}

const policyContentSQL = `SELECT content FROM audit.policies WHERE digest = $1`

// PolicyContent gives the content of a policy by its digest; nil where the log does
// not hold it.
func (r *Reader) PolicyContent(ctx context.Context, digest string) ([]byte, error) {
	var content []byte
	err := r.tx.QueryRow(ctx, policyContentSQL, digest).Scan(&content)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return content, r.explain("read a policy", err)
}

// Statement is one of the statements that the methods above run.
type Statement struct {
	Name       string
	SQL        string
	Parameters []string
}

// EvidenceStatements are those behind the methods that a pack is made with.
func EvidenceStatements() []Statement {
	list := []Statement{
		{"database", identitySQL, nil},
		{"what of the period is sealed", coverageSQL, []string{"from", "to"}},
		{"numbers that are not sealed", unsealedRunsSQL, []string{"from", "to"}},
		{"next numbers", nextNumbersSQL, []string{"writers", "their numbers"}},
		{"checkpoint of at least a size", checkpointSQL, []string{"size"}},
		{"sizes of checkpoints that have proofs", checkpointSizesSQL, []string{"before", "hourly from"}},
		{"first checkpoint since", checkpointSinceSQL, []string{"time"}},
		{"decisions of the period", countDecisionsSQL, []string{"from", "to", "checkpoint_size", "repositories"}},
		{"leaves", leavesSQL, []string{"after", "how many at once"}},
		{"events of leaves", rowsSQL, []string{"writers", "from their numbers", "to their numbers"}},
		{"retention after the checkpoint", retentionAfterSQL, []string{"checkpoint_size"}},
		{"findings of a reconciliation (SET timezone = 'UTC' before)", findingsSQL, []string{"reconciliation"}},
		{"policy", policyContentSQL, []string{"revision"}},
	}
	for _, q := range accessQueries {
		list = append(list, Statement{"now: " + q.title, q.sql, []string{"from", "to"}})
	}
	return list
}
