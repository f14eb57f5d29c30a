package postgres

import (
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestCompleteNames: an auditor's login gets the names that begin with what was typed,
// whatever is in it.
func TestCompleteNames(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	pgtest.Exec(t, pgtest.Connect(t, db.URL("")), `
		INSERT INTO identity.workspaces (workspace_uuid, workspace, valid_from, fetched_at) VALUES (gen_random_uuid(), 'acme', now(), now());
		INSERT INTO identity.repositories (repository_uuid, workspace_uuid, valid_from, fetched_at, workspace, repository, project)
		SELECT gen_random_uuid(), gen_random_uuid(), now(), now(), 'acme', r, '' FROM unnest('{acme/payments,acme/website,umbrella/x}'::text[]) r`)
	for _, c := range []struct {
		kind  NameKind
		typed string
		want  []string
	}{
		{NameRepository, "acme/", []string{"acme/payments", "acme/website"}},
		{NameRepository, "%", nil},
		{NameRepository, "'; SELECT 1", nil},
		{NameWorkspace, "", []string{"acme"}},
		{NameDeployment, "", nil},
		{NameWriter, "", nil},
	} {
		got, err := CompleteNames(t.Context(), db.URL(database.Auditor), c.kind, c.typed)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %q, %v", c.kind, c.typed, got, err)
		}
	}
	if _, err := CompleteNames(t.Context(), db.URL(database.Auditor), "step", ""); err == nil {
		t.Error("an unknown kind has names")
	}
}
