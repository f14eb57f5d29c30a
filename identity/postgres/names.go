package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
)

const maxNamesWaiting = 50_000

// LoadNames returns the name of everything in a workspace that has one now, the
// one that was fetched last at the end. No two in it bear the same name.
func (s *Store) LoadNames(ctx context.Context, workspaceUUID string) ([]identity.KnownName, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT 'repository' AS kind, repository_uuid::text, '' AS deployment_uuid,
		       workspace, repository, project, '' AS name, '' AS slug, '' AS type, fetched_at
		FROM identity.repositories WHERE workspace_uuid = $1::uuid AND valid_to IS NULL
		UNION ALL
		SELECT 'deployment', repository_uuid::text, deployment_uuid::text,
		       '', '', '', deployment_name, deployment, deployment_type, fetched_at
		FROM identity.deployments WHERE workspace_uuid = $1::uuid AND valid_to IS NULL
		ORDER BY fetched_at`, workspaceUUID)
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("load names", err))
	}
	names, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (identity.KnownName, error) {
		n := identity.KnownName{WorkspaceUUID: workspaceUUID}
		err := row.Scan(&n.Kind, &n.RepositoryUUID, &n.DeploymentUUID, &n.WorkspaceSlug, &n.FullName, &n.Project, &n.Name, &n.Slug, &n.Type, &n.FetchedAt)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("identity store: %w", s.explain("load names", err))
	}
	return names, nil
}

// SaveName puts a name into the backlog that Run writes, and returns at once. An
// error means that it is not stored: it is not a name that can be, or too many
// wait already.
func (s *Store) SaveName(_ context.Context, name identity.KnownName) error {
	all, err := observe(name)
	if err != nil {
		return fmt.Errorf("identity store: save name of %s %s: %w", name.Kind, name.RepositoryUUID, err)
	}
	for _, o := range all {
		if !s.names.add(o.key(), o, o.confirms) {
			return fmt.Errorf("identity store: save name: %d names wait to be written already", maxNamesWaiting)
		}
	}
	return nil
}
