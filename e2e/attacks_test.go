package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// TestReadersAfterAttacks: an attacker with the logins of the server adds what the
// log accepts, at the bounds of numbers and times and of no form at all. The
// server records and seals, and every command that reads the log answers.
func TestReadersAfterAttacks(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	key := filepath.Join(t.TempDir(), "key")
	public := newKeyFile(t, key)
	w.seals(t, fmt.Sprintf("  signing_key_file: %q\n  checkpoints: {interval: 200ms}\n", key))
	w.start()
	from := time.Now().Add(-time.Minute)
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	w.sealed(t)

	open := func(login string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), withUser(w.database.admin, login, ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		// The logins have hostile settings, which are not the attack here.
		if _, err := conn.Exec(t.Context(), `SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET exit_on_error = off; SET lock_timeout = 0;
			SET idle_session_timeout = 0; SET default_transaction_isolation = 'read committed'; SET default_transaction_deferrable = off`); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	writer, sealer := open("sallyport_writer"), open("sallyport_sealer")
	if _, err := writer.Exec(t.Context(), `SELECT set_config('sallyport.writer_secret', 's', false)`); err != nil {
		t.Fatal(err)
	}
	// m1 to m4 are writers whose names the session may use: the SHA-256 of "s".
	named := strings.NewReplacer("'m1'", "'00000000000a-BDpxh3TFcr2KJa2-sb_NXA'", "'m2'", "'00000000000b-BDpxh3TFcr2KJa2-sb_NXA'", "'m3'", "'00000000000c-BDpxh3TFcr2KJa2-sb_NXA'", "'m4'", "'00000000000d-BDpxh3TFcr2KJa2-sb_NXA'", `"m1"`, `"00000000000a-BDpxh3TFcr2KJa2-sb_NXA"`)
	for _, sql := range []string{
		`SELECT audit.ensure_partition('1970-01-01'), audit.ensure_partition('9999-12-31')`,
		// The largest number, and a gap behind which nothing of that writer is sealed.
		addEvent + ` VALUES (now(), 'decision', 'm1', 9007199254740991, '\xff', 'allow', gen_random_uuid())`,
		// The first and the last time, and a decision of no form.
		addEvent + ` VALUES (now(), 'writer_started', 'm2', 1, '{"attributes":{}}', NULL, NULL), (now(), 'writer_started', 'm3', 1, '{"attributes":{}}', NULL, NULL)`,
		addEvent + ` VALUES ('9999-12-31 23:59:59.999999Z', 'decision', 'm2', 13, '{}', 'allow', gen_random_uuid())`,
		addEvent + ` VALUES ('1970-01-01 00:00:00Z', 'decision', 'm2', 2, '', 'x', NULL)`,
		addEvent + ` VALUES (now(), 'decision', 'm2', 3, '\x00ff', 'deny', gen_random_uuid())`,
		addEvent + ` VALUES (now(), 'tunnel_closed', 'm2', 4, '[]', NULL, gen_random_uuid())`,
		addEvent + ` VALUES (now(), 'no such kind', 'm2', 5, '{"attributes":{}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'writer_lost', 'm2', 6, '{"attributes":{"writer":"m1","last_sequence":"x"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'hold_set', 'm2', 7, '{"attributes":{"first_day":"x"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'retention', 'm2', 8, '{"attributes":{"month":"x","leaves":"x"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'signing_key', 'm2', 9, '{"attributes":{"key":"x"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'reconciled', 'm2', 10, '{"attributes":{"until":"9999-12-31","outcome":"whole","digest":"x"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'self_test', 'm2', 11, '{"attributes":{}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'policy_loaded', 'm2', 12, '{"attributes":{"author":"\\u0007"}}', NULL, NULL)`,
		addEvent + ` VALUES (now(), 'writer_ended', 'm3', 2, '{"attributes":{}}', NULL, NULL)`,
		// A number twice.
		addEvent + ` VALUES (now(), 'decision', 'm4', 1, '{}', 'allow', NULL), (now() + '1 s', 'decision', 'm4', 1, '{}', 'allow', NULL)`,
	} {
		if _, err := writer.Exec(t.Context(), named.Replace(sql)); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	// What would make a view fail is refused.
	for _, row := range []string{
		`('infinity', 'decision', 'm3', 2, '{}', 'allow', NULL)`, `(now(), 'decision', 'm3', 9007199254740992, '{}', 'allow', NULL)`,
		`(now(), 'self_test', 'm3', 2, '\xff', NULL, NULL)`, `(now(), 'writer_lost', 'm3', 2, 'x', NULL, NULL)`,
		`(now(), 'policy_loaded', 'm3', 2, '{"attributes":{"a":1}}', NULL, NULL)`, `(now(), 'admin', 'm3', 2, '{"attributes":{"a":"\\u0000"}}', NULL, NULL)`,
		`(now(), 'reconciled', 'm3', 2, '{"attributes":{"reconciliation":"x"}}', NULL, NULL)`, `(now(), 'reconciled', 'm3', 2, '{"attributes":{"until":"x"}}', NULL, NULL)`,
	} {
		if _, err := writer.Exec(t.Context(), named.Replace(addEvent+" VALUES "+row)); err == nil || strings.Contains(err.Error(), "42501") {
			t.Errorf("%s is taken", row)
		}
	}
	bogusCheckpoint(t, sealer)

	// The server continues.
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	eventually(t, "what can be sealed is", func() bool {
		rows := w.query(t, named.Replace(`SELECT count(*) AS n FROM audit.events e WHERE writer NOT IN ('m1', 'm4') AND NOT EXISTS (
			SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`))
		return fmt.Sprint(rows[0]["n"]) == "0"
	})
	admin := open("postgres")
	t.Cleanup(func() { // the search for secrets reads every record as text
		_, err := admin.Exec(context.Background(), `SET session_replication_role = replica; ALTER TABLE audit.events DISABLE TRIGGER ALL;
			DO $$ DECLARE p regclass; BEGIN FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass LOOP
				EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', p); END LOOP; END $$;
			DELETE FROM audit.events WHERE writer LIKE '00000000000_-%'`)
		if err != nil {
			t.Error(err)
		}
	})
	views := w.query(t, `SELECT c.oid::regclass::text AS v FROM pg_class c WHERE relkind = 'v' AND relnamespace IN ('audit'::regnamespace, 'identity'::regnamespace)`)
	for _, v := range views {
		if _, err := admin.Exec(t.Context(), fmt.Sprintf(`SELECT * FROM %s`, v["v"])); err != nil {
			t.Errorf("the view %s: %v", v["v"], err)
		}
	}

	login := filepath.Join(t.TempDir(), "auditor-url")
	if err := os.WriteFile(login, []byte(withUser(w.database.admin, "sallyport_auditor", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	honest := fmt.Sprint(w.query(t, `SELECT decision_id FROM audit.events WHERE kind = 'decision' AND writer NOT LIKE '00000000000_-%' LIMIT 1`)[0]["decision_id"])
	for _, tt := range []struct {
		status int
		want   string
		args   []string
	}{
		{1, "00000000000b-", []string{"verify", "--key", public, "--checkpoint", filepath.Join(w.data, "checkpoints")}},
		{0, "", []string{"export", "--out", filepath.Join(out, "log.jsonl")}},
		{1, "", []string{"evidence", "--signing-key", key, "--key", public, "--checkpoint", filepath.Join(w.data, "checkpoints"), "--out", filepath.Join(out, "pack"),
			"--since", from.Format(time.RFC3339Nano), "--until", time.Now().Format(time.RFC3339Nano)}},
		{0, "", []string{"hold", "set", "--since", "2026-10", "--reason", "r"}},
		{0, "r", []string{"hold", "list"}},
		{0, "", []string{"retention", "--dry-run"}},
		{0, "00000000000a-", []string{"stats", "--since", "1d"}},
		{0, "nobody.example", []string{"query", "--since", "1d", "--format", "json"}},
		{0, "not readable", []string{"query", "--since", "1d", "--format", "json", "--columns", "all"}},
		{0, honest, []string{"show", honest}},
		{0, "", []string{"proof", honest}},
	} {
		code, output, errOut := command(t, append([]string{"audit", tt.args[0]}, append(tt.args[1:], "--database-url-file", login)...)...)
		if code != tt.status || !strings.Contains(output, tt.want) {
			t.Errorf("%v ended with %d, not %d, or says nothing of %q:\n%s%s", tt.args, code, tt.status, tt.want, output, errOut)
		}
	}
}

const addEvent = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record, verdict, decision_id)`

// bogusCheckpoint adds a checkpoint of the present size that an unknown key has signed.
func bogusCheckpoint(t *testing.T, sealer *pgx.Conn) {
	t.Helper()
	private, err := audit.GenerateKey("log.example/nobody")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a bogus checkpoint is in the log", func() bool { // the server may be quicker
		c := audit.Checkpoint{Time: time.Now()}
		var root []byte
		if err := sealer.QueryRow(t.Context(), `SELECT size, root FROM audit.checkpoints ORDER BY number DESC LIMIT 1`).Scan(&c.Size, &root); err != nil {
			t.Fatal(err)
		}
		c.Root = audit.Hash(root)
		note, err := signer.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		_, err = sealer.Exec(t.Context(), `SELECT audit.add_checkpoint('{}', '{}', '{}', $1)`, string(note))
		return err == nil
	})
}
