package postgres

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// Everything that an auditor sees has a comment, and every constraint has
// the name that we gave it.
func TestSchemaIsExplained(t *testing.T) {
	t.Parallel()
	conn := pgtest.Connect(t, migrated(t).URL(""))
	missing := pgtest.Texts(t, conn, `
		SELECT c.oid::regclass::text FROM pg_class c
		WHERE c.relnamespace = 'identity'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND obj_description(c.oid) IS NULL
		UNION ALL
		SELECT c.oid::regclass || '.' || a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE c.relnamespace IN ('identity'::regnamespace, 'audit'::regnamespace) AND c.relkind IN ('r', 'p', 'v') AND col_description(c.oid, a.attnum) IS NULL
		UNION ALL
		SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'identity'::regnamespace AND obj_description(p.oid) IS NULL
		UNION ALL
		SELECT conrelid::regclass || ' ' || conname FROM pg_constraint WHERE connamespace = 'identity'::regnamespace AND (conname ~ '_check[0-9]*$' OR conname ~ '_key$')`)
	if len(missing) > 0 {
		t.Errorf("without a comment or a name: %s", strings.Join(missing, ", "))
	}
}

func TestPrivileges(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "DROP ROLE IF EXISTS stranger; CREATE ROLE stranger LOGIN")
	const repository = "(repository_uuid, workspace_uuid, valid_from, fetched_at, workspace, repository, project) VALUES (gen_random_uuid(), gen_random_uuid(), now(), now(), 'a', 'a/b', '')"
	for _, tt := range []struct {
		statement       string
		writer, auditor bool
	}{
		{"SELECT FROM identity.workspaces", true, true},
		{"SELECT FROM identity.repositories", true, true},
		{"SELECT FROM identity.deployments", true, true},
		{"SELECT FROM identity.reassigned_names", true, true},
		{"SELECT FROM identity.revocations", true, true},
		{"SELECT FROM identity.pipelines", true, true},
		{"SELECT build_number, creator FROM audit.decisions", true, true},
		{"SELECT step_uuid, repository_uuid, issuer, admitted_at, expires, until, principal FROM identity.admitted_tokens", true, true},
		{"SELECT digest FROM identity.admitted_tokens", true, false},
		{"SELECT * FROM identity.admitted_tokens", true, false},
		{"INSERT INTO identity.repositories " + repository, true, false},
		{"UPDATE identity.repositories SET fetched_at = now()", true, false},
		{"UPDATE identity.repositories SET repository = 'x'", false, false},
		{"DELETE FROM identity.repositories", false, false},
		{"INSERT INTO identity.revocations (step_uuid, until, revoked_by, reason) VALUES (gen_random_uuid(), now() + interval '1 h', 'x', '')", true, false},
		{"INSERT INTO identity.revocations (step_uuid, revoked_at, until, revoked_by, reason) VALUES (gen_random_uuid(), now() - interval '1 y', now(), 'x', '')", false, false},
		{"UPDATE identity.revocations SET until = now()", false, false},
		{"DELETE FROM identity.revocations", false, false},
		{"SELECT FROM identity.revocation_lifts", true, true},
		{"INSERT INTO identity.revocation_lifts (revocation_id, lifted_at, lifted_by, reason) VALUES (1, now() - interval '1 y', 'x', '')", false, false},
		{"UPDATE identity.revocation_lifts SET reason = 'x'", false, false},
		{"DELETE FROM identity.revocation_lifts", false, false},
		{"DELETE FROM identity.admitted_tokens", true, false},
		{"UPDATE identity.admitted_tokens SET until = 'infinity'", false, false},
		{"UPDATE identity.pipelines SET creator = 'x'", true, false},
		{"DELETE FROM identity.pipelines", false, false},
		{"TRUNCATE identity.admitted_tokens", false, false},
		{"DROP TABLE identity.revocations", false, false},
		{"CREATE TABLE identity.mine ()", false, false},
		{"SELECT identity.refuse_rewrite()", false, false},
	} {
		for role, may := range map[string]bool{database.Writer: tt.writer, database.Auditor: tt.auditor, "stranger": false} {
			conn := pgtest.Connect(t, db.URL(role))
			pgtest.Exec(t, conn, "BEGIN")
			_, err := conn.Exec(t.Context(), tt.statement)
			if may && err != nil || !may && pgtest.SQLState(err) != "42501" {
				t.Errorf("%s: %s: %v", role, tt.statement, err)
			}
			_ = conn.Close(context.Background())
		}
	}
}

