package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// NameKind is a kind of name that [CompleteNames] finds.
type NameKind string

// The kinds of names: full names of repositories, slugs of workspaces and of
// deployment environments, and writers of the audit log.
const (
	NameRepository NameKind = "repository"
	NameWorkspace  NameKind = "workspace"
	NameDeployment NameKind = "deployment"
	NameWriter     NameKind = "writer"
)

var namesBeginning = map[NameKind]string{
	NameRepository: `SELECT DISTINCT repository FROM identity.repositories WHERE starts_with(repository, $1) ORDER BY 1 LIMIT 1000`,
	NameWorkspace:  `SELECT DISTINCT workspace FROM identity.workspaces WHERE starts_with(workspace, $1) ORDER BY 1 LIMIT 1000`,
	NameDeployment: `SELECT DISTINCT deployment FROM identity.deployments WHERE deployment <> '' AND starts_with(deployment, $1) ORDER BY 1 LIMIT 1000`,
	NameWriter:     `SELECT writer FROM audit.writers WHERE starts_with(writer, $1) ORDER BY 1 LIMIT 1000`,
}

// CompleteNames returns the known names of a kind that begin with typed, sorted, and
// at most 1,000. The login of url has to be able to read them.
func CompleteNames(ctx context.Context, url string, kind NameKind, typed string) ([]string, error) {
	query, known := namesBeginning[kind]
	if !known {
		return nil, fmt.Errorf("complete names: %q is not a kind of name", kind)
	}
	config, err := database.ParseConfig(url, "sallyport completion")
	if err != nil {
		return nil, err
	}
	conn, err := database.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	rows, err := conn.Query(ctx, query, typed)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
