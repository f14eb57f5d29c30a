package e2e

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestPgBouncer: PgBouncer in session mode, with its defaults, works for every login;
// in transaction mode it is refused with the mode's name.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server := pgtest.Shared(t)
	users := []string{"postgres", "sallyport_writer", "sallyport_sealer", "sallyport_auditor", "migrator", "bouncer_psql"}
	w := newFixture(t, options{})
	for _, mode := range []string{"transaction", "session"} { // the last one serves what follows
		status := 0
		if mode == "transaction" {
			status = 1
		}
		directory := server.Bouncer(t, mode, users...)
		for _, file := range []string{w.database.urlFile, w.database.sealerFile, w.database.migrationFile} {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			q.Set("host", directory)
			q.Set("port", "6432")
			u.RawQuery = q.Encode()
			if err := os.WriteFile(file, []byte(u.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if output := w.operatorCommand(t, status, "config", "check", "--online"); status != 0 && !strings.Contains(output, "pool_mode = session") {
			t.Errorf("%s mode: %s", mode, output)
		}
	}
	w.operatorCommand(t, 0, "migrate")
	w.start()
	step := w.anybody()
	w.connect(t, step, "nobody.example:443").refused(t, 403, "no_rule_matched")
	w.operatorCommand(t, 0, "token", "revoke", "--step", step.step.UUID, "--reason", "a test")
	w.connect(t, step, "nobody.example:443").refused(t, 407, "credential_revoked")
	w.sealed(t)
	w.operatorCommand(t, 0, "audit", "verify", "--unanchored")
	w.stop()
	// A login of both roles, which is this test's alone.
	w.alter(t, `DO $$ BEGIN CREATE ROLE bouncer_psql LOGIN IN ROLE sallyport_writer, sallyport_auditor; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
	text, err := os.ReadFile(w.database.urlFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.database.urlFile, []byte(strings.Replace(string(text), "sallyport_writer:", "bouncer_psql:", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut := command(t, "audit", "psql", "--config", w.config, "--role", "auditor", "-At", "-c",
		"SELECT current_user, current_setting('search_path'), current_setting('default_transaction_read_only'), count(*) > 0 FROM audit.events")
	if want := "sallyport_auditor|pg_catalog, pg_temp|on|t\n"; code != 0 || out != want {
		t.Errorf("psql: %d %q %q, want %q", code, out, errOut, want)
	}
	if code, _, errOut := command(t, "audit", "psql", "--config", w.config, "--role", "auditor", "-X", "-c", "SELECT 1/0"); code != 1 || !strings.Contains(errOut, "division by zero") {
		t.Errorf("the status of psql is not passed on: %d %q", code, errOut)
	}
}
