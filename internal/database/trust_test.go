package database

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// writerServer is the writer of another server: SHA-256 of "its own".
const writerServer = "000000000000-NUhy9ALAPj5-zUf57i4QvQ"

// A claim is one clause of a row of the trust table of SECURITY.md, and what shows
// that it holds.
type claim struct {
	says string
	may  []string // statements that go through
	not  []string // and that are refused, for lack of a privilege or for what they ask for
	// by names the tests that show what no statement of this login can.
	by string
}

const (
	finding = `INSERT INTO audit.deployment_findings (deployment_run_uuid, repository_uuid, workspace_uuid, reconciliation, found_at, state, class, detail)
		VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), `
	leafRow        = `INSERT INTO audit.leaves (index, writer, writer_sequence, hash) VALUES (9223372036854775807, 'w', 9223372036854775807, sha256(''))`
	checkpointRow  = `INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (1, 1, now(), sha256(''), sha256(''), '')`
	acceptDelivery = `SELECT webhook.accept(gen_random_uuid(), now(), 'r', 'cloud', 'repo:push', '', NULL, NULL, 1, NULL, sha256(''), '{}', '', true, ARRAY['forward'], ARRAY['x'])`
	credentialRow  = `INSERT INTO webhook.agent_credentials (id, endpoint, description, digest, lease_key, created_by) VALUES ('00000000000000ff', 'x', '', sha256(''), sha256(''), 'x')`
	eventRow       = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES `
)

// changes are statements that no login may execute on the log.
func changes(t *testing.T, admin *pgx.Conn) []string {
	t.Helper()
	list := []string{"DROP SCHEMA audit CASCADE", "ALTER TABLE audit.events DISABLE TRIGGER ALL", "CREATE OR REPLACE FUNCTION audit.check_writer() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
		"SELECT audit.expire('2020-01-01')", "SELECT audit.lift_hold(1, 'why')", "SET ROLE sallyport_owner", "CREATE TABLE audit.mine ()", "LOCK TABLE audit.events IN SHARE MODE"}
	for table, column := range tables(t, admin) {
		list = append(list, "UPDATE "+table+" SET "+column+" = "+column, "DELETE FROM "+table, "TRUNCATE "+table, "DROP TABLE "+table)
	}
	return list
}

// TestTrustTable: the trust table holds for each login of the database, clause by
// clause, with that login.
func TestTrustTable(t *testing.T) {
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	never := changes(t, admin)
	// Of another server, and what it has recorded.
	pgtest.Exec(t, admin, eventRow+`(now(), 'writer_started', '`+writerServer+`', 1, '{"attributes":{}}')`)
	pgtest.Exec(t, admin, `INSERT INTO webhook.agent_credentials (id, endpoint, description, digest, lease_key, created_by, revoked_at, revoked_by, revoked_reason)
		VALUES ('0000000000000001', 'x', '', sha256(''), sha256(''), 'x', now(), 'x', 'x')`)
	pgtest.Exec(t, admin, `DROP ROLE IF EXISTS trusted_migrator; CREATE ROLE trusted_migrator LOGIN; GRANT sallyport_owner TO trusted_migrator`)
	endSessions := func(login string) string {
		return `SELECT 1 / coalesce(bool_and(pg_terminate_backend(pid, 1000)), true)::int FROM pg_stat_activity WHERE usename = '` + login + `' AND datname = current_database() AND pid <> pg_backend_pid()`
	}
	for row, claims := range map[string][]claim{
		"the login `sallyport_writer`": {
			{says: "read everything in the log", may: []string{"SELECT FROM audit.events", "SELECT FROM audit.policies", "SELECT FROM audit.leaves", "SELECT FROM audit.checkpoints", "SELECT FROM audit.access"}},
			{says: "add false events under names of their own, dated as they like (`verify` lists what was sealed late), and none under the name of a server",
				may: []string{eventRow + `(now() - interval '1 hour', 'decision', '` + writerW + `', 1, '{}')`},
				not: []string{eventRow + `(now(), 'decision', '` + writerServer + `', 2, '{}')`, eventRow + `(now(), 'decision', 'nobody', 1, '{}')`, eventRow + `(now(), 'hold_lifted', 'database', 1, '{}')`,
					eventRow + `(now(), 'decision', '` + writerW + `', 9223372036854775807, '{}')`, eventRow + `('infinity', 'decision', '` + writerW + `', 1, '{}')`, eventRow + `(now(), 'admin', '` + writerW + `', 1, 'x')`},
				by: "audit/postgres/writer.TestLoginIsNoWriter, audit/postgres/sealer.TestBackdatedEvent"},
			{says: "make false reports there about other writers, the database or deployments (losses, attestations, reconciliations, replayed journals), which packs and questions attribute to that name, which explain no missing number, and whose writer `audit verify` and packs name as one that shows no key of the log",
				may: []string{eventRow + `(now(), 'events_lost', '` + writerW + `', 1, '{"attributes":{"writer":"` + writerServer + `","first":"2","last":"3"}}')`,
					eventRow + `(now(), 'access_attested', '` + writerW + `', 1, '{"attributes":{}}')`},
				not: []string{eventRow + `(now(), 'writer_started', '` + writerW + `', 1, '{"attributes":{"previous_writer":"` + writerServer + `"}}')`,
					eventRow + `(now(), 'gap_declared', 'database', 1, '{"attributes":{}}')`},
				by: "audit/postgres/writer.TestPredecessorIsNeeded, audit/evidence.TestGaps, audit/postgres/writer.TestStrangersWritersShowNoKey"},
			{says: "make a deployment appear as observed by a false decision", may: []string{eventRow + `(now(), 'decision', '` + writerW + `', 1, '{"attributes":{}}')`}, by: "audit/postgres/writer.TestStrangersWritersShowNoKey"},
			{says: "add false findings of deployments, which the next reconciliation of an instance corrects", may: []string{finding + `now(), 'successful', 'observed', '')`},
				not: []string{finding + `'infinity', 'successful', 'observed', '')`}, by: "reconcile.TestForgedFinding, audit/evidence.TestForgedFindings"},
			{says: "add a policy that never decided", may: []string{`INSERT INTO audit.policies (digest, content) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'x')`},
				not: []string{`INSERT INTO audit.policies (digest, content) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'y')`,
					`INSERT INTO audit.policies (digest, content, first_seen) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'x', '2020-01-01')`}},
			{says: "keep old months from retention by adding to them", may: []string{`SELECT audit.ensure_partition('2020-01-01')`}, by: "audit/postgres/sealer.TestExpireAndLateEvents"},
			{says: "make up to 240 partitions", may: []string{`SELECT audit.ensure_partition('2020-01-01')`}, not: []string{`SELECT audit.ensure_partition('10000-01-01')`}, by: "audit/postgres/sealer.TestPartitionsAreBounded"},
			{says: "stop reconciliation or the writing of names, which shows", may: []string{`SELECT audit.acquire_names_lock()`, `SELECT audit.try_reconciliation_lock()`}, by: "identity/postgres.TestHeldLocks"},
			{says: "end the server's recording sessions, which reconnect", may: []string{endSessions(Writer)}, not: []string{endSessions(Sealer)}},
			{says: "change the stored names", may: []string{`UPDATE identity.repositories SET valid_to = now()`}, not: []string{
				`INSERT INTO identity.workspaces (workspace_uuid, workspace, valid_from, fetched_at) VALUES (gen_random_uuid(), 'x', '-infinity', now())`,
				`INSERT INTO identity.workspaces (workspace_uuid, workspace, valid_from, fetched_at) VALUES (gen_random_uuid(), 'x', now(), 'infinity')`,
				`INSERT INTO identity.workspaces (workspace_uuid, workspace, valid_from, fetched_at, valid_to) VALUES (gen_random_uuid(), 'x', now(), now(), 'infinity')`,
				`INSERT INTO identity.pipelines (pipeline_uuid, repository_uuid, fetched_at) VALUES (gen_random_uuid(), gen_random_uuid(), '10000-01-01')`}},
			{says: "admit or revoke tokens", may: []string{`DELETE FROM identity.admitted_tokens`,
				`INSERT INTO identity.revocations (repository_uuid, until, revoked_by, reason) VALUES (gen_random_uuid(), now() + '1 h', 'x', '')`}, not: []string{
				`INSERT INTO identity.revocations (repository_uuid, until, revoked_by, reason) VALUES (gen_random_uuid(), 'infinity', 'x', '')`,
				`INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, admitted_at, expires, until, issuer, principal) VALUES (sha256(''), gen_random_uuid(), gen_random_uuid(), now(), 'infinity', now(), '', '{}')`}},
			{says: "read, forge, end, delete and block webhook deliveries, whose events stay in the log", may: []string{"SELECT body FROM webhook.deliveries", acceptDelivery, `SELECT webhook.claim('x', 1, '1 h')`, `DELETE FROM webhook.deliveries`, `SELECT webhook.request_refresh('policy')`, `LOCK TABLE webhook.deliveries`},
				not: []string{`UPDATE webhook.deliveries SET receiver = 'x'`, `UPDATE webhook.tasks SET delivery_id = gen_random_uuid()`, `DELETE FROM webhook.streams`, `DROP TABLE webhook.deliveries`,
					strings.Replace(acceptDelivery, "now()", "'infinity'", 1)},
				by: "audit/postgres/writer.TestBlockedCompanions"},
			{says: "add and revoke credentials of agents, and make no revoked one valid",
				may: []string{credentialRow, "UPDATE webhook.agent_credentials SET revoked_at = now(), revoked_by = 'x', revoked_reason = 'x' WHERE revoked_at IS NULL"},
				not: []string{"UPDATE webhook.agent_credentials SET revoked_at = NULL, revoked_by = NULL, revoked_reason = NULL", "UPDATE webhook.agent_credentials SET endpoint = 'x'",
					"DELETE FROM webhook.agent_credentials"},
				by: "webhook/agent/postgres.TestRevocationIsFinal"},
			{says: "seal nothing", not: []string{leafRow, checkpointRow, `SELECT audit.try_seal_lock()`, `SELECT audit.add_checkpoint('{}', '{}', '{}', '')`, `SELECT audit.sealed_tree()`}},
			{says: "change and delete nothing in the log", not: never},
		},
		"the login `sallyport_sealer`": {
			{says: "read events, leaves and checkpoints", may: []string{"SELECT FROM audit.events", "SELECT FROM audit.leaves", "SELECT FROM audit.checkpoints"}, not: []string{"SELECT FROM identity.admitted_tokens", "SELECT FROM audit.policies"}},
			{says: "seal recorded events, each writer's in order and without a gap", not: []string{leafRow, checkpointRow, `SELECT audit.add_checkpoint(ARRAY['` + writerServer + `'], ARRAY[2], ARRAY[2], 'x')`, `SELECT audit.add_checkpoint(ARRAY['nobody'], ARRAY[1], ARRAY[1], 'x')`},
				by: "audit/postgres/sealer.TestAddCheckpointRefuses"},
			{says: "add checkpoints over the true tree that no key of the log has signed, which sealing and `verify` skip and report", not: []string{`SELECT audit.add_checkpoint(ARRAY['` + writerServer + `'], ARRAY[1], ARRAY[1], 'x')`},
				by: "audit/postgres/sealer.TestCheckpointOfAStrangersKey"},
			{says: "keep the lock of sealing, which shows", may: []string{`SELECT audit.try_seal_lock()`}, by: "audit/postgres/sealer.TestSealingHeldUp"},
			{says: "end the server's sealing sessions, which reconnect", may: []string{endSessions(Sealer)}, not: []string{endSessions(Writer)}},
			{says: "record nothing", not: []string{eventRow + `(now(), 'decision', '` + writerW + `', 1, '{}')`, `SELECT audit.ensure_partition('2020-01-01')`, finding + `now(), 'successful', 'observed', '')`,
				`INSERT INTO audit.policies (digest, content) VALUES ('sha256:' || encode(sha256('x'), 'hex'), 'x')`, `INSERT INTO identity.revocations (repository_uuid, until, revoked_by, reason) VALUES (gen_random_uuid(), now() + '1 h', 'x', '')`,
				`SELECT audit.record_export('query', '{}', 1, sha256(''), 'tool')`}},
			{says: "change and delete nothing in the log", not: never},
		},
		"the login `sallyport_auditor`": {
			{says: "read everything in the log", may: []string{"SELECT FROM audit.events", "SELECT FROM audit.policies", "SELECT FROM audit.decisions", "SELECT FROM audit.leaves", "SELECT FROM audit.access"},
				not: append([]string{eventRow + `(now(), 'decision', '` + writerW + `', 1, '{}')`, leafRow, checkpointRow, `SELECT audit.try_seal_lock()`, "SELECT digest FROM identity.admitted_tokens"}, never...)},
			{says: "read no webhook delivery but its events", may: []string{"SELECT FROM audit.webhook_deliveries"}, not: []string{"SELECT FROM webhook.deliveries", "SELECT FROM webhook.tasks", acceptDelivery, `SELECT webhook.claim('x', 1, '1 h')`, `LOCK TABLE webhook.seen IN ACCESS SHARE MODE`},
				by: "webhook/postgres.TestAuditorReadsNoBody"},
			{says: "set holds", may: []string{`SELECT audit.set_hold('2020-01-01', '2020-01-01', 'why')`}},
			{says: "delay retention, and delay other exports and holds while a transaction with an export or hold of their own is open: those wait, and then report whose session it is",
				may: []string{`SELECT audit.record_export('query', '{}', 1, sha256(''), 'tool')`}, by: "audit/postgres/sealer.TestOpenTransactions"},
		},
		"a member of `sallyport_owner`, a PostgreSQL superuser": {
			{says: "disable triggers and change the log", may: []string{`ALTER TABLE audit.policies DISABLE TRIGGER ALL; DELETE FROM audit.policies`}, not: []string{`DELETE FROM audit.policies`, leafRow}},
			{says: "a checkpoint kept outside shows it, of what was sealed, and `audit verify` and `schema_attested` events name each changed object of the schema while it is changed", by: "audit/postgres/reader.TestTamper"},
		},
	} {
		said := trustRow(t, row)
		for _, c := range claims {
			rest, is := strings.CutPrefix(said, c.says)
			if !is {
				t.Fatalf("%s: the table says %q, and the next claim is %q", row, said, c.says)
			}
			said = strings.TrimPrefix(rest, "; ")
			if len(c.may)+len(c.not) == 0 && c.by == "" {
				t.Errorf("%s: %q: nothing shows it", row, c.says)
			}
			c.named(t)
			for _, login := range loginsOf(row) {
				c.check(t, db, row, login)
			}
		}
		if said != "" {
			t.Errorf("%s: nothing shows that they can %q", row, said)
		}
	}
}

// named checks that the tests exist that show what no statement can.
func (c *claim) named(t *testing.T) {
	t.Helper()
	for name := range strings.SplitSeq(c.by, ", ") {
		folder, test, _ := strings.Cut(name, ".")
		if name == "" {
			continue
		}
		files, err := filepath.Glob("../../" + folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			text, err := os.ReadFile(file)
			return err == nil && strings.Contains(string(text), "\nfunc "+test+"(t *testing.T)")
		}) {
			t.Errorf("%q: there is no test %s", c.says, name)
		}
	}
}

// superuser is the login of pgtest.DB that may everything.
const superuser = ""

// loginsOf are the logins that a row of the table is about.
func loginsOf(row string) []string {
	var logins []string
	for _, login := range []string{Writer, Sealer, Auditor} {
		if strings.Contains(row, login) {
			logins = append(logins, login)
		}
	}
	if strings.Contains(row, Owner) {
		logins = append(logins, "trusted_migrator", superuser)
	}
	return logins
}

// check runs the statements of a claim as a login, each in a transaction that is rolled
// back.
func (c *claim) check(t *testing.T, db *pgtest.DB, row, login string) {
	t.Helper()
	before := "SELECT 1"
	switch login {
	case Writer:
		before = actAsW
	case "trusted_migrator":
		before = "SET LOCAL ROLE sallyport_owner"
	}
	conn := pgtest.Connect(t, db.URL(login))
	for _, other := range []string{Writer, Sealer} {
		pgtest.Connect(t, db.URL(other)) // a session that a login may end
	}
	for _, statement := range c.may {
		if err := attempt(t, conn, before, statement); err != nil {
			t.Errorf("%s: %q: %s: %v", row, c.says, statement, err)
		}
	}
	for _, statement := range c.not {
		// No privilege; refused by a trigger; not what a constraint or function takes.
		if err := attempt(t, conn, before, statement); !slices.Contains([]string{"42501", "23001", "23514", "22023", "22008", "55000"}, pgtest.SQLState(err)) {
			t.Errorf("%s: %q: %s: %v", row, c.says, statement, err)
		}
	}
}

// trustRow is the row of a component in the trust table of SECURITY.md.
func trustRow(t *testing.T, component string) string {
	t.Helper()
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if said, is := strings.CutPrefix(strings.TrimSpace(line), "| "+component+" | "); is {
			return strings.TrimSuffix(said, " |")
		}
	}
	t.Fatalf("the trust table has no row for %s", component)
	return ""
}
