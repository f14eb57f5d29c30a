package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// quickly is a server that seals often.
func quickly(t *testing.T, o options) *fixture {
	w := newFixture(t, o)
	w.seals(t, "  checkpoints: {interval: 100ms}\n")
	w.start()
	return w
}

// scraped waits until the metric is over 0.
func scraped(t *testing.T, w *fixture, metric string) []alertScrape {
	t.Helper()
	eventually(t, metric+" shows", func() bool { return w.counter(t, metric) > 0 })
	return []alertScrape{{Body: w.scrape()}}
}

func (w *fixture) denied(t *testing.T) {
	t.Helper()
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
}

func stateDatabaseUnavailable(t *testing.T) []alertScrape {
	db, postgres := newServerDatabase(t)
	w := quickly(t, options{database: db})
	w.sealed(t)
	postgres.Kill(t)
	defer postgres.Restart(t)
	w.denied(t)
	eventually(t, "the outage shows", func() bool { return w.counter(t, "sallyport_audit_unavailable_since_timestamp_seconds") > 0 })
	return scraped(t, w, `sallyport_audit_seal_failing{reason="database"}`)
}

func stateConnectionLost(t *testing.T) []alertScrape {
	w := quickly(t, options{})
	for n := range 5 {
		w.alter(t, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sallyport_writer' AND datname = current_database()`)
		eventually(t, "it reconnects", func() bool {
			w.denied(t)
			return w.counter(t, "sallyport_audit_reconnects_total") > float64(n)
		})
	}
	return []alertScrape{{Body: w.scrape()}}
}

func stateJournalFull(t *testing.T) []alertScrape {
	db, postgres := newServerDatabase(t)
	w := quickly(t, options{database: db})
	w.denied(t)
	// The directory of the journal cannot be created.
	journal := filepath.Join(w.data, "journal")
	if err := os.RemoveAll(journal); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(journal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	postgres.Kill(t)
	defer postgres.Restart(t)
	a := w.connect(t, w.anybody(), "nobody.example:443")
	_ = a.conn.Close()
	return scraped(t, w, "sallyport_journal_full")
}

// stateQueueFull: the database accepts nothing, and the queue of this program holds
// one event.
func stateQueueFull(t *testing.T) []alertScrape {
	db, postgres := newServerDatabase(t)
	w := newFixture(t, options{database: db, program: mutant(t), env: []string{"SALLYPORT_WITHOUT=queue"}})
	w.start()
	w.denied(t)
	postgres.Freeze(t)
	defer postgres.Thaw(t)
	for range 8 {
		go func() {
			if conn, err := net.Dial("tcp", w.proxy); err == nil {
				defer conn.Close()
				_, _ = conn.Write([]byte("CONNECT nobody.example:443 HTTP/1.1\r\nHost: nobody.example:443\r\nProxy-Authorization: " + w.anybody().basic() + "\r\n\r\n"))
				_, _ = io.Copy(io.Discard, conn)
			}
		}()
	}
	return scraped(t, w, "sallyport_audit_rejected_total")
}

func stateLogCutOff(t *testing.T) []alertScrape { return logCutOff(t, options{}) }

func logCutOff(t *testing.T, o options) []alertScrape {
	w := quickly(t, o)
	w.sealed(t)
	w.denied(t)
	w.sealed(t)
	w.alter(t, `ALTER TABLE audit.leaves DISABLE TRIGGER ALL; ALTER TABLE audit.checkpoints DISABLE TRIGGER ALL;
		DELETE FROM audit.checkpoints WHERE size = (SELECT max(size) FROM audit.checkpoints);
		DELETE FROM audit.leaves WHERE index >= (SELECT max(size) FROM audit.checkpoints)`)
	return scraped(t, w, `sallyport_audit_seal_failing{reason="behind"}`)
}

// stateSealerHangs: a session has a lock on the leaves, so that the sealer hangs.
func stateSealerHangs(t *testing.T) []alertScrape {
	w := quickly(t, options{})
	w.sealed(t)
	w.transaction(t, `LOCK TABLE audit.leaves IN ACCESS EXCLUSIVE MODE`)
	w.denied(t)
	var last float64
	eventually(t, "passes stop", func() bool {
		before := last
		last = w.counter(t, "sallyport_audit_last_seal_success_timestamp_seconds")
		return last == before && len(w.query(t, `SELECT 1 AS one FROM pg_locks l WHERE NOT granted AND relation = 'audit.leaves'::regclass`)) > 0
	})
	body := w.scrape()
	return []alertScrape{{Body: body}}
}

// transaction runs a statement in a transaction that stays open until the test ends.
func (w *fixture) transaction(t *testing.T, sql string) {
	t.Helper()
	to, err := w.adminURL()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	if _, err := conn.Exec(t.Context(), `BEGIN; `+sql); err != nil {
		t.Fatal(err)
	}
}

func stateNumberMissing(t *testing.T) []alertScrape {
	w := quickly(t, options{})
	w.sealed(t)
	w.alter(t, `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), CASE n WHEN 1 THEN 'writer_started' ELSE 'admin' END, 'lost', n, '{}' FROM unnest(ARRAY[1, 3]) n`)
	return scraped(t, w, "sallyport_audit_stuck_writers")
}

func statePublishingFails(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.seals(t, "  checkpoints: {interval: 100ms, urls: [\"http://127.0.0.1:9/\"]}\n")
	w.start()
	return scraped(t, w, "sallyport_checkpoint_publishers_failing")
}

func stateIssuerUnavailable(t *testing.T) []alertScrape {
	w := newFixture(t, options{identity: "  jwks_max_age: 10s\n"})
	w.start()
	w.denied(t)
	w.Bitbucket.Stop()
	return scraped(t, w, "sallyport_keys_unusable")
}

func stateAPIUnavailable(t *testing.T) []alertScrape {
	w := newFixture(t, options{audit: reconcileOften})
	defer w.Bitbucket.Inject(bitbuckettest.REST, bitbuckettest.Failing(500)).Clear()
	w.start()
	a := w.connect(t, w.anybody(), "nobody.example:443")
	_ = a.conn.Close()
	return scraped(t, w, "sallyport_names_failing")
}

func stateNameReassigned(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	w.connect(t, w.caller(w.Tools, nil, "main"), "nobody.example:443").refused(t, 403, "no_rule_matched")
	before := w.scrape()
	w.Tools.Delete()
	again := w.Workspace.AddRepository("tools", "PAY")
	w.connect(t, w.caller(again, nil, "main"), "nobody.example:443").refused(t, 403, "no_rule_matched")
	after := scraped(t, w, `sallyport_names_reassigned_total{kind="repository"}`)
	after[0].after = 2 * time.Minute
	return append([]alertScrape{{Body: before}}, after...)
}

// stateSchemaChanged: a trigger is disabled, and nothing compares the schema later.
func stateSchemaChanged(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.alter(t, `ALTER TABLE audit.policies DISABLE TRIGGER refuse_row_change`)
	w.start()
	return scraped(t, w, "sallyport_schema_differences")
}

func stateWebhookRefreshes(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.alter(t, `REVOKE SELECT ON webhook.policy_refreshes FROM sallyport_writer`)
	w.start()
	eventually(t, "refreshes cannot be read", func() bool { return w.counter(t, "sallyport_webhook_refreshes_readable") == 0 })
	return []alertScrape{{Body: w.scrape()}}
}

func stateNamesLockHeld(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	w.transaction(t, `SELECT FROM audit.locks WHERE name = 'names' FOR UPDATE`)
	a := w.connect(t, w.anybody(), "nobody.example:443")
	_ = a.conn.Close()
	return scraped(t, w, `sallyport_lock_held_since_timestamp_seconds{lock="names"}`)
}

// statePolicyRejected has another instance that accepts the policy of before.
func statePolicyRejected(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	before := w.scrape()
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "broken.rego"), []byte("package sallyport.egress\n\nallow contains\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	eventually(t, "the policy is rejected", func() bool { return w.counter(t, "sallyport_policy_last_reload_successful") == 0 })
	return []alertScrape{{Body: w.scrape()}, {Instance: "another", Body: before}}
}

// stateRepositoryRejected: a repository's folder fails, and the rest is active.
func stateRepositoryRejected(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	w.folder(t, "tools", failingFolders[0].text)
	w.operatorCommand(t, 0, "policy", "reload")
	return scraped(t, w, `sallyport_repository_policies_rejected{in_force="kept"}`)
}

// stateWorkerTerminated: the rules of a repository exceed the stack of a worker.
func stateWorkerTerminated(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.folder(t, "tools", "package sallyport.repository[\"acme/tools\"]\n\n"+nestedArrays()+"allow contains {\"rule\": \"bomb\"} if {\n\tinput.target.host == \"bomb.example\"\n\tx20 == y20\n}\n")
	w.start()
	before := w.scrape()
	w.connect(t, w.caller(w.Tools, nil, "main"), "bomb.example:443").refused(t, 403, "policy_error")
	after := scraped(t, w, `sallyport_policy_worker_deaths_total{cause="stack"}`)[0].Body
	return []alertScrape{{Body: before}, {Body: after, after: 2 * time.Minute}}
}

func statePolicyTooOld(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.inPolicy(t, "  max_age: 1s\n")
	w.start()
	before := w.scrape()
	if err := os.Rename(w.policy, w.policy+"-away"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the policy is too old", func() bool {
		w.signal(syscall.SIGHUP)
		status, _ := w.readyz()
		return status == 503
	})
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "policy_error")
	return []alertScrape{{Body: before}, {Body: w.scrape(), after: 2 * time.Minute}}
}

