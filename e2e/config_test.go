package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestConfigCheckOnline: a sound configuration passes every check; what works and
// should not stay so is a warning; what does not work is named with the remedy.
func TestConfigCheckOnline(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{tls: true})
	output := w.operatorCommand(t, 0, "config", "check", "--online")
	for _, want := range []string{`ok     database: "sallyport_writer"`, `ok     sealer's database: "sallyport_sealer"`, "ok     workspace acme:", "the access token reads the workspace, whose UUID is right; the access token has the scopes repository, pipeline",
		"clocks differ by 2s at most", "ok     policy: directory", "ok     certificate of listeners[1]: for 127.0.0.1 until ", "steps need the file of its authority", "accepted"} {
		if !strings.Contains(output, want) {
			t.Errorf("no %q in\n%s", want, output)
		}
	}
	if strings.Contains(output, "FAILED") || strings.Contains(output, "warning database") {
		t.Error(output)
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
		if output := w.operatorCommand(t, status, "config", "check", "--online"); !strings.Contains(output, want) {
			t.Errorf("%s: no %q in\n%s", user, want, output)
		}
	}
	if err := os.WriteFile(w.database.urlFile, sound, 0o600); err != nil {
		t.Fatal(err)
	}
	checkScopes(t, w)
	checkClock(t, w)
	checkUpstreams(t, w)
	w.Workspace.SetAccessTokens("another")
	if output := w.operatorCommand(t, 1, "config", "check", "--online"); !strings.Contains(output, "FAILED workspace acme") || !strings.Contains(output, "access token") {
		t.Errorf("a token that is not valid any more:\n%s", output)
	}
	w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
	if output := w.operatorCommand(t, 1, "config", "check", "--online"); !strings.Contains(output, "503") {
		t.Errorf("an issuer that fails:\n%s", output)
	}
	// Nothing was made.
	if entries, _ := os.ReadDir(w.data); len(entries) != 0 {
		t.Errorf("data_directory has %v", entries)
	}
}

// checkScopes: a scope that is missing, and one that is too much, is a warning with its
// effect; where the API reports none, that is not compared with the token.
func checkScopes(t *testing.T, w *fixture) {
	t.Helper()
	token := w.accessToken(t)
	for want, scopes := range map[string][]string{
		"lacks the scope pipeline, so that names of deployments are not known":                  {"repository"},
		"has the scope repository:write, with which every reader of its file can change things": {"repository:write", "pipeline"},
		"has the scopes read:repository:bitbucket, read:pipeline:bitbucket":                     {"read:repository:bitbucket", "read:pipeline:bitbucket"},
	} {
		w.Workspace.SetAccessTokens()
		w.Workspace.AddAccessToken(token, scopes...)
		if output := w.operatorCommand(t, 0, "config", "check", "--online"); !strings.Contains(output, want) || strings.Contains(want, "read:") && strings.Contains(output, "warning workspace") {
			t.Errorf("%v: no %q in\n%s", scopes, want, output)
		}
	}
	w.Bitbucket.HideScopes()
	w.Workspace.SetAccessTokens(token)
	if output := w.operatorCommand(t, 0, "config", "check", "--online"); !strings.Contains(output, "the API does not report the access token's scopes") || strings.Contains(output, "warning workspace") {
		t.Errorf("the scopes are not reported: %s", output)
	}
}

// accessToken is the API's token of the configuration.
func (w *fixture) accessToken(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "token_file: ")
	name, _, _ := strings.Cut(rest, "\n")
	if text, err = os.ReadFile(strings.Trim(name, " }\"")); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// checkClock: the issuer's Date field is compared with this machine's clock.
func checkClock(t *testing.T, w *fixture) {
	t.Helper()
	for want, ahead := range map[string]time.Duration{
		"it is behind by more than identity.leeway": time.Hour, "it is ahead by more than identity.leeway": -time.Hour,
	} {
		fault := w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Fault{Header: http.Header{"Date": {time.Now().Add(ahead).UTC().Format(http.TimeFormat)}}})
		output := w.operatorCommand(t, 0, "config", "check", "--online")
		fault.Clear()
		if !strings.Contains(output, want) || !strings.Contains(output, "synchronize it with NTP") {
			t.Errorf("no %q in\n%s", want, output)
		}
	}
}

