package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/uuid"
)

type nameKey struct{ kind, uuid, repository string }

// observed is one answer of Bitbucket.
type observed struct {
	kind      string
	values    []string // of the table's columns
	fetchedAt time.Time
}

func (o observed) key() nameKey {
	k := nameKey{kind: o.kind, uuid: o.values[0]}
	if o.kind == identity.NameOfDeployment {
		k.repository = o.values[1]
	}
	return k
}

// confirms drops an answer that repeats one that waits: its time, which would
// begin the validity of the name if that is new, is the earlier one.
func (o observed) confirms(waiting *observed) bool {
	if !slices.Equal(o.values, waiting.values) || o.fetchedAt.Sub(waiting.fetchedAt) >= tolerance {
		return false
	}
	if o.fetchedAt.Before(waiting.fetchedAt) {
		waiting.fetchedAt = o.fetchedAt
	}
	return true
}

// observe turns a name into rows: a repository's full name holds the slug of its
// workspace.
func observe(n identity.KnownName) ([]observed, error) {
	if n.FetchedAt.IsZero() {
		return nil, errors.New("it was never fetched")
	}
	at := database.Timestamp(n.FetchedAt)
	var all []observed
	switch n.Kind {
	case identity.NameOfRepository:
		all = append(all, observed{n.Kind, []string{n.RepositoryUUID, n.WorkspaceUUID, n.WorkspaceSlug, n.FullName, n.Project}, at})
		if n.WorkspaceSlug != "" {
			all = append(all, observed{nameOfWorkspace, []string{n.WorkspaceUUID, n.WorkspaceSlug}, at})
		}
	case identity.NameOfDeployment:
		all = append(all, observed{n.Kind, []string{n.DeploymentUUID, n.RepositoryUUID, n.WorkspaceUUID, n.Name, n.Slug, n.Type}, at})
	default:
		return nil, fmt.Errorf("a name of %q is not known here", n.Kind)
	}
	for _, o := range all {
		if err := o.check(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// check refuses what the database would refuse.
func (o observed) check() error {
	table := nameTables[o.kind]
	for i, column := range table.columns {
		v := o.values[i]
		switch {
		case column.uuid && !uuid.IsCanonical(v):
			return fmt.Errorf("its %s %q is not a bare lower-case UUID", column.name, v)
		case !column.uuid && !database.IsText(v, maxText):
			return fmt.Errorf("its %s has more than %d bytes, or is not text", column.name, maxText)
		case column.name == table.bears && v == "":
			return fmt.Errorf("its %s is empty", column.name)
		}
	}
	return nil
}