// statePolicyEndless: a revision that cannot be evaluated for an open tunnel. The
// probe that would reject it is removed from this program.
func statePolicyEndless(t *testing.T) []alertScrape {
	w := newFixture(t, options{program: mutant(t), env: []string{"SALLYPORT_WITHOUT=probe"}})
	w.start()
	target := echo(t)
	w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port).echoes(t, "open")
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "endless.rego"), []byte(`package sallyport.egress

deny contains {"rule": "endless"} if {
	input.target.host == "raw.partner.example"
	some a in numbers.range(1, 30000)
	some b in numbers.range(1, 30000)
	a * b == -1
}
`), 0o644); err != nil {
		t.Fatal(err)
	}
	w.signal(syscall.SIGHUP)
	return scraped(t, w, "sallyport_reevaluation_errors")
}

func stateManyDenied(t *testing.T) []alertScrape {
	w := newFixture(t, options{extra: "limits: {step: {requests_per_second: 1000}}\n"})
	w.start()
	c := w.anybody()
	deny := func() string {
		for range 150 {
			w.connect(t, c, "nobody.example:443").refused(t, 403, "no_rule_matched")
		}
		return w.scrape()
	}
	return []alertScrape{{Body: deny()}, {Body: deny(), after: 12 * time.Minute}}
}

