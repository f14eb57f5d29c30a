package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// operatorCommand runs an operator's command for the fixture's instance, checks its exit
// status, and returns its output.
func (w *fixture) operatorCommand(t testing.TB, status int, args ...string) string {
	t.Helper()
	code, out, errOut := command(t, append(args, "-c", w.config)...)
	if code != status {
		t.Fatalf("%v ended with %d, not %d:\n%s%s", args, code, status, out, errOut)
	}
	return out + errOut
}

// cut waits until the proxy has ended a tunnel, and returns how long that took.
func (a *rawResponse) cut(t testing.TB) time.Duration {
	t.Helper()
	begun := time.Now()
	if n, err := io.Copy(io.Discard, a.in); err == nil && n > 0 {
		t.Errorf("%d bytes came before the end", n)
	}
	return time.Since(begun)
}

// second is another instance on the same database, with everything else of its own.
func (w *fixture) second(t testing.TB) (proxy, config string, s *server) {
	t.Helper()
	directory := t.TempDir()
	proxy, adminAddress := freeAddress(t), freeAddress(t)
	config, err := w.WriteConfig(testenv.ServerOptions{
		Directory: directory, Listen: proxy, Admin: adminAddress, PolicyDirectory: w.policy, DataDirectory: filepath.Join(directory, "data"),
		DatabaseURLFile: w.database.urlFile, MigrationURLFile: w.database.migrationFile, SealerURLFile: w.database.sealerFile,
		ExtraAudit: "  reconciliation: {enabled: false}\n", Extra: "self_test: {interval: 0s}\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	s = launch(t, w.program, config, adminAddress)
	s.ready()
	return proxy, config, s
}

// operations are the admin events of operators, the oldest first.
func (w *fixture) operatorActions(t testing.TB) (names []string, rows []fields) {
	t.Helper()
	rows = w.query(t, `SELECT action, message, step_uuid, repository_uuid, repository, convert_from(record, 'UTF8')::json AS record
		FROM audit.events WHERE kind = 'admin' AND convert_from(record, 'UTF8') LIKE '%operator_uid%' ORDER BY time`)
	for _, r := range rows {
		names = append(names, r["action"].(string))
	}
	return names, rows
}

// TestRevoke: a step is ended over one instance's socket, and within two seconds
// both instances refuse it and have closed what it had open; others continue. Then
// a repository by its name, and both are lifted.
func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	proxy, _, _ := w.second(t)
	target := echo(t)
	to := "raw.partner.example:" + target.port
	c, other := w.anybody(), w.anybody()
	here, there, bystander := w.tunnel(t, c, to), sendRaw(t, proxy, connectTo(to, c.basic())), w.tunnel(t, other, to)
	for _, a := range []*rawResponse{here, there, bystander} {
		a.echoes(t, "open")
	}

	output := w.operatorCommand(t, 0, "token", "revoke", "--step", bitbuckettest.Braced(c.step.UUID), "--reason", "it leaks")
	revoked := time.Now()
	if !strings.Contains(output, c.step.UUID) || !strings.Contains(output, "closed 1 here") {
		t.Errorf("it said %q", output)
	}
	here.cut(t)
	there.cut(t)
	if took := time.Since(revoked); took > 2*time.Second {
		t.Errorf("the tunnels were cut after %v", took)
	}
	// The other instance has closed, and so it knows.
	for _, p := range []string{w.proxy, proxy} {
		id := sendRaw(t, p, connectTo(to, c.basic())).refused(t, 407, "credential_revoked")
		row := w.decisionWith(t, id)
		check(t, "refusal", row, fields{"verdict": "deny", "step_uuid": c.step.UUID, "repository": "acme/payments"})
	}
	if took := time.Since(revoked); took > 2*time.Second+500*time.Millisecond {
		t.Errorf("refused after %v", took)
	}
	bystander.echoes(t, "still here")
	eventually(t, "both ends are on record", func() bool {
		n := 0
		for _, row := range w.decisions(t, c.step.UUID) {
			if row["close_reason"] == "credential_revoked" {
				n++
			}
		}
		return n == 2
	})

	w.operatorCommand(t, 0, "token", "revoke", "--repository", "acme/payments", "--for", "1h", "--reason", "a test")
	bystander.cut(t)
	fresh := w.anybody() // begins after it
	w.connect(t, fresh, to).refused(t, 407, "credential_revoked")
	elsewhere := w.caller(w.Tools, nil, "main")
	w.connect(t, elsewhere, "tools-only.example:443") // whatever policy decides
	if row := w.decisions(t, elsewhere.step.UUID); len(row) != 1 || row[0]["reason"] == "credential_revoked" {
		t.Errorf("another repository is revoked too: %v", row)
	}

	list := w.operatorCommand(t, 0, "token", "revocations")
	for _, want := range []string{c.step.UUID, "it leaks", "acme/payments", "uid "} {
		if !strings.Contains(list, want) {
			t.Errorf("the list does not hold %q:\n%s", want, list)
		}
	}
	var revocations []map[string]any
	if err := json.Unmarshal([]byte(w.operatorCommand(t, 0, "token", "revocations", "--format", "json")), &revocations); err != nil || len(revocations) != 2 {
		t.Errorf("as JSON: %v, %v", revocations, err)
	}

	w.operatorCommand(t, 0, "token", "unrevoke", "--repository", "acme/payments")
	eventually(t, "the repository is back", func() bool { return w.connect(t, other, to).StatusCode == http.StatusOK })
	w.connect(t, c, to).refused(t, 407, "credential_revoked")
	w.operatorCommand(t, 0, "token", "unrevoke", "--step", c.step.UUID, "--reason", "a mistake")
	eventually(t, "the step is back", func() bool {
		return w.connect(t, c, to).StatusCode == http.StatusOK && sendRaw(t, proxy, connectTo(to, c.basic())).StatusCode == http.StatusOK
	})
	if output := w.operatorCommand(t, 1, "token", "unrevoke", "--step", c.step.UUID); !strings.Contains(output, "not revoked") {
		t.Errorf("it said %q", output)
	}

	names, rows := w.operatorActions(t)
	if got := strings.Join(names, " "); got != "token_revoked token_revoked token_unrevoked token_unrevoked" {
		t.Errorf("on record: %s", got)
	}
	check(t, "deed", rows[0], fields{"step_uuid": c.step.UUID, "message": "it leaks"})
	check(t, "deed", rows[1], fields{"repository_uuid": w.Payments.UUID, "repository": "acme/payments"})
	for _, want := range []string{`"operator"`, `"operator_pid"`, `(uid `} {
		if record, _ := json.Marshal(rows[0]["record"]); !strings.Contains(string(record), want) {
			t.Errorf("the record does not say %s: %s", want, record)
		}
	}
}

// TestRevokeMistakes: what cannot be is refused with words, and nothing is revoked.
func TestRevokeMistakes(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	if output := w.operatorCommand(t, 1, "token", "revoke", "--step", w.Payments.UUID, "--reason", "x"); !strings.Contains(output, "no instance is running") {
		t.Errorf("without an instance: %q", output)
	}
	w.start()
	for want, args := range map[string][]string{
		"name one of":                {"token", "revoke"},
		"one of --step and":          {"token", "revoke", "--step", w.Payments.UUID, "--repository", "acme/payments"},
		"not the UUID of a step":     {"token", "revoke", "--step", "*", "--reason", "x"},
		"no repository is known as":  {"token", "revoke", "--repository", "acme/nowhere", "--reason", "x"},
		"a duration is needed":       {"token", "revoke", "--step", w.Payments.UUID, "--for", "-1h", "--reason", "x"},
		"--reason TEXT is needed":    {"token", "revoke", "--step", w.Payments.UUID},
		"invalid argument":           {"token", "revoke", "--step", w.Payments.UUID, "--for", "soon"},
		"a token is not an argument": {"token", "inspect", "eyJ"},
		"which tunnels":              {"tunnels", "close"},
	} {
		if output := w.operatorCommand(t, 2, args...); !strings.Contains(output, want) {
			t.Errorf("%v said %q, not %q", args, output, want)
		}
	}
	if names, _ := w.operatorActions(t); len(names) != 0 {
		t.Errorf("on record: %v", names)
	}
	// What cannot be known to be a mistake is done, with a warning.
	if output := w.operatorCommand(t, 0, "token", "revoke", "--repository", w.anybody().step.UUID, "--reason", "x"); !strings.Contains(output, "name is not known") {
		t.Errorf("a step's UUID as a repository's: %q", output)
	}
	// A second server on the same directory does not start, and reports why.
	code, _, errOut := command(t, "serve", "-c", w.config)
	if code == 0 || !strings.Contains(errOut, "listen on") && !strings.Contains(errOut, "another instance") {
		t.Errorf("a second server: %d %s", code, errOut)
	}
}

// TestEmergencyStop: everything is refused and closed at once, also after a
// crash, until it is lifted.
func TestEmergencyStop(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	c := w.anybody()
	a := w.tunnel(t, c, to)
	a.echoes(t, "open")
	if list := w.operatorCommand(t, 0, "tunnels", "list"); !strings.Contains(list, "acme/payments") || !strings.Contains(list, to) {
		t.Errorf("the list is %q", list)
	}
	if output := w.operatorCommand(t, 0, "emergency-stop", "--reason", "fire drill"); !strings.Contains(output, "closed 1") {
		t.Errorf("it said %q", output)
	}
	a.cut(t)
	stopped := func() {
		t.Helper()
		again := w.anybody()
		id := w.connect(t, again, to).refused(t, 503, "emergency_stop")
		check(t, "refusal", w.decisionWith(t, id), fields{"verdict": "deny", "step_uuid": again.step.UUID, "status": 503})
		nobody := sendRaw(t, w.proxy, connectTo(to, ""))
		if nobody.StatusCode != 503 {
			t.Errorf("nobody got %s", nobody.line)
		}
		if output := w.operatorCommand(t, 0, "tunnels", "list"); !strings.Contains(output, "fire drill") {
			t.Errorf("the list does not show the stop: %q", output)
		}
		if status, ready := w.readyz(); status != 503 || !strings.Contains(show(ready["checks"]), "fire drill") || !strings.Contains(show(ready["detail"]), "fire drill") {
			t.Errorf("/readyz does not show the stop: %d %v", status, ready)
		}
		if output := w.operatorCommand(t, 1, "health", "--ready"); !strings.Contains(output, "emergency_stop: an emergency stop is on") || !strings.Contains(output, "fire drill") || !strings.Contains(output, "emergency-stop --lift") {
			t.Errorf("health --ready said %q", output)
		}
	}
	stopped()
	if err := w.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.await(-1)
	w.server = launch(t, w.program, w.config, w.admin, w.env...)
	eventually(t, "it serves, and is not ready", func() bool { status, _ := w.readyz(); return status == 503 })
	stopped()
	if output := w.operatorCommand(t, 0, "emergency-stop", "--lift"); !strings.Contains(output, "lifted") {
		t.Errorf("it said %q", output)
	}
	on := w.tunnel(t, w.anybody(), to)
	on.echoes(t, "on again")
	_ = on.conn.Close()
	if output := w.operatorCommand(t, 0, "emergency-stop", "--lift"); !strings.Contains(output, "no emergency stop was on") {
		t.Errorf("it said %q", output)
	}
	check(t, "decision", w.decision(t, c), fields{"close_reason": "emergency_stop"})
	if names, _ := w.operatorActions(t); strings.Join(names, " ") != "emergency_stop emergency_stop_lifted" {
		t.Errorf("on record: %v", names)
	}
	// A mark that cannot be read is a stop.
	w.stop()
	if err := os.WriteFile(filepath.Join(w.data, "emergency-stop.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.server = launch(t, w.program, w.config, w.admin, w.env...)
	eventually(t, "it serves, and is not ready", func() bool { status, _ := w.readyz(); return status == 503 })
	w.connect(t, w.anybody(), to).refused(t, 503, "emergency_stop")
}

// TestTunnelsClose closes one of two tunnels, and an id that is not open is reported.
func TestTunnelsClose(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	one, two := w.anybody(), w.anybody()
	a, b := w.tunnel(t, one, to), w.tunnel(t, two, to)
	a.echoes(t, "a")
	b.echoes(t, "b")
	id := w.decisions(t, one.step.UUID)[0]["decision_id"].(string)
	if output := w.operatorCommand(t, 0, "tunnels", "close", id, "--reason", "stuck"); !strings.Contains(output, "closed 1") {
		t.Errorf("it said %q", output)
	}
	a.cut(t)
	b.echoes(t, "still here")
	check(t, "decision", w.decision(t, one), fields{"close_reason": "operator"})
	if output := w.operatorCommand(t, 1, "tunnels", "close", id); !strings.Contains(output, "not open: "+id) {
		t.Errorf("it said %q", output)
	}
	if names, _ := w.operatorActions(t); strings.Join(names, " ") != "tunnels_closed" {
		t.Errorf("on record: %v", names)
	}
}

// TestAdmittedSurvivesARestart: a token that was used while it was valid is
// accepted past its end, by another process too; one that was not, is not.
func TestAdmittedSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{identity: "  leeway: 0s\n  expired_token_grace_period: 1h\n  on_expiry: close\n  expiry_grace: 0s\n"})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	short := bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, Lifetime: 6 * time.Second}
	used, unused := w.callerWith(w.Payments, nil, "main", short), w.callerWith(w.Payments, nil, "main", short)
	a := w.tunnel(t, used, to)
	a.echoes(t, "valid")
	a.cut(t) // the tunnel ends with its token
	check(t, "decision", w.decision(t, used), fields{"close_reason": "credential_ended", "credential_kind": "oidc"})

	eventually(t, "the token has ended", func() bool {
		again := w.connect(t, used, to)
		_ = again.conn.Close()
		return again.StatusCode == http.StatusOK && w.lastDecision(t, used)["credential_kind"] == "admitted"
	})
	w.connect(t, unused, to).refused(t, 407, "credential_expired")
	w.stop()
	w.restart()
	w.tunnel(t, used, to).echoes(t, "admitted")
	check(t, "decision", w.lastDecision(t, used), fields{"credential_kind": "admitted", "verdict": "allow", "repository": "acme/payments"})
	w.connect(t, unused, to).refused(t, 407, "credential_expired")
	if rows := w.query(t, `SELECT encode(digest, 'hex') AS digest FROM identity.admitted_tokens WHERE step_uuid = $1::text::uuid`, used.step.UUID); len(rows) != 1 {
		t.Errorf("kept: %v", rows)
	}
	w.operatorCommand(t, 0, "token", "revoke", "--step", used.step.UUID, "--reason", "x")
	eventually(t, "it is revoked", func() bool { return w.connect(t, used, to).StatusCode == http.StatusProxyAuthRequired })
}