// checkUpstreams: an upstream proxy receives a CONNECT.
func checkUpstreams(t *testing.T, w *fixture) {
	t.Helper()
	sound, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	credential := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(credential, []byte("user:password\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]struct {
		status int
		answer string
	}{
		"it opens tunnels":                               {0, "HTTP/1.1 200 Connection established\r\n\r\n"},
		"it answers 407: correct user and password":      {1, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"},
		"with 403 Forbidden: if steps need such targets": {0, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"},
		"does not answer CONNECT as an HTTP proxy":       {1, "SSH-2.0-OpenSSH_9.2\r\n"},
	} {
		upstream := answering(t, c.answer)
		text := strings.Replace(string(sound), "egress:\n", fmt.Sprintf("egress:\n  upstream_proxies: [{proxy: \"http://%s\", credential_file: %q}]\n", upstream, credential), 1)
		if text == string(sound) {
			t.Fatalf("no egress in\n%s", sound)
		}
		if err := os.WriteFile(w.config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if output := w.operatorCommand(t, c.status, "config", "check", "--online"); !strings.Contains(output, want) {
			t.Errorf("no %q in\n%s", want, output)
		}
	}
	if err := os.WriteFile(w.config, sound, 0o600); err != nil {
		t.Fatal(err)
	}
}

// answering listens, reads a head and gives always the same answer.
func answering(t *testing.T, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = conn.Write([]byte(answer))
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// TestCheckEmbedded: `config check --online` names the PostgreSQL that serve would
// start, a cluster of another version, and the login where it runs.
func TestCheckEmbedded(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{embedded: true})
	if output := w.operatorCommand(t, 0, "config", "check", "--online"); !strings.Contains(output, "not running; serve starts PostgreSQL 1") {
		t.Error(output)
	}
	w.start()
	if output := w.operatorCommand(t, 0, "config", "check", "--online"); !strings.Contains(output, `ok     database: "sallyport_writer" on PostgreSQL`) {
		t.Error(output)
	}
	w.stop()
	if err := os.WriteFile(filepath.Join(w.data, "postgresql", "data", "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if output := w.operatorCommand(t, 1, "config", "check", "--online"); !strings.Contains(output, "was made by PostgreSQL 9") {
		t.Error(output)
	}
}

// TestStartWithPartsUnavailable: a server starts with a login that can change the log, and
// with a policy.directory that has gone, and reports both.
func TestStartWithPartsUnavailable(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	w.stop()
	if err := os.Rename(w.policy, w.policy+".gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.database.urlFile, []byte(withUser(w.database.admin, "postgres", w.database.password)), 0o600); err != nil {
		t.Fatal(err)
	}
	if output := w.operatorCommand(t, 0, "config", "check"); !strings.Contains(output, "warning policy: the last good revision would decide") {
		t.Errorf("config check: %s", output)
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
	w := newFixture(t, options{tls: true})
	text, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"key.pem", "bitbucket-token"} { // root can read any file that exists
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
	w.operatorCommand(t, 0, "migrate")
	w.operatorCommand(t, 0, "audit", "retention", "--dry-run")
	w.operatorCommand(t, 0, "audit", "hold", "list")
	if output := w.operatorCommand(t, 1, "tunnels", "list"); !strings.Contains(output, "no instance is running") {
		t.Error(output)
	}
	for _, args := range [][]string{{"serve"}, {"config", "check"}} {
		if output := w.operatorCommand(t, 2, args...); !strings.Contains(output, "database_url_file") || !strings.Contains(output, "token_file") || !strings.Contains(output, "key_file") {
			t.Errorf("%v: %s", args, output)
		}
	}
	// What a command needs is named where it is missing.
	if err := os.Remove(w.database.migrationFile); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"migrate"}, {"audit", "retention", "--dry-run"}, {"audit", "verify", "--unanchored"}} {
		code, _, output := command(t, append(args, "-c", w.config)...)
		if code != 2 || !strings.Contains(output, "does not exist") {
			t.Errorf("%v: %d %s", args, code, output)
		}
	}
}
