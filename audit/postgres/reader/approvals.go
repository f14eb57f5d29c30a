package reader

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/internal/database"
)

// UnapprovedCommit is a commit of the policy that began to decide and has no event of
// kind policy_approval.
type UnapprovedCommit struct {
	Commit, Revision string
	At               time.Time // of the first activation since
	Commits          string    // that came with it, separated by spaces; empty: not known
	More             bool      // there are more of them
}

// maxUnapproved bounds what is listed at once.
const maxUnapproved = 100

// unapprovedSQL goes by the index on kinds. Of several activations of a commit the one
// that brought most counts: an instance that was behind for a while brought more.
const unapprovedSQL = `SELECT e.commit, min(e.revision), min(e.time), (array_agg(e.commits ORDER BY length(e.commits) DESC))[1], bool_or(e.more)
  FROM (SELECT commit, revision, time, coalesce(a ->> 'commits', '') AS commits, coalesce(a ->> 'more_commits', '') = 'true' AS more
          FROM (SELECT l.commit, l.revision, l.time, convert_from(l.record, 'UTF8')::json -> 'attributes' AS a
                  FROM audit.events l WHERE l.kind = 'policy_loaded' AND l.time >= $1 AND l.commit IS NOT NULL) l) e
 WHERE NOT EXISTS (SELECT FROM audit.events p WHERE p.kind = 'policy_approval' AND p.commit = e.commit)
 GROUP BY e.commit ORDER BY min(e.time), e.commit LIMIT $2`

// Approvals reads which activated commits have no approval recorded. It is safe for
// concurrent use.
type Approvals struct {
	pool    *pgxpool.Pool
	timeout time.Duration
}

// OpenApprovals connects to the log's database, as a role that may read it. ctx bounds
// opening alone.
func OpenApprovals(ctx context.Context, databaseURL string) (*Approvals, error) {
	pool, err := database.NewPool(ctx, databaseURL, "sallyport approvals", 1)
	if err != nil {
		return nil, fmt.Errorf("read approvals: %w", err)
	}
	return &Approvals{pool, 30 * time.Second}, nil
}

// Close ends the connections.
func (a *Approvals) Close() { a.pool.Close() }

// Unapproved lists the commits that were activated since, the oldest first, at most a
// hundred.
func (a *Approvals) Unapproved(ctx context.Context, since time.Time) ([]UnapprovedCommit, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	rows, err := a.pool.Query(ctx, unapprovedSQL, since, maxUnapproved)
	if err == nil {
		var list []UnapprovedCommit
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[UnapprovedCommit]); err == nil {
			return list, nil
		}
	}
	return nil, database.Explain("read approvals", &a.pool.Config().ConnConfig.Config, err)
}
