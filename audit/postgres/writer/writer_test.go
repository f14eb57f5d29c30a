package writer

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// forgeDecision is what an attacker with the writer's login adds to the log.
const forgeDecision = `INSERT INTO audit.events (time, kind, writer, writer_sequence, verdict, record)
	SELECT now(), 'decision', $1, 1 + coalesce(max(writer_sequence), 0), 'allow', '{}' FROM audit.events WHERE writer = $1`

// inCopy writes a row with COPY.
func inCopy(t *testing.T, conn *pgx.Conn, writer string, number int64) error {
	t.Helper()
	_, err := conn.CopyFrom(t.Context(), pgx.Identifier{"audit", "events"}, []string{"time", "kind", "writer", "writer_sequence", "record"},
		pgx.CopyFromSlice(1, func(int) ([]any, error) { return []any{time.Now(), "decision", writer, number, []byte("{}")}, nil }))
	return err
}

// TestWriterNames: a name sorts by the start of its writer, and carries the digest
// that the database computes as well.
func TestWriterNames(t *testing.T) {
	t.Parallel()
	if got := auditpg.SecretDigest("abc"); got != "ungWv48Bz-pBQUDeXa4iIw" { // FIPS 180-4, in base64url
		t.Error(got)
	}
	early, secret := auditpg.NewWriter(time.UnixMilli(9))
	late, other := auditpg.NewWriter(time.UnixMilli(16))
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(raw) != 32 || secret == other {
		t.Errorf("a secret of %d bytes: %v", len(raw), err)
	}
	if len(early) != 35 || early[:13] != "000000000009-" || late[:13] != "000000000010-" || early >= late {
		t.Error(early, late)
	}
	// The longest name that a session of PostgreSQL may have.
	if n := len(auditpg.ApplicationName(early)); n > 63 {
		t.Errorf("the name of a session has %d bytes", n)
	}
	if !auditpg.IsNamedBy(early, secret) || auditpg.IsNamedBy(early, other) || auditpg.IsNamedBy("", "") || auditpg.IsNamedBy(early[:13]+auditpg.SecretDigest(""), "") {
		t.Error("who is named by what")
	}
	thief := audittest.Connect(t, audittest.Migrated(t).URL(database.Writer))
	for range 40 { // half of them have a character that base64 and base64url write differently
		audittest.MustExec(t, thief, forgeDecision, audittest.ActAs(t, thief))
	}
}

// TestLoginIsNoWriter: the login alone adds no event under the name of a writer,
// whatever it sets, calls or sends.
func TestLoginIsNoWriter(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	thief, admin := audittest.Connect(t, db.URL(database.Writer)), audittest.Connect(t, db.URL(""))
	refused := func(how string, err error) {
		t.Helper()
		if audittest.SQLState(err) != "42501" {
			t.Errorf("%s: %v", how, err)
		}
	}
	try := func(sql string, args ...any) error {
		_, err := thief.Exec(t.Context(), sql, args...)
		return err
	}
	show := func(secret string) {
		t.Helper()
		audittest.MustExec(t, thief, `SELECT set_config('sallyport.writer_secret', $1, false)`, secret)
	}
	start, digest := l.Writer()[:13], l.Writer()[13:]
	refused("without a secret", try(forgeDecision, l.Writer()))
	refused("with COPY", inCopy(t, thief, l.Writer(), 2))
	show("")
	refused("with an empty secret", try(forgeDecision, start+auditpg.SecretDigest("")))
	audittest.MustExec(t, thief, `RESET sallyport.writer_secret`)
	refused("with a secret that was reset", try(forgeDecision, start+auditpg.SecretDigest("")))
	show("mine")
	refused("with another secret", try(forgeDecision, l.Writer()))
	show(digest)
	refused("with the digest", try(forgeDecision, l.Writer()))
	show(l.Writer())
	refused("with the name", try(forgeDecision, l.Writer()))
	audittest.MustExec(t, thief, `SELECT set_config('application_name', $1, false)`, auditpg.ApplicationName(l.Writer()))
	refused("with the session's name", try(forgeDecision, l.Writer()))

	own := audittest.ActAs(t, thief)
	if err := try(forgeDecision, own); err != nil {
		t.Fatal(err)
	}
	const both = `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) SELECT now(), 'decision', w, 2, '{}' FROM unnest(ARRAY[$2, $1]) w`
	refused("in one statement with an event of its own", try(both, l.Writer(), own))
	refused("with another secret for each row", try(both+` WHERE set_config('sallyport.writer_secret', CASE w WHEN $2 THEN current_setting('sallyport.writer_secret') ELSE $3 END, true) <> ''`, l.Writer(), own, digest))
	refused("under a name that nobody has", try(forgeDecision, "nobody"))
	refused("as the database", try(forgeDecision, audit.DatabaseWriter))
	for _, name := range []string{
		own[13:], own[12:], own[1:], "0" + own, own + "=", own + " ", own[:13], "", strings.ToUpper(own[:12]) + "G-" + own[13:], // of another length
		"<b>=1+1 \x1b-x-" + own[13:], "00000000000g-" + own[13:], "ABCDEFABCDEF-" + own[13:], "0000-0000000-" + own[13:], "0000000000000" + own[13:], "ééééééééééé0-" + own[13:], // of another form
	} {
		refused("as "+name, try(forgeDecision, name))
	}
	audittest.MustExec(t, admin, `CREATE SCHEMA theirs; GRANT ALL ON SCHEMA theirs TO sallyport_writer`)
	audittest.MustExec(t, thief, `CREATE FUNCTION theirs.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR theirs.= (FUNCTION = theirs.same, LEFTARG = text, RIGHTARG = text);
		CREATE FUNCTION theirs.no(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT false'; CREATE OPERATOR theirs.<> (FUNCTION = theirs.no, LEFTARG = text, RIGHTARG = text);
		CREATE FUNCTION theirs.substr(text, int) RETURNS text LANGUAGE sql AS $$ SELECT '-' $$; CREATE FUNCTION theirs.translate(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$;
		CREATE FUNCTION theirs.pg_has_role(oid, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'; SET search_path = theirs, pg_catalog`)
	refused("with functions and operators of its own", try(forgeDecision, l.Writer()))
	audittest.MustExec(t, thief, `RESET search_path`)
	audittest.Record(t, l, audittest.Decision("allow", 1))
}