func stateRecordingSlow(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	w.alter(t, `CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.7); RETURN NEW; END $$;
		GRANT EXECUTE ON FUNCTION public.slow() TO PUBLIC; CREATE TRIGGER slow BEFORE INSERT ON audit.events FOR EACH ROW EXECUTE FUNCTION public.slow()`)
	scrapes := []alertScrape{{Body: w.scrape()}}
	for n := range 4 {
		w.denied(t)
		scrapes = append(scrapes, alertScrape{Body: w.scrape(), after: time.Duration(2+3*n) * time.Minute})
	}
	return scrapes
}

// stateDescriptorsShort: the limit follows the number of open descriptors, which grows
// while the server starts. With none left /metrics has one of the two numbers, or none.
func stateDescriptorsShort(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	open, body := uint64(w.counter(t, "process_open_fds")), ""
	eventually(t, "the descriptors are short", func() bool {
		limit := open + open/8 + 1
		limitDescriptors(t, w.cmd.Process.Pid, limit)
		body = w.scrape()
		var now uint64
		if _, line, found := strings.Cut(body, "\nprocess_open_fds "); !found || !strings.Contains(body, "\nprocess_max_fds ") {
			open += 4
			return false
		} else if _, err := fmt.Sscan(line, &now); err != nil {
			t.Fatal(err)
		}
		open = now
		return 10*open > 8*limit
	})
	return []alertScrape{{Body: body}}
}

func stateDeploymentBypassed(t *testing.T) []alertScrape {
	w := newFixture(t, options{audit: reconcileOften})
	w.start()
	// A repository is known once it was here.
	seen, around := w.production(), w.production()
	w.connect(t, seen, "nobody.example:443").refused(t, 403, "no_rule_matched")
	seen.step.Complete("SUCCESSFUL")
	around.step.Complete("SUCCESSFUL")
	return scraped(t, w, `sallyport_deployments{class="unobserved"}`)
}

func stateSchemaDiffers(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.alter(t, `CREATE VIEW audit.somebodys AS SELECT 1 AS one`)
	w.start()
	return scraped(t, w, "sallyport_schema_differences")
}

// stateSelfTestFailed: policy lets everything out, so that none passes either.
func stateSelfTestFailed(t *testing.T) []alertScrape {
	w := newFixture(t, options{extra: "self_test: {interval: 1s}\n"})
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "everything.rego"),
		[]byte("package sallyport.egress\n\nallow contains {\"rule\": \"everything\"} if input.target.port > 0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.start()
	return scraped(t, w, "sallyport_self_test_failed")
}

// statePanic uses the component alone: no known input makes the program
// panic.
func statePanic(t *testing.T) []alertScrape {
	m := admin.NewMetrics("test")
	before := gathered(t, m)
	m.Panicked("listener")
	return []alertScrape{{Body: before}, {Body: gathered(t, m), after: 2 * time.Minute}}
}

func stateEmergencyStop(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	w.operatorCommand(t, 0, "emergency-stop", "--reason", "a test")
	return []alertScrape{{Body: w.scrape()}}
}

// gathered is what /metrics of these has.
func gathered(t *testing.T, m *admin.Metrics) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := admin.NewServer(m)
	go func() { _ = a.Serve(l) }()
	defer a.Close(t.Context())
	return (&server{t: t, admin: l.Addr().String()}).scrape()
}