// TestTokenEnds: by default a token counts until its end and not beyond it, what
// it opened continues, and the refusal is recorded under the step's name. Where
// tunnels are to be closed, they are after the grace.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		identity string
		cut      bool
	}{
		"keep":            {"  leeway: 0s\n", false},
		"close, of grace": {"  leeway: 0s\n  on_expiry: close\n  expiry_grace: 3s\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{identity: c.identity})
			w.start()
			target := echo(t)
			to := "raw.partner.example:" + target.port
			began := time.Now()
			const life = 4 * time.Second
			used := w.callerWith(w.Payments, nil, "main", bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, Lifetime: life})
			a := w.tunnel(t, used, to)
			a.echoes(t, "valid")
			eventually(t, "the token has ended", func() bool {
				again := w.connect(t, used, to)
				defer again.conn.Close()
				return again.StatusCode == http.StatusProxyAuthRequired
			})
			a.echoes(t, "still open")
			row := w.lastDecision(t, used)
			w.both(t, row, fields{"reason": "credential_expired", "verdict": "deny", "status": 407, "step_uuid": used.step.UUID,
				"repository": "acme/payments", "repository_uuid": w.Payments.UUID, "credential_kind": "oidc"})
			if kept := w.query(t, `SELECT 1 AS one FROM identity.admitted_tokens`); len(kept) != 0 {
				t.Errorf("tokens are kept although none is honoured: %d", len(kept))
			}
			if !c.cut {
				return
			}
			a.cut(t)
			// Times in a token are whole seconds, cut off.
			if took := time.Since(began); took < life+2*time.Second {
				t.Errorf("it was cut after %v, before the grace was over", took)
			}
			first := w.decisions(t, used.step.UUID)[0]
			eventually(t, "its end is on record", func() bool {
				first = w.decisions(t, used.step.UUID)[0]
				return first["closed_at"] != nil
			})
			check(t, "row", first, fields{"close_reason": "credential_ended"})
		})
	}
}

func (w *fixture) lastDecision(t testing.TB, c caller) fields {
	t.Helper()
	rows := w.decisions(t, c.step.UUID)
	if len(rows) == 0 {
		t.Fatal("the step has no decision on record")
	}
	return rows[len(rows)-1]
}

// TestPolicyReload: the operator does not wait for the next poll.
func TestPolicyReload(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	if output := w.operatorCommand(t, 0, "policy", "reload"); !strings.Contains(output, "as before") {
		t.Errorf("it said %q", output)
	}
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "broken.rego"), []byte("package sallyport.egress\n\nallow contains"), 0o644); err != nil {
		t.Fatal(err)
	}
	if output := w.operatorCommand(t, 1, "policy", "reload"); !strings.Contains(output, "broken.rego") || !strings.Contains(output, "as before") {
		t.Errorf("it said %q", output)
	}
}
