package postgres

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/postgres"
)

// forgeDecision is what somebody with the writer's login adds to the log.
const forgeDecision = `INSERT INTO audit.events (time, kind, writer, writer_sequence, verdict, record)
	SELECT now(), 'decision', $1, 1 + coalesce(max(writer_sequence), 0), 'allow', '{}' FROM audit.events WHERE writer = $1`

// inCopy writes a row with COPY.
func inCopy(t *testing.T, conn *pgx.Conn, writer string, number int64) error {
	t.Helper()
	_, err := conn.CopyFrom(t.Context(), pgx.Identifier{"audit", "events"}, []string{"time", "kind", "writer", "writer_sequence", "record"},
		pgx.CopyFromSlice(1, func(int) ([]any, error) { return []any{time.Now(), "decision", writer, number, []byte("{}")}, nil }))
	return err
}

// TestLoginIsNoWriter: the login alone adds no event under the name of a writer,
// whatever it sets and calls.
func TestLoginIsNoWriter(t *testing.T) {
	t.Parallel()
	db := database(t)
	l := logFor(t, db.URL(postgres.Writer), nil)
	thief, admin := connection(t, db.URL(postgres.Writer)), connection(t, db.URL(""))
	refused := func(how string, err error) {
		t.Helper()
		if sqlState(err) != "42501" {
			t.Errorf("%s: %v", how, err)
		}
	}
	try := func(sql string, args ...any) error {
		_, err := thief.Exec(t.Context(), sql, args...)
		return err
	}
	refused("without a secret", try(forgeDecision, l.Writer()))
	refused("with COPY", inCopy(t, thief, l.Writer(), 2))
	if ask[bool](t, thief, `SELECT audit.register_writer($1, sha256('mine'))`, l.Writer()) {
		t.Error("a name is registered twice")
	}
	mustExec(t, thief, `SELECT set_config('sallyport.writer_secret', 'mine', false)`)
	refused("with another secret", try(forgeDecision, l.Writer()))
	digest := ask[string](t, thief, `SELECT encode(digest, 'hex') FROM audit.writer_registrations WHERE writer = $1`, l.Writer())
	mustExec(t, thief, `SELECT set_config('sallyport.writer_secret', $1, false)`, digest)
	refused("with the digest", try(forgeDecision, l.Writer()))
	mustExec(t, thief, `SELECT set_config('application_name', $1, false)`, applicationName(l.Writer()))
	refused("with the session's name", try(forgeDecision, l.Writer()))

	if !ask[bool](t, thief, `SELECT audit.register_writer('thief', sha256('mine'))`) {
		t.Fatal("it registers under a name of its own")
	}
	mustExec(t, thief, `SELECT set_config('sallyport.writer_secret', 'mine', false)`)
	if err := try(forgeDecision, "thief"); err != nil {
		t.Fatal(err)
	}
	refused("in one statement with an event of its own", try(`INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), 'decision', w, 2, '{}' FROM unnest(ARRAY['thief', $1]) w`, l.Writer()))
	refused("under a name that nobody has", try(forgeDecision, "nobody"))
	refused("as the database", try(forgeDecision, audit.DatabaseWriter))
	mustExec(t, admin, `CREATE SCHEMA theirs; GRANT ALL ON SCHEMA theirs TO sallyport_writer`)
	mustExec(t, thief, `CREATE FUNCTION theirs.yes(bytea, bytea) RETURNS boolean LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR theirs.= (FUNCTION = theirs.yes, LEFTARG = bytea, RIGHTARG = bytea);
		CREATE FUNCTION theirs.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT digest FROM audit.writer_registrations LIMIT 1 $$; SET search_path = theirs, pg_catalog`)
	refused("with an operator of its own", try(forgeDecision, l.Writer()))
	mustExec(t, thief, `RESET search_path`)
	for _, name := range []string{"", "database", "a b", "ünï", "x\n"} {
		if err := try(`SELECT audit.register_writer($1, sha256(''))`, name); sqlState(err) != "22023" {
			t.Errorf("the name %q: %v", name, err)
		}
	}
	record(t, l, decision("allow", 1))

	// Events of which nobody knows the writer are the owner's doing: nobody
	// continues them.
	mustExec(t, admin, `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) VALUES (now(), 'admin', 'restored', 1, '{}')`)
	if ask[bool](t, thief, `SELECT audit.register_writer('restored', sha256('mine'))`) {
		t.Error("the name of a writer with events is registered")
	}
}

