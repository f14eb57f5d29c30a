package postgres_test

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// unboundedSQL lists the columns of our tables that a login fills and that no
// constraint bounds.
const unboundedSQL = `SELECT c.oid::regclass || '.' || a.attname
	FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
	WHERE n.nspname IN ('audit', 'identity', 'sallyport', 'webhook') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
	  AND a.attnum > 0 AND NOT a.attisdropped AND t.typlen = -1 AND t.typname <> 'inet'
	  AND EXISTS (SELECT FROM unnest(ARRAY['` + database.Writer + `', '` + database.Sealer + `', '` + database.Auditor + `']) role
		WHERE has_column_privilege(role, c.oid, a.attnum, 'INSERT') OR has_column_privilege(role, c.oid, a.attnum, 'UPDATE'))
	  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY (k.conkey) AND k.convalidated
		AND pg_get_constraintdef(k.oid) ~ CASE a.attname WHEN 'digest' THEN 'digest = |octet_length' ELSE '(octet_length|pg_column_size)\(|= ANY \(' END)
	ORDER BY 1`

// TestColumnsAreBounded: every value that a login may add has a bound on its length.
// The list of columns is the database's, so that a new one has to have it.
func TestColumnsAreBounded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	admin := audittest.Connect(t, db.URL(""))
	for _, column := range audittest.QueryStrings(t, admin, unboundedSQL) {
		t.Errorf("%s has no bound on its length", column)
	}
	audittest.MustExec(t, admin, `ALTER TABLE audit.policies DROP CONSTRAINT policies_content; ALTER TABLE identity.admitted_tokens DROP CONSTRAINT admitted_tokens_length`)
	want := "audit.policies.content identity.admitted_tokens.issuer identity.admitted_tokens.principal"
	if got := strings.Join(audittest.QueryStrings(t, admin, unboundedSQL), " "); got != want {
		t.Errorf("without the constraints: %q", got)
	}
}

// TestLongPolicyIsRefused: a login that may write adds no policy that no server could
// have loaded: it would take a hundredth on the disk, and every reader of the table
// would have to hash it.
func TestLongPolicyIsRefused(t *testing.T) {
	t.Parallel()
	conn := audittest.Connect(t, audittest.Migrated(t).URL(database.Writer))
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.policies (digest, content) VALUES ('x', convert_to(repeat('x', 400 << 20), 'UTF8'))`); audittest.SQLState(err) != "23514" || !strings.Contains(err.Error(), "policies_content") {
		t.Errorf("a policy of 400 MiB: %v", err)
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, admitted_at, expires, until, issuer, principal)
		VALUES (sha256('x'), gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 hour', now() + interval '1 hour', 'i', to_json(repeat('x', 70000)))`); audittest.SQLState(err) != "23514" {
		t.Errorf("a principal of 70,000 bytes: %v", err)
	}
}
