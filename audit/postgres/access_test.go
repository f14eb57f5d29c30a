package postgres_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/migrations"
)

// plant is a login with one path to the log, and the capability that the review has
// to find. In the statement, and in the path, LOGINROLE is the login.
type plant struct {
	sql        string
	capability string
	path       string // a part of it
}

var plants = []plant{
	{`CREATE ROLE LOGINROLE LOGIN; GRANT UPDATE ON audit.events TO LOGINROLE`, "change", "UPDATE on audit.events"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT UPDATE (host) ON audit.events TO LOGINROLE`, "change", "UPDATE on columns of audit.events"},
	{`CREATE ROLE LOGINROLE LOGIN; DO $$ BEGIN EXECUTE (SELECT 'GRANT TRUNCATE ON ' || min(inhrelid::regclass::text) || ' TO LOGINROLE' FROM pg_inherits WHERE inhparent = 'audit.events'::regclass); END $$`, "change", "TRUNCATE on audit.events_*"},
	{`CREATE ROLE LOGINROLE LOGIN; ALTER TABLE audit.expired OWNER TO LOGINROLE`, "alter", "owner of audit.expired"},
	{`CREATE ROLE LOGINROLE LOGIN INHERIT IN ROLE sallyport_owner`, "alter", "member of sallyport_owner → owner of"},
	{`CREATE ROLE LOGINROLE LOGIN NOINHERIT IN ROLE sallyport_owner`, "alter", "member of sallyport_owner (NOINHERIT: by SET ROLE) → owner of"},
	{`CREATE ROLE LOGINROLE_group NOLOGIN IN ROLE sallyport_owner; CREATE ROLE LOGINROLE LOGIN NOINHERIT IN ROLE LOGINROLE_group`, "alter", "member of LOGINROLE_group (NOINHERIT: by SET ROLE) → member of sallyport_owner → owner of"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT sallyport_owner TO LOGINROLE WITH ADMIN OPTION`, "alter", "member of sallyport_owner (ADMIN OPTION)"},
	{`CREATE ROLE LOGINROLE LOGIN CREATEROLE`, "become superuser", "CREATEROLE"},
	{`CREATE ROLE LOGINROLE_admin NOLOGIN CREATEROLE; CREATE ROLE LOGINROLE LOGIN IN ROLE LOGINROLE_admin`, "become superuser", "member of LOGINROLE_admin → CREATEROLE"},
	{`CREATE ROLE LOGINROLE LOGIN SUPERUSER`, "superuser", "superuser"},
	{`CREATE ROLE LOGINROLE_root SUPERUSER; CREATE ROLE LOGINROLE LOGIN NOINHERIT IN ROLE LOGINROLE_root`, "superuser", "member of LOGINROLE_root (NOINHERIT: by SET ROLE) → superuser"},
	{`CREATE ROLE LOGINROLE LOGIN REPLICATION`, "read", "REPLICATION"},
	{`CREATE ROLE LOGINROLE LOGIN BYPASSRLS`, "bypass row security", "BYPASSRLS"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_write_all_data`, "change", "pg_write_all_data"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_read_all_data`, "read", "pg_read_all_data"},
	{`CREATE ROLE LOGINROLE LOGIN NOINHERIT IN ROLE pg_execute_server_program`, "become superuser", "pg_execute_server_program"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_write_server_files`, "become superuser", "pg_write_server_files"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_read_server_files`, "read", "pg_read_server_files"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_signal_backend`, "interrupt", "pg_signal_backend"},
	{`CREATE ROLE LOGINROLE LOGIN IN ROLE pg_monitor`, "observe", "pg_monitor"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT DELETE ON audit.policies TO pg_database_owner; DO $$ BEGIN EXECUTE format('ALTER DATABASE %I OWNER TO LOGINROLE', current_database()); END $$`, "drop", "owner of the database"},
	{`SELECT 1`, "change", "member of pg_database_owner (owner of the database) → DELETE on audit.policies"}, // the login before
	{`CREATE ROLE LOGINROLE LOGIN; DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO LOGINROLE', current_database()); END $$`, "create", "CREATE on the database"},
	{`CREATE ROLE LOGINROLE LOGIN; ALTER SCHEMA identity OWNER TO LOGINROLE`, "alter", "owner of schema identity"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT CREATE ON SCHEMA audit TO LOGINROLE`, "create", "CREATE on schema audit"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT TRIGGER ON audit.events TO LOGINROLE`, "alter", "TRIGGER on audit.events"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT EXECUTE ON FUNCTION audit.expire(date, integer) TO LOGINROLE`, "call", "EXECUTE, with its owner's rights, on audit.expire()"},
	{`CREATE ROLE LOGINROLE LOGIN; ALTER FUNCTION audit.refuse_change() OWNER TO LOGINROLE`, "alter", "owner of audit.refuse_change()"},
	{`CREATE ROLE LOGINROLE LOGIN; ALTER VIEW audit.denials OWNER TO LOGINROLE`, "alter", "owner of audit.denials"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT INSERT ON sallyport.schema_version TO LOGINROLE`, "add", "INSERT on sallyport.schema_version"},
	{`CREATE ROLE LOGINROLE LOGIN; GRANT SELECT ON identity.repositories TO LOGINROLE WITH GRANT OPTION`, "read", "SELECT WITH GRANT OPTION on identity.repositories"},
	{`CREATE ROLE hidden_LOGINROLE LOGIN SUPERUSER; SET LOCAL allow_system_table_mods = on; UPDATE pg_authid SET rolname = 'LOGINROLE' WHERE rolname = 'hidden_LOGINROLE'`, "superuser", "superuser"}, // pg_backup
	{`CREATE ROLE LOGINROLE LOGIN; CREATE FUNCTION public.helper(q text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE q; END $$; REVOKE EXECUTE ON FUNCTION public.helper(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.helper(text) TO LOGINROLE`, "superuser", "may execute public.helper(text), which acts as "},
	{`CREATE ROLE LOGINROLE_group; CREATE ROLE LOGINROLE LOGIN NOINHERIT IN ROLE LOGINROLE_group; CREATE FUNCTION public.helps() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; ALTER FUNCTION public.helps() OWNER TO sallyport_owner; REVOKE EXECUTE ON FUNCTION public.helps() FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.helps() TO LOGINROLE_group`, "alter", "member of LOGINROLE_group (NOINHERIT: by SET ROLE) → may execute public.helps(), which acts as sallyport_owner"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE ROLE LOGINROLE_owner; CREATE ROLE LOGINROLE_group IN ROLE sallyport_owner; GRANT LOGINROLE_group TO LOGINROLE_owner; CREATE FUNCTION public.first_hop() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; REVOKE EXECUTE ON FUNCTION public.first_hop() FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.first_hop() TO LOGINROLE;
		CREATE ROLE LOGINROLE_middle; ALTER FUNCTION public.first_hop() OWNER TO LOGINROLE_middle; CREATE FUNCTION public.second_hop() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; REVOKE EXECUTE ON FUNCTION public.second_hop() FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.second_hop() TO LOGINROLE_middle; ALTER FUNCTION public.second_hop() OWNER TO LOGINROLE_owner;
		CREATE FUNCTION public.back() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; REVOKE EXECUTE ON FUNCTION public.back() FROM PUBLIC; GRANT EXECUTE ON FUNCTION public.back() TO LOGINROLE_owner; ALTER FUNCTION public.back() OWNER TO LOGINROLE_middle`, "alter", "may execute public.first_hop(), which acts as LOGINROLE_middle"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE TABLE public.inbox (line text); CREATE FUNCTION public.on_inbox() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN EXECUTE NEW.line; RETURN NULL; END $$; REVOKE EXECUTE ON FUNCTION public.on_inbox() FROM PUBLIC; CREATE TRIGGER runs AFTER INSERT ON public.inbox FOR EACH ROW EXECUTE FUNCTION public.on_inbox(); GRANT INSERT ON public.inbox TO LOGINROLE`, "superuser", "INSERT on public.inbox, whose trigger runs executes public.on_inbox(), which acts as "},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE VIEW public.harmless AS SELECT * FROM audit.events; GRANT SELECT ON public.harmless TO LOGINROLE`, "read", "SELECT on public.harmless, which leads to audit.events"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE VIEW public.further AS SELECT h.host FROM public.harmless h; GRANT SELECT (host) ON public.further TO LOGINROLE`, "read", "SELECT on public.further, which leads to audit.events"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE VIEW public.writable AS SELECT * FROM identity.repositories; GRANT DELETE ON public.writable TO LOGINROLE`, "change", "DELETE on public.writable, which leads to identity.repositories"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE MATERIALIZED VIEW public.copied AS SELECT * FROM audit.policies; ALTER MATERIALIZED VIEW public.copied OWNER TO LOGINROLE`, "read", "SELECT on public.copied, which leads to audit.policies"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE TABLE public.bell (line text); CREATE RULE ring AS ON INSERT TO public.bell DO ALSO DELETE FROM audit.policies; GRANT INSERT ON public.bell TO LOGINROLE`, "change", "INSERT on public.bell, which leads to audit.policies"},
	{`CREATE ROLE LOGINROLE LOGIN; CREATE TABLE public.more () INHERITS (audit.policies); GRANT INSERT ON public.more TO LOGINROLE`, "add", "INSERT on public.more, which leads to audit.policies"},
	{`CREATE FUNCTION public.open_to_all() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'SELECT'; ALTER FUNCTION public.open_to_all() OWNER TO sallyport_owner; GRANT EXECUTE ON FUNCTION public.open_to_all() TO PUBLIC`, "alter", "may execute public.open_to_all(), which acts as sallyport_owner"}, // PUBLIC's
	{`GRANT DELETE ON audit.checkpoints TO PUBLIC`, "change", "DELETE on audit.checkpoints"}, // PUBLIC's
}

// name is the login of a plant.
func (p plant) name(i int) string {
	switch {
	case strings.HasSuffix(p.sql, "TO PUBLIC"):
		return "PUBLIC"
	case p.sql == "SELECT 1":
		i--
	case strings.Contains(p.sql, "pg_authid"):
		return "pg_backup" // the prefix of predefined roles
	}
	return fmt.Sprintf("planted_%02d", i)
}

// planted runs f in a transaction with all plants, as an auditor, and takes them
// back: roles belong to the whole server, which other tests use.
func planted(t *testing.T, f func(tx pgx.Tx)) {
	t.Helper()
	tx, err := audittest.Connect(t, audittest.Migrated(t).URL("")).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(t.Context()) }()
	for i, p := range plants {
		if _, err := tx.Exec(t.Context(), strings.ReplaceAll(p.sql, "LOGINROLE", p.name(i))); err != nil {
			t.Fatalf("%s: %v", p.sql, err)
		}
	}
	if _, err := tx.Exec(t.Context(), "SET LOCAL jit = off; SET LOCAL ROLE "+database.Auditor); err != nil {
		t.Fatal(err)
	}
	f(tx)
}

// missed are the plants that a query does not find.
func missed(t *testing.T, tx pgx.Tx, query string) (list []string) {
	t.Helper()
	rows, err := tx.Query(t.Context(), "SELECT role || '|' || capability || '|' || path FROM ("+query+") x")
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range plants {
		name := p.name(i)
		want := strings.ReplaceAll(p.path, "LOGINROLE", name)
		ok := false
		for _, row := range found {
			cells := strings.SplitN(row, "|", 3)
			ok = ok || cells[0] == name && cells[1] == p.capability && strings.Contains(cells[2], want)
		}
		if !ok {
			list = append(list, fmt.Sprintf("%s: %s by %s", name, p.capability, want))
		}
	}
	return list
}

// TestAccessFinds plants a login for each path to the log, and requires each to be
// found, by the view and by the text that packs and attestations run.
func TestAccessFinds(t *testing.T) {
	t.Parallel()
	planted(t, func(tx pgx.Tx) {
		for _, query := range []string{"SELECT * FROM audit.access", migrations.Access} {
			for _, m := range missed(t, tx, query) {
				t.Errorf("not found: %s", m)
			}
		}
	})
}

// TestAccessPathsAreNeeded takes each branch out of the query in turn, and sees that
// a login is not found any more.
func TestAccessPathsAreNeeded(t *testing.T) {
	t.Parallel()
	type mutation struct{ name, query string }
	var mutations []mutation
	replace := func(name, old, new string) {
		t.Helper()
		query := strings.Replace(migrations.Access, old, new, 1)
		if query == migrations.Access {
			t.Fatalf("%s: the query has no %q", name, old)
		}
		mutations = append(mutations, mutation{name, query})
	}
	replace("by the name's prefix", "s.oid >= 16384 OR s.rolcanlogin OR ", "")
	replace("no SET ROLE", "coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)", "r.rolinherit")
	replace("no INHERIT", "coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)", "false")
	replace("no ADMIN OPTION", "bool_or(m.admin_option)", "false")
	replace("no members", "FROM reach c JOIN steps s ON s.member = c.target", "FROM reach c JOIN steps s ON false")
	replace("no database owner", "WHERE d.datname = current_database()\n),", "WHERE false\n),")
	replace("no PUBLIC", "FROM powers o WHERE o.grantee = 0", "FROM powers o WHERE false")
	replace("no partitions", "c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')\n", "c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND NOT c.relispartition\n")
	replace("no views of other schemas", "WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass", "WHERE false AND true")
	replace("no views of views", "FROM leads l JOIN uses u ON u.used = l.oid", "FROM leads l JOIN uses u ON false")
	replace("no copies", "c.relkind = 'm' OR has_any", "has_any")
	replace("no owner of a copy", "a.grantee <> o.relowner OR o.copies", "a.grantee <> o.relowner")
	replace("no rules", "o.has_rules AND", "false AND")
	replace("no children", "WHERE c.relkind NOT IN ('i', 'I')", "WHERE false")
	replace("no columns of views", "WHERE b.attrelid = o.oid", "WHERE false")
	replace("no functions of other schemas", "FROM acting a JOIN reach c ON c.subject = a.owner JOIN own o", "FROM acting a JOIN reach c ON false JOIN own o")
	replace("no EXECUTE", "coalesce(d.proacl, acldefault('f', d.owner))) a\n    WHERE ", "d.proacl) a\n    WHERE false AND ")
	replace("no triggers", "t.tgfoid = d.oid AND", "false AND")
	replace("no functions that call functions", "JOIN callers c ON c.grantee = m.target", "JOIN callers c ON false")
	for _, schema := range []string{"'identity'", "'sallyport'"} {
		replace("no schema "+schema, schema, "''")
	}
	own := migrations.Access[strings.Index(migrations.Access, "own (grantee"):]
	own = own[strings.Index(own, "(\n")+2 : strings.Index(own, "\n),\n")]
	branches := strings.Split(own, "    UNION ALL\n")
	if len(branches) < 14 {
		t.Fatalf("the query was read as %d branches", len(branches))
	}
	for i := range branches {
		others := append(append([]string{}, branches[:i]...), branches[i+1:]...)
		replace("without"+branches[i], own, strings.Join(others, "    UNION ALL\n"))
	}
	for _, p := range []string{"pg_read_all_data", "pg_write_all_data", "pg_execute_server_program", "pg_write_server_files", "pg_read_server_files", "pg_signal_backend"} {
		replace("no "+p, "'"+p+"'", "''")
	}
	planted(t, func(tx pgx.Tx) {
		for _, m := range mutations {
			if len(missed(t, tx, m.query)) == 0 {
				t.Errorf("every login is found all the same: %s", m.name)
			}
		}
	})
}