// TestWriterSecretIsNeeded takes the trigger away, and what was refused before goes
// through: a false decision under another writer's name.
func TestWriterSecretIsNeeded(t *testing.T) {
	t.Parallel()
	db := database(t)
	l := logFor(t, db.URL(postgres.Writer), nil)
	thief, admin := connection(t, db.URL(postgres.Writer)), connection(t, db.URL(""))
	mustExec(t, admin, `DROP TRIGGER check_event ON audit.events`)
	mustExec(t, thief, forgeDecision, l.Writer())
	if n := ask[int](t, admin, `SELECT count(*) FROM audit.decisions WHERE writer = $1`, l.Writer()); n != 1 {
		t.Errorf("%d false decisions", n)
	}
}

// A writer whose registration is gone with a failover registers again; one whose
// name another took does not write.
func TestRegisteredAgain(t *testing.T) {
	t.Parallel()
	db := database(t)
	l := logFor(t, db.URL(postgres.Writer), nil)
	admin := connection(t, db.URL(""))
	forget := `ALTER TABLE audit.writer_registrations DISABLE TRIGGER ALL; ALTER TABLE audit.events DISABLE TRIGGER ALL; ALTER TABLE ` +
		ask[string](t, admin, `SELECT tableoid::regclass::text FROM audit.events LIMIT 1`) + ` DISABLE TRIGGER ALL;
		DELETE FROM audit.writer_registrations; DELETE FROM audit.events`
	mustExec(t, admin, forget)
	s, err := l.openSession(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.close()
	mustExec(t, admin, `DELETE FROM audit.writer_registrations`)
	thief := connection(t, db.URL(postgres.Writer))
	if !ask[bool](t, thief, `SELECT audit.register_writer($1, sha256('mine'))`, l.Writer()) {
		t.Fatal("the name is not free")
	}
	if _, err := l.openSession(t.Context()); !errors.Is(err, errNameTaken) {
		t.Errorf("a session under a name that another has: %v", err)
	}
	kill(l)
}

// TestJournalHasTheSecret: a journal without the secret of its writer is not
// written to the log, and whoever replays it is itself again.
func TestJournalHasTheSecret(t *testing.T) {
	t.Parallel()
	db, folder := database(t), t.TempDir()
	l := logFor(t, db.URL(postgres.Writer), nil)
	kill(l)
	j := &journal{folder: folder, writer: l.Writer(), secret: newSecret(), spool: true, maxBytes: 1 << 20, maxAge: 1 << 50}
	if err := j.append(rowsOf(l.Writer(), 2, 10), rowsOf(l.Writer(), 2, 1).rows[0].time); err != nil {
		t.Fatal(err)
	}
	j.close()
	if info, err := os.Stat(j.path()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal: %v, %v", info.Mode(), err)
	}
	next := logFor(t, db.URL(postgres.Writer), func(c *Config) { c.Journal = folder })
	record(t, next, decision("allow", 1))
	if n := ask[int](t, connection(t, db.URL("")), `SELECT count(*) FROM audit.events WHERE writer = $1`, l.Writer()); n != 1 {
		t.Errorf("%d events of the writer, and one is its own", n)
	}
	if kept, _ := filepath.Glob(filepath.Join(folder, "*.damaged")); len(kept) != 1 {
		t.Errorf("kept: %v", kept)
	}
}
