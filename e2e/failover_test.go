package e2e

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// failovers is how many failovers of each sort TestFailover does, each with
// servers of its own; `make crash` does more.
var failovers = flag.Int("failovers", 1, "how many failovers of each sort TestFailover does")

// failover is a proxy under load, whose database is on a primary and a standby.
type failover struct {
	*fixture
	primary, standby *pgtest.Server
	db               *pgtest.DB
	traffic          *traffic
	key              string
	since            time.Time
}

func newFailover(t *testing.T, onOutage string) *failover {
	t.Helper()
	servers := pgtest.Options{NoSync: true}
	f := &failover{primary: pgtest.Start(t, servers), since: time.Now()}
	f.db = f.primary.New(t)
	if err := migrate(t.Context(), released(t), f.db.URL("")); err != nil {
		t.Fatal(err)
	}
	d := nameDatabase(t, f.db)
	f.standby = f.primary.Standby(t, "second", servers)
	for file, user := range map[string][2]string{
		d.urlFile: {"sallyport_writer", d.password}, d.sealerFile: {"sallyport_sealer", d.password}, d.migrationFile: {"migrator", d.migrationPassword},
	} {
		if err := os.WriteFile(file, []byte(f.both(withUser(d.admin, user[0], user[1]))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.fixture = newFixture(t, options{database: d, extra: soakLimits + "log: {level: warn}\n"})
	keyPath := filepath.Join(t.TempDir(), "key")
	f.key = newKeyFile(t, keyPath)
	f.seals(t, fmt.Sprintf("  signing_key_file: %q\n  on_outage: %s\n", keyPath, onOutage))
	if err := os.WriteFile(filepath.Join(f.policy, "egress", "crash.rego"), []byte(crashPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	f.start()
	f.traffic = &traffic{w: f.fixture, c: f.anybody(), up: newArrivals(t), seed: 1, rate: 50}
	f.traffic.start()
	f.traffic.progress(t, 20)
	return f
}

// both names the two servers in a connection string, as docs/operations.md describes.
func (f *failover) both(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		panic(err) // pgtest makes URLs
	}
	q := u.Query()
	q.Set("host", f.primary.SocketDirectory()+","+f.standby.SocketDirectory())
	q.Set("port", "5432,5432")
	q.Set("target_session_attrs", "read-write")
	u.RawQuery = q.Encode()
	return u.String()
}

// promote kills the primary and makes the standby the next.
func (f *failover) promote(t *testing.T) {
	t.Helper()
	f.standby.Promote(t)
	f.database.admin = f.standby.URL(f.db.Name, "")
}

// sealedSize is the size of the database's largest checkpoint.
func (f *failover) sealedSize(t *testing.T) string {
	t.Helper()
	return fmt.Sprint(f.query(t, `SELECT coalesce(max(size), 0) AS n FROM audit.checkpoints`)[0]["n"])
}

// TestFailover: a standby is promoted under load. With synchronous replication
// nothing that was acknowledged is lost. With asynchronous replication the loss
// is recorded, and the recovery of docs/operations.md resumes sealing; verify
// explains what is missing.
func TestFailover(t *testing.T) {
	t.Parallel()
	for range *failovers {
		retiredPrimary(t)
		synchronousFailover(t)
		asynchronousFailover(t)
	}
}

// retiredPrimary: the former primary lives on, read-only, and every session of the
// server with it. Revocations, denials and sealing reach the new primary.
func retiredPrimary(t *testing.T) {
	f := newFailover(t, "deny")
	f.traffic.stop()
	f.primary.SynchronousStandby(t, "second")
	f.traffic = &traffic{w: f.fixture, c: f.anybody(), up: newArrivals(t), seed: 2, rate: 50}
	f.traffic.start()
	f.traffic.progress(t, 5)
	f.primary.SynchronousStandby(t, "")
	f.promote(t)
	f.primary.ReadOnly(t)
	step := f.anybody()
	f.operatorCommand(t, 0, "token", "revoke", "--step", step.step.UUID, "--reason", "it leaks")
	f.connect(t, step, "raw.partner.example:443").refused(t, 407, "credential_revoked")
	other := f.anybody()
	id := f.connect(t, other, "nowhere.unlisted.example:443").refused(t, 403, "no_rule_matched")
	eventually(t, "the step reads its refusal", func() bool {
		return strings.Contains(f.curl(t, "", "--noproxy", "*", other.proxyURL(f.proxy)+"/step").body, id)
	})
	// A new revision decides only once it is recorded.
	later := "package sallyport.egress\n\ndeny contains {\"rule\": \"later\"} if input.target.host == \"later.example\"\n"
	if err := os.WriteFile(filepath.Join(f.policy, "egress", "later.rego"), []byte(later), 0o644); err != nil {
		t.Fatal(err)
	}
	f.operatorCommand(t, 0, "policy", "reload")
	f.connect(t, other, "later.example:443").refused(t, 403, "policy_denied")
	if n := len(f.query(t, "SELECT FROM audit.policies")); n != 2 {
		t.Errorf("the new primary has %d policies, want 2", n)
	}
	// A reader of the new primary finds the refusal.
	if n := len(f.query(t, "SELECT FROM audit.decisions WHERE decision_id = $1::text::uuid", id)); n != 1 {
		t.Errorf("the new primary has %d rows of the refusal", n)
	}
	before := f.sealedSize(t)
	eventually(t, "more is sealed", func() bool { return f.sealedSize(t) != before })
	f.traffic.progress(t, 5)
	f.traffic.stop()
	eventually(t, "it is ready without a warning", func() bool {
		status, answer := f.readyz()
		return status == 200 && answer["warnings"] == nil
	})
	f.stop()
}

func synchronousFailover(t *testing.T) {
	f := newFailover(t, "deny")
	f.primary.SynchronousStandby(t, "second")
	f.traffic.progress(t, 20)
	before := f.sealedSize(t)
	eventually(t, "more is sealed", func() bool { return f.sealedSize(t) != before })
	f.primary.Kill(t)
	f.promote(t)
	f.traffic.progress(t, 20)
	f.traffic.stop()
	if lost := f.counter(t, "sallyport_audit_events_lost_total"); lost != 0 {
		t.Errorf("%v events are lost", lost)
	}
	c := &campaign{t: t, w: f.fixture, traffic: f.traffic, key: f.key, since: f.since.Unix() - 60}
	for _, wrong := range c.findings() {
		t.Error(wrong)
	}
	f.stop()
	everyWriterSigned(t, f.operatorCommand(t, 0, "audit", "verify", "--key", f.key, "--checkpoint", filepath.Join(f.data, "checkpoints")))
}

// everyWriterSigned: every process of the server has shown the log's key, after a
// failover as well.
func everyWriterSigned(t *testing.T, output string) {
	t.Helper()
	if strings.Contains(output, "show no key of this log") {
		t.Errorf("verify said\n%s", output)
	}
}

func asynchronousFailover(t *testing.T) {
	f := newFailover(t, "spool")
	caught := fmt.Sprint(f.query(t, `SELECT pg_current_wal_lsn()::text AS n`)[0]["n"])
	eventually(t, "the standby has the beginning", func() bool {
		primary := f.database.admin
		f.database.admin = f.standby.URL(f.db.Name, "")
		defer func() { f.database.admin = primary }()
		return len(f.query(t, `SELECT 1 WHERE pg_last_wal_replay_lsn() >= $1::text::pg_lsn`, caught)) == 1
	})
	f.standby.Detach(t)
	before := f.sealedSize(t)
	f.traffic.progress(t, 20)
	// What is lost was sealed and published.
	eventually(t, "more is sealed", func() bool { return f.sealedSize(t) != before })
	eventually(t, "the acknowledged number is written down", func() bool {
		tails, _ := filepath.Glob(filepath.Join(f.data, "acknowledged", "*"))
		return len(tails) == 1
	})
	f.primary.Kill(t)
	f.traffic.progress(t, 20) // by the journal
	f.signal(syscall.SIGKILL)
	f.await(-1)
	f.promote(t)
	f.restart()
	f.traffic.progress(t, 20)
	eventually(t, "sealing has stopped", func() bool {
		_, answer := f.readyz()
		return strings.Contains(show(answer), "behind a published checkpoint")
	})
	f.traffic.stop()

	// The recovery, by the commands of docs/operations.md.
	page := f.operationsPage(t)
	f.stop()
	page.run("failover: with the instances stopped", 0)
	published, aside := filepath.Join(f.data, "checkpoints"), filepath.Join(f.data, "checkpoints.before-failover")
	f.start()
	output := page.run("failover: with the instances running", 1)
	if !strings.Contains(output, "were acknowledged and lost") {
		t.Errorf("gap list said\n%s", output)
	}
	for _, line := range strings.Split(output, "\n") {
		if command, found := strings.CutPrefix(line, "   sallyport "); found {
			var writer, first, last string
			if _, err := fmt.Sscanf(command, "audit gap declare --writer %s --first %s --last %s", &writer, &first, &last); err != nil {
				t.Fatalf("%q: %v", command, err)
			}
			page.run("failover: for each gap", 0, "WRITER="+writer, "FIRST="+first, "LAST="+last, "REASON=failover to a standby that lagged")
		}
	}
	f.sealed(t)
	f.stop()
	if _, err := os.Stat(published); err != nil {
		t.Error(err)
	}
	output = page.run("failover: the result", 0)
	everyWriterSigned(t, output)
	for _, want := range []string{"which the database had acknowledged", "declared missing", "failover to a standby that lagged", "events are declared missing"} {
		if !strings.Contains(output, want) {
			t.Errorf("verify said\n%s\nand not %q", output, want)
		}
	}
	// What was published of the part that is lost holds no more, which is right.
	f.operatorCommand(t, 1, "audit", "verify", "--key", f.key, "--checkpoint", aside)
	if rows := f.query(t, `SELECT decision_id, kind FROM audit.events WHERE decision_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`); len(rows) != 0 {
		t.Errorf("there twice: %v", rows)
	}
}

// page runs the named blocks of a page of the documents as they stand.
type page struct {
	t         *testing.T
	text      string
	directory string
	env       []string
}

// operationsPage is docs/operations.md for the operator of this instance: with its
// configuration and the log's key beside them.
func (f *failover) operationsPage(t *testing.T) *page {
	t.Helper()
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, text: string(text), directory: t.TempDir()}
	p.env = append(os.Environ(), "DATA_DIRECTORY="+f.data, "PATH="+filepath.Dir(f.program)+string(os.PathListSeparator)+os.Getenv("PATH"))
	if err := os.Symlink(f.config, filepath.Join(p.directory, "sallyport.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.directory, "key.pub"), []byte(f.key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs the block with this name, and returns what it prints.
func (p *page) run(name string, status int, env ...string) string {
	p.t.Helper()
	_, block, found := strings.Cut(p.text, "```sh\n   # "+name+"\n")
	block, _, closed := strings.Cut(block, "   ```\n")
	if !found || !closed {
		p.t.Fatalf("the page has no block # %s", name)
	}
	cmd := exec.CommandContext(p.t.Context(), "sh", "-eu", "-c", block)
	cmd.Dir, cmd.Env = p.directory, append(p.env, env...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("# %s ended with %d, not %d: %v\n%s", name, got, status, err, out)
	}
	return string(out)
}
