package e2e

import (
	"context"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// database is an audit log, with the files that name it for a configuration.
type database struct {
	admin                       string // the superuser's URL
	urlFile, migrationFile      string
	sealerFile                  string
	password, migrationPassword string
}

// newDatabase is a migrated database on the PostgreSQL of all these tests.
func newDatabase(t testing.TB) *database {
	t.Helper()
	program := released(t)
	db := pgtest.NewFrom(t, "migrated", func(ctx context.Context, url string) error {
		return migrate(ctx, program, url)
	})
	return nameDatabase(t, db)
}

// newServerDatabase is a migrated database on a PostgreSQL of the test's own,
// durable, that can be killed.
func newServerDatabase(t testing.TB) (*database, *pgtest.Server) {
	t.Helper()
	s, db := startMigrated(t, pgtest.Options{})
	return nameDatabase(t, db), s
}

// startMigrated is a PostgreSQL of the test's own with a migrated database.
func startMigrated(t testing.TB, o pgtest.Options) (*pgtest.Server, *pgtest.DB) {
	t.Helper()
	program := released(t)
	return pgtest.StartFrom(t, o, "migrated", func(ctx context.Context, url string) error {
		return migrate(ctx, program, url)
	})
}

// migrate does what an operator of a managed PostgreSQL does: an administrator
// runs what --print-roles prints, and a login that may do nothing but act as the
// owner runs the migrations.
func migrate(ctx context.Context, program, url string) error {
	roles, err := exec.CommandContext(ctx, program, "migrate", "--print-roles").Output()
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, string(roles)+`;
		DO $$ BEGIN
			IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'migrator') THEN
				CREATE ROLE migrator LOGIN NOSUPERUSER NOCREATEROLE;
			END IF;
		END $$;
		GRANT sallyport_owner TO migrator`); err != nil {
		return err
	}
	directory, err := os.MkdirTemp("", "sallyport-migrate-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	config, err := minimalConfig(directory, withUser(url, "migrator", "s3cret-of-the-migration"))
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, program, "migrate", "-c", config).CombinedOutput()
	if err != nil {
		return &migrateError{err, string(out)}
	}
	return nil
}

type migrateError struct {
	err error
	out string
}

func (e *migrateError) Error() string { return "sallyport migrate: " + e.err.Error() + "\n" + e.out }

// minimalConfig is a configuration that is good for migrate, and for nothing else.
func minimalConfig(directory, url string) (string, error) {
	urlFile := filepath.Join(directory, "url")
	if err := os.WriteFile(urlFile, []byte(url), 0o600); err != nil {
		return "", err
	}
	config := filepath.Join(directory, "sallyport.yaml")
	return config, os.WriteFile(config, []byte(`listeners: [{address: "127.0.0.1:0"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "922e118c-f34f-4226-a897-0e0afbec553d"
      issuer: http://127.0.0.1:9/2.0/workspaces/acme/pipelines-config/identity/oidc
      audiences: ["https://egress.acme.example"]
policy: {directory: .}
audit: {database_url_file: url, migration_url_file: url}
`), 0o644)
}

// nameDatabase writes the files with URLs. No role needs a password, and every
// URL has one all the same: it has to be found nowhere. The logins have settings
// that would change the meaning of what is written and read: every test runs with
// them.
func nameDatabase(t testing.TB, db *pgtest.DB) *database {
	t.Helper()
	db.SetHostile(t, "sallyport_writer", "sallyport_sealer", "sallyport_auditor", "migrator")
	directory := t.TempDir()
	d := &database{
		admin:   db.URL(""),
		urlFile: filepath.Join(directory, "database-url"), migrationFile: filepath.Join(directory, "migration-url"),
		sealerFile: filepath.Join(directory, "sealer-url"),
		password:   "s3cret-of-the-writer", migrationPassword: "s3cret-of-the-migration",
	}
	for file, text := range map[string]string{
		d.urlFile:       withUser(d.admin, "sallyport_writer", d.password),
		d.sealerFile:    withUser(d.admin, "sallyport_sealer", d.password),
		d.migrationFile: withUser(d.admin, "migrator", d.migrationPassword),
	} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func withUser(raw, user, password string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err) // pgtest makes URLs
	}
	query := u.Query()
	query.Del("user")
	u.User, u.RawQuery = url.UserPassword(user, password), query.Encode()
	return u.String()
}

