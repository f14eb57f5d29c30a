package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestConfigCheckOnline: a sound configuration passes every check; what works and
// should not stay so is a warning; what does not work is named with the remedy.
func TestConfigCheckOnline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{tls: true})
	said := w.tell(t, 0, "config", "check", "--online")
	for _, want := range []string{`ok     database: "sallyport_writer"`, `ok     sealer's database: "sallyport_sealer"`, "ok     workspace acme:", "the access token reads the workspace", "ok     policy: directory", "accepted"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in\n%s", want, said)
		}
	}
	if strings.Contains(said, "FAILED") || strings.Contains(said, "warning database") {
		t.Error(said)
	}

	sound, err := os.ReadFile(w.database.urlFile)
	if err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{
		"postgres": "is a superuser, and can change the log", "migrator": "is not a member of sallyport_writer",
		"sallyport_auditor": "is not a member of sallyport_writer",
	} {
		if err := os.WriteFile(w.database.urlFile, []byte(withUser(w.database.admin, user, w.database.password)), 0o600); err != nil {
			t.Fatal(err)
		}
		status := 1
		if user == "postgres" {
			status = 0
		}
		if said := w.tell(t, status, "config", "check", "--online"); !strings.Contains(said, want) {
			t.Errorf("%s: no %q in\n%s", user, want, said)
		}
	}
	if err := os.WriteFile(w.database.urlFile, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	w.Workspace.SetAccessTokens("another")
	if said := w.tell(t, 1, "config", "check", "--online"); !strings.Contains(said, "FAILED workspace acme") || !strings.Contains(said, "access token") {
		t.Errorf("a token that is not valid any more:\n%s", said)
	}
	w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
	if said := w.tell(t, 1, "config", "check", "--online"); !strings.Contains(said, "503") {
		t.Errorf("an issuer that fails:\n%s", said)
	}
	// Nothing was made.
	if entries, _ := os.ReadDir(w.data); len(entries) != 0 {
		t.Errorf("data_directory has %v", entries)
	}
}

// TestStartWithLessThanAll: a server starts with a login that can change the log, and
// with a policy.directory that has gone, and says so.
func TestStartWithLessThanAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.start()
	w.stop()
	if err := os.Rename(w.policy, w.policy+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.database.urlFile, []byte(withUser(w.database.admin, "postgres", w.database.password)), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := w.tell(t, 0, "config", "check"); !strings.Contains(said, "warning policy: the last good revision would decide") {
		t.Errorf("config check: %s", said)
	}
	w.restart()
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	status, answer := w.readyz()
	warnings := show(answer["warnings"])
	if status != 200 || !strings.Contains(warnings, "is a superuser, and can change the log") {
		t.Errorf("/readyz: %d %v", status, answer)
	}
	if !strings.Contains(w.log.text(), "is a superuser") || !strings.Contains(w.log.text(), "last good revision") {
		t.Error("the log does not have both")
	}
}

// TestLeastPrivilege: a command reads the files that it needs, and no others: the
// login that migrates and keeps retention cannot read the server's secrets.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{tls: true})
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"key.pem", "bitbucket-token"} { // root can read anything, but what is not there
		changed := strings.ReplaceAll(string(text), secret, "missing-"+secret)
		if changed == string(text) {
			t.Fatalf("the configuration has no %s:\n%s", secret, text)
		}
		text = []byte(changed)
	}
	text = []byte(strings.Replace(string(text), w.database.urlFile, filepath.Join(t.TempDir(), "gone"), 1))
	if err := os.WriteFile(w.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.tell(t, 0, "migrate")
	w.tell(t, 0, "audit", "retention", "--dry-run")
	w.tell(t, 0, "audit", "hold", "list")
	if said := w.tell(t, 1, "tunnels", "list"); !strings.Contains(said, "no instance is running") {
		t.Error(said)
	}
	for _, args := range [][]string{{"serve"}, {"config", "check"}} {
		if said := w.tell(t, 2, args...); !strings.Contains(said, "database_url_file") || !strings.Contains(said, "token_file") || !strings.Contains(said, "key_file") {
			t.Errorf("%v: %s", args, said)
		}
	}
	// What a command needs is named where it is missing.
	if err := os.Remove(w.database.migrationFile); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate"}, {"audit", "retention", "--dry-run"}, {"audit", "verify", "--unanchored"}} {
		code, _, said := command(t, append(args, "-c", w.config)...)
		if code != 2 || !strings.Contains(said, "does not exist") {
			t.Errorf("%v: %d %s", args, code, said)
		}
	}
}
