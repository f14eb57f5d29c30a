package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/pgembed"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestFailedStarts: every cause that prevents a start ends the server with one clear
// message and a status, and leaves nothing running.
func TestFailedStarts(t *testing.T) {
	t.Parallel()
	edit := func(from, to string) func(*testing.T, *fixture) {
		return func(t *testing.T, w *fixture) {
			t.Helper()
			text, err := os.ReadFile(w.config)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(text), from) {
				t.Fatalf("the configuration has no %q:\n%s", from, text)
			}
			if err := os.WriteFile(w.config, []byte(strings.Replace(string(text), from, to, 1)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	url := func(change func(*testing.T, *fixture) string) func(*testing.T, *fixture) {
		return func(t *testing.T, w *fixture) {
			t.Helper()
			if err := os.WriteFile(w.database.urlFile, []byte(change(t, w)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	take := func(address func(*fixture) string) func(*testing.T, *fixture) {
		return func(t *testing.T, w *fixture) {
			t.Helper()
			l, err := net.Listen("tcp", address(w))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}
	}
	fromGit := func(url, more string) func(*testing.T, *fixture) {
		return func(t *testing.T, w *fixture) {
			t.Helper()
			edit(fmt.Sprintf("  directory: %q\n", w.policy), fmt.Sprintf("  git: {url: %q}\n%s", url, more))(t, w)
		}
	}
	for _, c := range []struct {
		name   string
		set    options
		spoil  func(*testing.T, *fixture)
		status int
		says   []string
	}{
		{"unknown key", options{}, edit("  resolvers:", "  resolver:"), 2, []string{"sallyport.yaml:", "resolver", "resolvers"}},
		{"several mistakes at once", options{}, edit("admin:\n  address: ", "admn: {}\nadmin:\n  adress: "), 2, []string{"admn", "adress", "address"}},
		{"missing configuration", options{}, func(_ *testing.T, w *fixture) { w.config += ".gone" }, 2, []string{"sallyport.yaml.gone", "does not exist", "-c FILE"}},
		{"missing token file", options{}, edit("bitbucket-token", "bitbucket-tokn"), 2, []string{"sallyport.yaml:11:", "api.token_file", "does not exist"}},
		{"missing policy directory", options{}, func(t *testing.T, w *fixture) {
			if err := os.RemoveAll(w.policy); err != nil {
				t.Fatal(err)
			}
		}, 2, []string{"policy.directory"}},
		{"neither database nor embedded", options{embedded: true}, edit("  embedded: true\n", "  on_outage: deny\n"), 2, []string{"database_url_file", "embedded: true"}},
		{"policy that does not compile", options{embedded: true}, func(t *testing.T, w *fixture) {
			if err := os.WriteFile(filepath.Join(w.policy, "egress", "bad.rego"), []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if nobody_knows\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, 1, []string{"does not load", "egress/bad.rego:3"}},
		{"policy that reaches outside", options{embedded: true}, func(t *testing.T, w *fixture) {
			if err := os.WriteFile(filepath.Join(w.policy, "egress", "bad.rego"), []byte("package sallyport.egress\n\nallow contains {\"rule\": \"x\"} if http.send({\"method\": \"GET\", \"url\": \"http://127.0.0.1/\"}).status_code == 200\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, 1, []string{"does not load", "egress/bad.rego:3", "http.send"}},
		{"nothing listens for the database", options{}, url(func(t *testing.T, w *fixture) string {
			return "postgres://sallyport_writer:s3cret-of-the-writer@" + freeAddress(t) + "/sallyport"
		}), 1, []string{"audit log", "nothing listens", "PostgreSQL"}},
		{"database that does not answer", options{}, url(func(t *testing.T, w *fixture) string {
			silent := newTap(t, "127.0.0.1:0", nil)
			return "postgres://sallyport_writer:s3cret-of-the-writer@127.0.0.1:" + silent.port + "/sallyport?connect_timeout=1"
		}), 1, []string{"audit log", "does not answer"}},
		{"no schema", options{}, url(func(t *testing.T, w *fixture) string {
			return withUser(pgtest.New(t).URL(""), "sallyport_writer", w.database.password)
		}), 1, []string{"sallyport migrate"}},
		{"schema of a later program", options{}, func(t *testing.T, w *fixture) {
			// This program accepts a newer schema as long as that schema permits it.
			w.alter(t, `INSERT INTO sallyport.schema_version (version_id, is_applied) SELECT max(version_id) + 7, true FROM sallyport.schema_version;
				CREATE OR REPLACE FUNCTION sallyport.oldest_program() RETURNS bigint LANGUAGE sql AS 'SELECT max(version_id) FROM sallyport.schema_version' SECURITY DEFINER`)
		}, 1, []string{"too new for this program", "install the current version of sallyport"}},
		{"issuer that does not answer", options{embedded: true}, func(_ *testing.T, w *fixture) {
			w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
		}, 1, []string{"workspace acme", "issuer", "503"}},
		{"issuer that is gone", options{embedded: true}, func(_ *testing.T, w *fixture) { w.Bitbucket.Close() }, 1, []string{"workspace acme", "issuer", "connection refused"}},
		{"port taken", options{embedded: true}, take(func(w *fixture) string { return w.proxy }), 1, []string{"address already in use", "listeners"}},
		{"admin port taken", options{embedded: true}, take(func(w *fixture) string { return w.admin }), 1, []string{"address already in use", "admin.address"}},
		{"git server that does not answer", options{embedded: true}, fromGit("http://127.0.0.1:1/x.git", ""), 1, []string{
			"http://127.0.0.1:1/x.git", "nothing answers there", "is there a firewall"}},
		{"git over ssh that does not answer", options{embedded: true}, func(t *testing.T, w *fixture) {
			files := t.TempDir()
			for _, name := range []string{"key", "known_hosts"} {
				if err := os.WriteFile(filepath.Join(files, name), []byte("x\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			edit(fmt.Sprintf("  directory: %q\n", w.policy), fmt.Sprintf("  git: {url: \"ssh://git@127.0.0.1:1/x.git\", ssh_key_file: %q, known_hosts_file: %q}\n",
				filepath.Join(files, "key"), filepath.Join(files, "known_hosts")))(t, w)
		}, 1, []string{"ssh://git@127.0.0.1:1/x.git", "nothing answers there"}},
		{"git server without the repository", options{embedded: true}, func(t *testing.T, w *fixture) {
			server := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(server.Close)
			fromGit(server.URL+"/x.git", "")(t, w)
		}, 1, []string{"/x.git", "404", "policy.git.url"}},
		{"git server that wants a credential", options{embedded: true}, func(t *testing.T, w *fixture) {
			server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header().Set("WWW-Authenticate", `Basic realm="git"`)
				rw.WriteHeader(http.StatusUnauthorized)
			}))
			t.Cleanup(server.Close)
			fromGit(server.URL+"/x.git", "")(t, w)
		}, 1, []string{"/x.git", "401", "policy.git.credentials_file"}},
		{"no git program", options{embedded: true}, func(t *testing.T, w *fixture) {
			fromGit("http://127.0.0.1:1/x.git", "")(t, w)
			w.env = append(w.env, "PATH="+t.TempDir())
		}, 1, []string{"git", "install git"}},
		{"no PostgreSQL programs", options{embedded: true}, func(t *testing.T, w *fixture) {
			w.env = append(w.env, "SALLYPORT_POSTGRES_BIN="+t.TempDir())
		}, 1, []string{"embedded PostgreSQL", "SALLYPORT_POSTGRES_BIN"}},
		{"disk of the embedded database full", options{embedded: true}, func(t *testing.T, w *fixture) {
			limited := filepath.Join(t.TempDir(), "limited")
			script := "#!/bin/sh\nulimit -f 4096\nexec '" + w.program + "' \"$@\"\n"
			if err := os.WriteFile(limited, []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			w.program = limited
		}, 1, []string{"embedded PostgreSQL", "initdb", "disk is full: make room"}},
		{"data directory that is a file", options{embedded: true}, func(t *testing.T, w *fixture) {
			if err := os.WriteFile(w.data, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 2, []string{"data_directory", "not a directory"}},
		{"signing key of another form", options{embedded: true}, func(t *testing.T, w *fixture) {
			keyPath := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(keyPath, []byte("not a key\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			w.seals(t, fmt.Sprintf("  signing_key_file: %q\n", keyPath))
		}, 2, []string{"signing_key_file", "key"}},
		{"role that does not exist", options{}, url(func(t *testing.T, w *fixture) string {
			return withUser(w.database.admin, "nobody_knows", w.database.password)
		}), 1, []string{"audit log", "nobody_knows"}},
		{"role without privileges", options{}, func(t *testing.T, w *fixture) {
			w.alter(t, `DO $$ BEGIN CREATE ROLE stranger LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$`)
			url(func(*testing.T, *fixture) string { return withUser(w.database.admin, "stranger", w.database.password) })(t, w)
		}, 1, []string{"audit log", "stranger", "sallyport_writer"}},
		{"database that does not exist", options{}, url(func(t *testing.T, w *fixture) string {
			return strings.Replace(withUser(w.database.admin, "sallyport_writer", w.database.password), "/t", "/missing_t", 1)
		}), 1, []string{"audit log", "CREATE DATABASE"}},
		{"database URL of another program", options{}, url(func(*testing.T, *fixture) string { return "jdbc:postgresql://127.0.0.1/sallyport" }), 2, []string{
			"database_url_file", "must begin with postgres://"}},
		{"database whose triggers are off", options{}, func(t *testing.T, w *fixture) {
			w.alter(t, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET session_replication_role TO replica', current_database()); END $$`)
		}, 1, []string{"triggers do not fire", "RESET session_replication_role"}},
		{"read-only database", options{}, func(t *testing.T, w *fixture) {
			w.alter(t, `DO $$ BEGIN EXECUTE format('ALTER ROLE sallyport_writer IN DATABASE %I SET default_transaction_read_only TO on', current_database()); END $$`)
		}, 1, []string{"audit log", "read-only"}},
		{"data directory in use", options{embedded: true}, func(t *testing.T, w *fixture) {
			other, err := pgembed.Start(t.Context(), pgembed.Config{Directory: filepath.Join(w.data, "postgresql"), NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = other.Close() })
		}, 1, []string{"embedded PostgreSQL", "postgresql"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.set.program = released(t)
			w := newFixture(t, c.set)
			c.spoil(t, w)
			s := launch(t, w.program, w.config, w.admin, w.env...)
			s.await(c.status)
			// No expected text may be found in a path or name that the test has chosen.
			output := strings.NewReplacer(w.Directory+"/", "DIR/", w.policy, "POLICY", w.data, "DATA").Replace(outputOutsideLog(s))
			for _, part := range c.says {
				if !strings.Contains(output, part) {
					t.Errorf("the last message does not say %q:\n%s", part, output)
				}
			}
			if !strings.HasPrefix(output, "sallyport: ") || strings.Count("\n"+output, "\nsallyport: ") != 1 {
				t.Errorf("it is not one message:\n%s", output)
			}
			if strings.Contains(s.log.text(), "goroutine ") || strings.Contains(s.log.text(), `"level":"ERROR"`) {
				t.Error("there is more than the one message")
			}
			for _, secret := range w.secrets {
				if search([]byte(s.log.text()), forms(secret)) != "" {
					t.Error("the message holds a secret")
				}
			}
			leftNothing(t, w, s)
			checkAgrees(t, w, c.name, c.status)
		})
	}
}

// onlyServe are the faults of a machine that `config check` does not try.
var onlyServe = []string{"port taken", "admin port taken", "data directory in use", "disk of the embedded database full"}

// checkAgrees: `config check` refuses what `serve` refuses: with the same status
// where the configuration is wrong, and with --online every other cause.
func checkAgrees(t *testing.T, w *fixture, name string, status int) {
	t.Helper()
	for _, args := range [][]string{{"config", "check", "-c", w.config}, {"config", "check", "--online", "-c", w.config}} {
		cmd := exec.CommandContext(t.Context(), w.program, args...)
		cmd.Env = append(os.Environ(), w.env...)
		code, out, errOut := execute(t, cmd)
		online := len(args) == 5
		switch {
		case status == 2 && code != 2, online && code == 0 && !slices.Contains(onlyServe, name), code != 0 && errOut == "":
			t.Errorf("serve ended with %d, and %v with %d:\n%s%s", status, args, code, out, errOut)
		}
		for _, secret := range w.secrets {
			if search([]byte(out+errOut), forms(secret)) != "" {
				t.Errorf("%v prints a secret", args)
			}
		}
	}
}

// outputOutsideLog returns the lines of standard error that are not log lines.
func outputOutsideLog(s *server) string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return strings.Join(append(s.log.stray, string(s.log.rest)), "\n")
}

// leftNothing checks that no process of the server's group and no database is left.
func leftNothing(t *testing.T, w *fixture, s *server) {
	t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of the server's group are left: %v", err)
	}
	if strings.Contains(t.Name(), "data_directory_in_use") {
		return // another's runs there
	}
	if _, err := pgembed.Locate(filepath.Join(w.data, "postgresql")); err == nil {
		t.Error("a PostgreSQL is left running")
	}
}