// query returns the rows of a statement as JSON objects.
func (w *fixture) query(t testing.TB, sql string, args ...any) []fields {
	t.Helper()
	rows, err := w.tryQuery(sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

func (w *fixture) tryQuery(sql string, args ...any) ([]fields, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	to, err := w.adminURL()
	if err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, to)
	if err != nil {
		return nil, err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, "SELECT to_jsonb(q)::text FROM ("+sql+") q", args...)
	if err != nil {
		return nil, err
	}
	texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	all := make([]fields, len(texts))
	for i, text := range texts {
		if err := json.Unmarshal([]byte(text), &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// alter runs a statement as the superuser.
func (w *fixture) alter(t testing.TB, sql string) {
	t.Helper()
	to, err := w.adminURL()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (w *fixture) adminURL() (string, error) {
	if w.database != nil {
		return w.database.admin, nil
	}
	endpoint, err := pgembed.Locate(filepath.Join(w.data, "postgresql"))
	if err != nil {
		return "", err
	}
	return endpoint.URL("sallyport", pgembed.Superuser), nil
}

// decisions are the rows of audit.decisions of a step, the oldest first, with
// the record as JSON.
func (w *fixture) decisions(t testing.TB, step string) []fields {
	t.Helper()
	return w.query(t, selectDecisions+` WHERE d.step_uuid = $1::text::uuid ORDER BY d.time, e.writer_sequence`, step)
}

// decisionWith is the decision with this id, of any client.
func (w *fixture) decisionWith(t testing.TB, id string) fields {
	t.Helper()
	rows := w.query(t, selectDecisions+` WHERE d.decision_id = $1::text::uuid`, id)
	if len(rows) != 1 {
		t.Fatalf("the decision %s has %d rows: %v", id, len(rows), rows)
	}
	return rows[0]
}

// selectDecisions reads the view for auditors, and the record that the row is a
// copy of.
const selectDecisions = `SELECT d.*, convert_from(audit.record(e), 'UTF8')::json AS record_json
	FROM audit.decisions d JOIN audit.events e ON e.decision_id = d.decision_id AND e.kind = 'decision' AND e.time = d.time`

// decision is the one decision of a step. Where it was allowed, it is waited for
// that it has its end beside it.
func (w *fixture) decision(t testing.TB, c caller) fields {
	t.Helper()
	rows := w.closed(t, c, 1)
	return rows[0]
}

// closed are the n decisions of a step, all ended.
func (w *fixture) closed(t testing.TB, c caller, n int) []fields {
	t.Helper()
	var rows []fields
	eventually(t, "the step's decisions are on record with their ends", func() bool {
		rows = w.decisions(t, c.step.UUID)
		for _, row := range rows {
			if row["verdict"] == "allow" && row["closed_at"] == nil {
				return false
			}
		}
		return len(rows) >= n
	})
	if len(rows) != n {
		t.Fatalf("the step has %d decisions on record, not %d: %v", len(rows), n, rows)
	}
	return rows
}

// both checks one decision: the canonical log line and the audit row agree, and both
// have the expected fields. A field that only the row has is not expected in the line.
func (w *fixture) both(t testing.TB, row, want fields) {
	t.Helper()
	check(t, "audit row", row, want)
	line := w.log.wait(t, "of decision "+show(row["decision_id"]), message("decision", fields{"decision_id": row["decision_id"]}))
	same := fields{}
	for _, name := range []string{"verdict", "mode", "would_deny", "reason", "rule", "action", "host", "port",
		"client_address", "listener", "revision", "workspace_uuid", "repository", "step_uuid", "deployment"} {
		same[name] = row[name]
	}
	if row["repository"] == nil {
		same["repository"] = row["repository_uuid"] // a line names the repository, if only by its UUID
	}
	if row["host"] == nil {
		same["port"] = 0 // a line has all its fields
	}
	if row["verdict"] == "deny" {
		same["status"] = row["status"]
	}
	check(t, "log line", line, same)
	record, _ := row["record_json"].(map[string]any)
	for _, name := range []string{"verdict", "mode", "reason", "rule", "host", "port", "decision_id", "step_uuid", "revision"} {
		if show(record[name]) != show(row[name]) {
			t.Errorf("record: %s is %s, and the column says %s", name, show(record[name]), show(row[name]))
		}
	}
}

// orderly checks the cause of a tunnel that a client has ended after it had all.
// Clients end their connections while the target's last words (TLS's
// close_notify) are on their way: it depends on the moment whether these find it
// gone.
func orderly(t testing.TB, row fields) {
	t.Helper()
	if row["close_reason"] != "finished" && row["close_reason"] != "client_closed" {
		t.Errorf("the tunnel's cause is %v: %v", row["close_reason"], row)
	}
}

// holdsPassword reports whether the connection string has the password: otherwise a test
// for secrets would pass because the secret was never used.
func (d *database) holdsPassword() bool {
	text, err := os.ReadFile(d.urlFile)
	return err == nil && strings.Contains(string(text), d.password)
}

// testWriterEnded: the writer has begun and ended, and none of its numbers is missing.
func testWriterEnded(t *testing.T, w *fixture) {
	writers := w.query(t, `SELECT * FROM audit.writers`)
	if len(writers) != 1 {
		t.Fatalf("there are %d writers: %v", len(writers), writers)
	}
	check(t, "audit.writers", writers[0], fields{"missing": 0})
	if writers[0]["started_at"] == nil || writers[0]["ended_at"] == nil {
		t.Errorf("the writer has no beginning or no end: %v", writers[0])
	}
	open := w.query(t, `SELECT decision_id, host FROM audit.decisions WHERE verdict = 'allow' AND closed_at IS NULL`)
	if len(open) != 0 {
		t.Errorf("allowed and never closed: %v", open)
	}
}

// testLeaves: anybody can compute a record's leaf in plain SQL, and every column
// agrees with the record.
func testLeaves(t *testing.T, w *fixture) {
	wrong := w.query(t, `
		SELECT writer_sequence FROM audit.events e, LATERAL (SELECT convert_from(audit.record(e), 'UTF8')::json AS r) AS parsed
		WHERE coalesce(r ->> 'host', '') <> coalesce(host, '') OR coalesce(r ->> 'reason', '') <> coalesce(reason, '')
		   OR (r ->> 'writer_sequence')::bigint <> writer_sequence OR r ->> 'writer' <> writer
		   OR length(sha256('\x00'::bytea || audit.record(e))) <> 32`)
	if len(wrong) != 0 {
		t.Errorf("rows that do not agree with their record: %v", wrong)
	}
}
