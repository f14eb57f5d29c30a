package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

// SavePipelines keeps what is known of pipelines, where it is newer than what is
// there; the view audit.decisions shows it. It returns when that is written, and
// may be repeated. One that cannot be stored fails the whole call, before anything
// is written.
func (s *Store) SavePipelines(ctx context.Context, pipelines []identity.Pipeline) error {
	sorted := slices.Clone(pipelines)
	for i := range sorted {
		if err := checkPipeline(&sorted[i]); err != nil {
			return fmt.Errorf("identity store: save pipeline %q: %w", sorted[i].PipelineUUID, err)
		}
	}
	// The latest of each, in everybody's order of the keys.
	slices.SortFunc(sorted, func(a, b identity.Pipeline) int {
		return cmp.Or(cmp.Compare(a.PipelineUUID, b.PipelineUUID), cmp.Compare(a.RepositoryUUID, b.RepositoryUUID), b.FetchedAt.Compare(a.FetchedAt))
	})
	sorted = slices.CompactFunc(sorted, func(a, b identity.Pipeline) bool {
		return a.PipelineUUID == b.PipelineUUID && a.RepositoryUUID == b.RepositoryUUID
	})
	for chunk := range slices.Chunk(sorted, 1000) {
		if err := s.savePipelines(ctx, chunk); err != nil {
			return fmt.Errorf("identity store: %w", s.explain("save pipelines", err))
		}
	}
	return nil
}

// checkPipeline returns what keeps a pipeline from being stored.
func checkPipeline(p *identity.Pipeline) error {
	switch {
	case !uuid.IsCanonical(p.PipelineUUID) || !uuid.IsCanonical(p.RepositoryUUID) || p.CreatorUUID != "" && !uuid.IsCanonical(p.CreatorUUID):
		return errors.New("a UUID of it is not bare and lower-case")
	case p.BuildNumber < 0:
		return fmt.Errorf("its build number is %d", p.BuildNumber)
	case !database.IsText(p.Creator, maxText):
		return fmt.Errorf("its creator has more than %d bytes, or is not text", maxText)
	case p.FetchedAt.IsZero():
		return errors.New("it was never fetched")
	}
	return nil
}

func (s *Store) savePipelines(ctx context.Context, chunk []identity.Pipeline) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	n := len(chunk)
	pipelines, repositories, creators, names := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	numbers, fetched := make([]int64, n), make([]time.Time, n)
	for i, p := range chunk {
		pipelines[i], repositories[i], creators[i], names[i] = p.PipelineUUID, p.RepositoryUUID, p.CreatorUUID, p.Creator
		numbers[i], fetched[i] = p.BuildNumber, database.Timestamp(p.FetchedAt)
	}
	_, err := s.pool.Exec(ctx, `
		INSERT INTO identity.pipelines AS p (pipeline_uuid, repository_uuid, creator_uuid, creator, build_number, fetched_at)
		SELECT pipeline_uuid, repository_uuid, nullif(creator_uuid, '')::uuid, nullif(creator, ''), nullif(build_number, 0), fetched_at
		FROM unnest($1::text[]::uuid[], $2::text[]::uuid[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[])
		     AS a (pipeline_uuid, repository_uuid, creator_uuid, creator, build_number, fetched_at)
		ORDER BY pipeline_uuid, repository_uuid
		ON CONFLICT (pipeline_uuid, repository_uuid) DO UPDATE
		SET creator_uuid = excluded.creator_uuid, creator = excluded.creator, build_number = excluded.build_number, fetched_at = excluded.fetched_at
		WHERE p.fetched_at < excluded.fetched_at`,
		pipelines, repositories, creators, names, numbers, fetched)
	return err
}

// UnknownPipelines returns pipelines that a decision was made upon since a time
// and of which nothing was saved yet, the latest first and at most limit.
func (s *Store) UnknownPipelines(ctx context.Context, since time.Time, limit int) ([]identity.PipelineID, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT e.workspace_uuid::text, e.repository_uuid::text, e.pipeline_uuid::text
		FROM audit.events e
		WHERE e.kind = 'decision' AND e.time >= $1
		  AND e.workspace_uuid IS NOT NULL AND e.repository_uuid IS NOT NULL AND e.pipeline_uuid IS NOT NULL
		  AND NOT EXISTS (SELECT FROM identity.pipelines p WHERE p.pipeline_uuid = e.pipeline_uuid AND p.repository_uuid = e.repository_uuid)
		GROUP BY e.workspace_uuid, e.repository_uuid, e.pipeline_uuid
		ORDER BY max(e.time) DESC LIMIT $2`, since, limit)
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("look for pipelines", err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[identity.PipelineID])
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("look for pipelines", err))
	}
	return list, nil
}
