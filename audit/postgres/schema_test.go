package postgres_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/migrations"
)

var updateSchema = flag.Bool("update-schema", false, "write migrations/schema-15.txt")

func schemaOf(t testing.TB, url string) auditpg.Schema {
	t.Helper()
	r, err := auditreader.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSchemaIsInstalled holds migrations/schema-15.txt to what the migrations make.
func TestSchemaIsInstalled(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	s := schemaOf(t, db.URL(database.Auditor))
	if s.Server != 15 {
		t.Skipf("PostgreSQL %d: what is expected is written for 15", s.Server)
	}
	if *updateSchema {
		var b strings.Builder
		for _, object := range slices.Sorted(maps.Keys(s.Objects)) {
			fmt.Fprintf(&b, "%s %s\n", s.Objects[object], object)
		}
		if err := os.WriteFile("../../migrations/schema-15.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := s.Differences(); len(d) > 0 {
		t.Errorf("the migrations install another schema than migrations/schema-15.txt says: run go test ./audit/postgres -run TestSchemaIsInstalled -update-schema, and look at the change:\n%s", strings.Join(d, "\n"))
	}
	if len(s.Objects) < 150 || s.Digest() != auditpg.ObjectsDigest(migrations.Schema(15)) {
		t.Errorf("%d objects, digest %s", len(s.Objects), s.Digest())
	}
	// More months, retention's remnants, another reader and other settings change nothing.
	admin := audittest.Connect(t, db.URL(""))
	for _, sql := range []string{
		"SELECT audit.ensure_partition('2030-02-01')", "SELECT audit.ensure_partition('1999-12-01')",
		`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET quote_all_identifiers = on', current_database()); EXECUTE format('ALTER DATABASE %I SET timezone = ''Asia/Kathmandu''', current_database());
			EXECUTE format('ALTER DATABASE %I SET datestyle = ''German''', current_database()); END $$`,
	} {
		if _, err := admin.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"", database.Writer, database.Auditor} {
		if again := schemaOf(t, db.URL(role)); again.Digest() != s.Digest() {
			t.Errorf("%q: %q", role, again.Differences())
		}
	}
}

// schemaAttack is what a login that may act as the owner, or the superuser, does to
// the schema, and a part of the line that has to show it. PARTITION is the newest month.
type schemaAttack struct{ name, sql, want string }

var schemaAttacks = []schemaAttack{
	{"the function that refuses changes lets them through", `CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NEW; END $$`, "changed function audit.refuse_change()"},
	{"a trigger is disabled", `ALTER TABLE audit.policies DISABLE TRIGGER refuse_row_change`, "changed trigger audit.policies.refuse_row_change"},
	{"a trigger fires in ordinary sessions only", `ALTER TABLE audit.policies ENABLE TRIGGER refuse_change`, "changed trigger audit.policies.refuse_change"},
	{"a trigger of one partition is disabled", `ALTER TABLE audit.PARTITION DISABLE TRIGGER refuse_change`, "added trigger audit.PARTITION.refuse_change"},
	{"a trigger of one partition is gone", `DROP TRIGGER refuse_change ON audit.PARTITION`, "missing trigger audit.PARTITION.refuse_change"},
	{"a trigger that drops rows", `CREATE FUNCTION audit.drop_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER a BEFORE INSERT ON audit.policies FOR EACH ROW EXECUTE FUNCTION audit.drop_row()`, "added trigger audit.policies.a"},
	{"a rule that drops rows", `CREATE RULE nothing AS ON INSERT TO audit.policies DO INSTEAD NOTHING`, "added rule audit.policies.nothing"},
	{"another owner", `RESET ROLE; ALTER TABLE audit.policies OWNER TO sallyport_writer`, "changed table audit.policies"},
	{"a privilege", `GRANT UPDATE ON audit.policies TO sallyport_auditor`, "changed table audit.policies"},
	{"a privilege on one partition", `GRANT DELETE ON audit.PARTITION TO sallyport_writer`, "added table audit.PARTITION"},
	{"a privilege on a column", `GRANT UPDATE (content) ON audit.policies TO sallyport_writer`, "changed columns of audit.policies"},
	{"a privilege on a function", `GRANT EXECUTE ON FUNCTION audit.expire(date, integer) TO sallyport_writer`, "changed function audit.expire("},
	{"a privilege on the schema", `GRANT CREATE ON SCHEMA audit TO sallyport_writer`, "changed schema audit"},
	{"a function with another search path", `ALTER FUNCTION audit.expire(date, integer) SET search_path = public`, "changed function audit.expire("},
	{"a function that calls with the caller's rights", `ALTER FUNCTION audit.try_seal_lock() SECURITY INVOKER`, "changed function audit.try_seal_lock()"},
	{"a view that hides", `CREATE OR REPLACE VIEW audit.holds AS SELECT * FROM (SELECT NULL::bigint AS hold, NULL::timestamptz AS set_at, NULL::date AS first_day, NULL::date AS last_day, NULL::text AS reason, NULL::text AS set_by, NULL::timestamptz AS lifted_at, NULL::text AS lifted_because, NULL::text AS lifted_by) x WHERE false`, "changed view audit.holds"},
	{"row security", `ALTER TABLE audit.policies ENABLE ROW LEVEL SECURITY; CREATE POLICY nothing ON audit.policies USING (false)`, "added policy audit.policies.nothing"},
	{"a constraint is gone", `ALTER TABLE audit.policies DROP CONSTRAINT policies_pkey`, "missing constraint audit.policies.policies_pkey"},
	{"a constraint that refuses every row", `ALTER TABLE audit.policies ADD CONSTRAINT never CHECK (false) NOT VALID`, "added constraint audit.policies.never"},
	{"an index whose function fails for some rows", `CREATE INDEX failing ON audit.policies ((1 / octet_length(content)))`, "added index audit.policies.failing"},
	{"a table beside the log", `CREATE TABLE audit.more () INHERITS (audit.policies)`, "added child audit.more of audit.policies"},
	{"a month is detached", `ALTER TABLE audit.events DETACH PARTITION audit.PARTITION`, "added table audit.PARTITION"},
	{"default privileges", `ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT DELETE ON TABLES TO sallyport_writer`, "added default privileges of sallyport_owner in schema audit"},
	{"an event trigger", `RESET ROLE; CREATE FUNCTION public.watch() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION public.watch()`, "added event trigger watch"},
	{"an operator", `CREATE FUNCTION audit.eq(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR audit.= (LEFTARG = text, RIGHTARG = text, FUNCTION = audit.eq)`, "added operator audit.=("},
	{"an index is gone", `DROP INDEX identity.repositories_name_holder`, "missing index identity.repositories.repositories_name_holder"},
	{"the history of migrations can be changed", `GRANT DELETE ON sallyport.schema_version TO sallyport_writer`, "changed table sallyport.schema_version"},
	{"a domain", `CREATE DOMAIN audit.word AS text`, "added type audit.word"},
	{"a view of another schema", `RESET ROLE; CREATE VIEW public.harmless AS SELECT * FROM audit.events`, "added outside view public.harmless"},
	{"a view of a view", `RESET ROLE; CREATE VIEW public.harmless AS SELECT * FROM audit.events; CREATE VIEW public.further AS SELECT * FROM public.harmless`, "added outside view public.further"},
	{"a rule of a table of another schema", `RESET ROLE; CREATE TABLE public.bell (line text); CREATE RULE ring AS ON INSERT TO public.bell DO ALSO DELETE FROM audit.policies`, "added outside table public.bell"},
	{"a function of another schema that acts as the owner", `RESET ROLE; CREATE FUNCTION public.helper(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE q; END $$; ALTER FUNCTION public.helper(text) OWNER TO sallyport_owner`, "added outside function public.helper(text)"},
	{"a function of another schema that acts as a superuser", `RESET ROLE; CREATE FUNCTION public.helper(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE q; END $$`, "added outside function public.helper(text)"},
	{"a name cannot be ended any more", `CREATE OR REPLACE FUNCTION identity.refuse_rewrite() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$`, "changed function identity.refuse_rewrite()"},
}

// attacked makes attacks, each in a transaction that is rolled back, and returns those
// that a query does not find, at most as many as most.
func attacked(t *testing.T, conn *pgx.Conn, query string, attacks []schemaAttack, most int) (missed []string) {
	t.Helper()
	partition := audittest.QueryValue[string](t, conn, `SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass`)
	partition = strings.TrimPrefix(partition, "audit.")
	for _, a := range attacks {
		if len(missed) == most {
			break
		}
		tx, err := conn.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		sql := strings.ReplaceAll(a.sql, "PARTITION", partition)
		if strings.Contains(a.sql, "DETACH PARTITION") {
			sql = "ALTER TABLE audit.events DETACH PARTITION audit." + partition
		}
		if _, err := tx.Exec(t.Context(), "SET LOCAL ROLE sallyport_owner; "+sql); err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		if _, err := tx.Exec(t.Context(), "RESET ROLE; SET LOCAL ROLE "+database.Auditor); err != nil {
			t.Fatal(err)
		}
		s, err := auditpg.DescribeSchema(t.Context(), tx, query)
		if err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		want := strings.ReplaceAll(a.want, "PARTITION", partition)
		if s.Expected == nil {
			t.Skip("what is expected is not known for this PostgreSQL")
		}
		if !slices.ContainsFunc(s.Differences(), func(line string) bool { return strings.HasPrefix(line, want) }) {
			missed = append(missed, fmt.Sprintf("%s: want %q in %q", a.name, want, s.Differences()))
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return missed
}

// TestSchemaAttacks: an auditor's login finds each change of the schema by the owner,
// with the object's name.
func TestSchemaAttacks(t *testing.T) {
	t.Parallel()
	for _, m := range attacked(t, audittest.Connect(t, audittest.Migrated(t).URL("")), auditpg.SchemaSQL, schemaAttacks, len(schemaAttacks)) {
		t.Error(m)
	}
}

// TestSchemaPartsAreNeeded takes each part of the description out in turn, and sees
// that an attack is not found any more.
func TestSchemaPartsAreNeeded(t *testing.T) {
	t.Parallel()
	head, rest, _ := strings.Cut(auditpg.SchemaSQL, "objects (object, definition, partition) AS (\n")
	parts, tail, _ := strings.Cut(rest, "\n)\nSELECT")
	branches := strings.Split(parts, "\n    UNION ALL\n")
	if len(branches) < 14 {
		t.Fatalf("the description was read as %d parts", len(branches))
	}
	join := func(branches []string) string {
		return head + "objects (object, definition, partition) AS (\n" + strings.Join(branches, "\n    UNION ALL\n") + "\n)\nSELECT" + tail
	}
	conn := audittest.Connect(t, audittest.Migrated(t).URL(""))
	for i, branch := range branches {
		// Those that the part is about come first: the first that is missed is enough.
		attacks := slices.SortedStableFunc(slices.Values(schemaAttacks), func(a, b schemaAttack) int {
			kind := func(a schemaAttack) int {
				if strings.Contains(branch, "'"+strings.Fields(a.want)[1]+" ") {
					return 1
				}
				return 0
			}
			return kind(b) - kind(a)
		})
		others := slices.Delete(slices.Clone(branches), i, i+1)
		if len(attacked(t, conn, join(others), attacks, 1)) == 0 {
			t.Errorf("every attack is found all the same without%s", branches[i])
		}
	}
}