// TestWriterSecretIsNeeded weakens each part of the check, and what was refused
// before goes through.
func TestWriterSecretIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := logFor(t, db.URL(database.Writer), nil)
	thief, admin := audittest.Connect(t, db.URL(database.Writer)), audittest.Connect(t, db.URL(""))
	installed := audittest.QueryValue[string](t, admin, `SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname = 'check_writer' AND tgrelid = 'audit.events'::regclass`)
	without := func(part, instead string) string {
		if !strings.Contains(installed, part) {
			t.Fatalf("the trigger has no %s: %s", part, installed)
		}
		return `DROP TRIGGER check_writer ON audit.events; ` + strings.Replace(installed, part, instead, 1)
	}
	own := audittest.ActAs(t, thief)
	for _, c := range []struct{ what, weaken, secret, name string }{
		{"the trigger", `DROP TRIGGER check_writer ON audit.events`, "mine", l.Writer()},
		{"the comparison", without("substr(new.writer, 13) IS DISTINCT FROM", "new.writer IS NULL AND ''::text <>"), "mine", l.Writer()},
		{"that an empty secret is none", without("NULLIF(current_setting('sallyport.writer_secret'::text, true), ''::text)", "current_setting('sallyport.writer_secret'::text, true)"), "", own[:13] + auditpg.SecretDigest("")},
		{"the form of the time", without("ltrim(\"left\"(new.writer, 12), '0123456789abcdef'::text)", "''::text"), "mine", "<b>=1+1<br/>-" + auditpg.SecretDigest("mine")},
		{"the function", `CREATE OR REPLACE FUNCTION audit.check_writer() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`, "mine", l.Writer()},
	} {
		audittest.MustExec(t, thief, `SELECT set_config('sallyport.writer_secret', $1, false)`, c.secret)
		if _, err := thief.Exec(t.Context(), forgeDecision, c.name); audittest.SQLState(err) != "42501" {
			t.Errorf("with %s: %v", c.what, err)
		}
		tx, err := admin.Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		audittest.MustExec(t, admin, c.weaken)
		audittest.MustExec(t, admin, `SET LOCAL ROLE sallyport_writer`)
		audittest.MustExec(t, admin, `SELECT set_config('sallyport.writer_secret', $1, true)`, c.secret)
		if _, err := admin.Exec(t.Context(), forgeDecision, c.name); err != nil {
			t.Errorf("without %s it is refused: %v", c.what, err)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestJournalHasTheSecret: a journal without the secret of its writer is not
// written to the log, and after the replay the process is its own writer again.
func TestJournalHasTheSecret(t *testing.T) {
	t.Parallel()
	db, folder := audittest.Migrated(t), t.TempDir()
	l := logFor(t, db.URL(database.Writer), nil)
	kill(l)
	j := &journal{folder: folder, writer: l.Writer(), secret: "another", spool: true, maxBytes: 1 << 20, maxAge: 1 << 50}
	if err := j.append(rowsOf(l.Writer(), 2, 10), rowsOf(l.Writer(), 2, 1).rows[0].time); err != nil {
		t.Fatal(err)
	}
	j.close()
	if info, err := os.Stat(j.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal: %v, %v", info.Mode(), err)
	}
	next := logFor(t, db.URL(database.Writer), func(c *Config) { c.Journal = folder })
	audittest.Record(t, next, audittest.Decision("allow", 1))
	if n := audittest.QueryValue[int](t, audittest.Connect(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE writer = $1`, l.Writer()); n != 1 {
		t.Errorf("%d events of the writer, and one is its own", n)
	}
	if kept, _ := filepath.Glob(filepath.Join(folder, "*.damaged")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}