// Open's error contains what to do.
func TestOpenOnAnOldSchema(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	pgtest.Exec(t, pgtest.Connect(t, db.URL("")), "DELETE FROM sallyport.schema_version WHERE version_id >= 3")
	_, err := Open(t.Context(), Config{URL: db.URL(database.Writer)})
	if err == nil || !strings.Contains(err.Error(), "run `sallyport migrate`") {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "URL is empty") {
		t.Error(err)
	}
}

func TestPipelines(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	for i, at := range []string{"2 hours", "1 hour", "1 minute"} {
		pgtest.Exec(t, conn, `INSERT INTO audit.events (time, kind, writer, writer_sequence, record, decision_id, verdict, workspace_uuid, repository_uuid, pipeline_uuid)
			VALUES (now() - $1::interval, 'decision', 'w', $2, '{}', gen_random_uuid(), 'allow', $3, $4, $5)`, at, i+1, acme, payments, uuidOf(i))
	}
	unknown := func(limit int) []identity.PipelineID {
		t.Helper()
		list, err := h.UnknownPipelines(t.Context(), time.Now().Add(-90*time.Minute), limit)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := unknown(10); len(got) != 2 || got[0] != (identity.PipelineID{WorkspaceUUID: acme, RepositoryUUID: payments, PipelineUUID: uuidOf(2)}) || got[1].PipelineUUID != uuidOf(1) {
		t.Errorf("%+v", got)
	}
	if got := unknown(1); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	now := time.Now()
	pipeline := func(id, repository string, number int64, creator, creatorUUID string, fetched time.Time) identity.Pipeline {
		return identity.Pipeline{PipelineUUID: id, RepositoryUUID: repository, BuildNumber: number, Creator: creator, CreatorUUID: creatorUUID, FetchedAt: fetched}
	}
	save := func(p ...identity.Pipeline) {
		t.Helper()
		if err := h.SavePipelines(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	save()
	save(pipeline(uuidOf(2), payments, 41, "Nobody", "", now.Add(-time.Minute)), pipeline(uuidOf(1), payments, 0, "", "", now),
		pipeline(uuidOf(2), payments, 42, "Ada", uuidOf(9), now), pipeline(uuidOf(2), payments, 40, "Older", "", now.Add(-time.Hour)))
	save(pipeline(uuidOf(2), payments, 1, "Older", "", now.Add(-time.Hour)))
	if got := unknown(10); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	got := pgtest.Texts(t, conn, `SELECT right(pipeline_uuid::text, 1) || ' ' || coalesce(build_number::text, '-') || ' ' || coalesce(creator, '-') FROM audit.decisions ORDER BY time`)
	if want := "0 - -,1 - -,2 42 Ada"; strings.Join(got, ",") != want {
		t.Errorf("%q, want %q", got, want)
	}
	for name, p := range map[string]identity.Pipeline{
		"uuid":     pipeline("x", payments, 1, "", "", now),
		"creator":  pipeline(uuidOf(1), payments, 1, "", "x", now),
		"number":   pipeline(uuidOf(1), payments, -1, "", "", now),
		"text":     pipeline(uuidOf(1), payments, 1, "\x00", "", now),
		"no time":  pipeline(uuidOf(1), payments, 1, "", "", time.Time{}),
		"too long": pipeline(uuidOf(1), payments, 1, strings.Repeat("x", 1001), "", now),
	} {
		if err := h.SavePipelines(t.Context(), []identity.Pipeline{p}); err == nil {
			t.Errorf("%s: saved", name)
		}
	}
}

func containsFold(s, part string) bool {
	return strings.Contains(strings.ToLower(s), strings.ToLower(part))
}
