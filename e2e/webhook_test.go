package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// webhookFixture is two instances whose policy comes from a repository of the emulated
// Bitbucket. Its webhook delivers to the first.
type webhookFixture struct {
	*fixture
	t        testing.TB
	postgres *pgtest.Server
	other    *server
	proxies  [2]string
	hook     *hook.Sender
	secret   string
	sent     int // deliveries, lost ones too
	pushes   int // of the policy's branch, that were delivered
}

// newWebhookFixture starts both instances with the first commit of the policy. They do not
// poll for another one.
func newWebhookFixture(t *testing.T) *webhookFixture {
	t.Helper()
	database, postgres := newServerDatabase(t)
	w := &webhookFixture{fixture: newFixture(t, options{database: database}), t: t, postgres: postgres, secret: randomHex()}
	w.addSecret(w.secret)
	repository := w.Workspace.AddRepository("egress-policy", "SEC")
	clone, err := repository.ServeGit(filepath.Join(w.Directory, "served"))
	if err != nil {
		t.Fatal(err)
	}
	w.git("init", "--quiet", "--initial-branch=main")
	w.git("remote", "add", "origin", clone)
	w.commit()
	w.git("push", "--quiet", "origin", "main")

	secretFile := filepath.Join(w.Directory, "webhook-secret")
	if err := os.WriteFile(secretFile, []byte(w.secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, key, err := w.WriteCertificate(w.Directory, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	section := fmt.Sprintf(`webhooks:
  listener: {address: %q, tls: {certificate_file: %q, key_file: %q}}
  receivers:
    - {name: policy, path: /hooks/policy-7c1f, kind: cloud, secret_file: %q, repositories: [acme/egress-policy], actions: [refresh_policy]}
`, address, certificate, key, secretFile)
	source := fmt.Sprintf("git: {url: %q, poll_interval: 24h}", clone)
	w.setSource(w.config, source, section)
	w.start()
	w.other = w.startOther(source, section, address)
	w.hook = repository.AddHook(hook.Config{URL: "https://" + address + "/hooks/policy-7c1f", Secret: w.secret, RootCAs: w.authority(t).RootCAs, Events: []string{"repo:push"}})
	return w
}

func randomHex() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}

// startOther starts the second instance. Its listener of webhooks gets no deliveries.
func (w *webhookFixture) startOther(source, section, address string) *server {
	w.t.Helper()
	directory := w.t.TempDir()
	w.proxies = [2]string{w.proxy, freeAddress(w.t)}
	admin := freeAddress(w.t)
	config, err := w.WriteConfig(testenv.ServerOptions{
		Directory: directory, Listen: w.proxies[1], Admin: admin, PolicyDirectory: w.policy, DataDirectory: filepath.Join(directory, "data"),
		DatabaseURLFile: w.database.urlFile, MigrationURLFile: w.database.migrationFile, SealerURLFile: w.database.sealerFile,
		ExtraAudit: "  reconciliation: {enabled: false}\n", Extra: "self_test: {interval: 0s}\n",
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.setSource(config, source, strings.Replace(section, address, freeAddress(w.t), 1))
	s := launch(w.t, w.program, config, admin)
	s.ready()
	return s
}

// setSource lets the policy of a configuration come from the Git repository.
func (w *webhookFixture) setSource(path, source, more string) {
	w.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		w.t.Fatal(err)
	}
	changed := strings.Replace(string(text), fmt.Sprintf("directory: %q", w.policy), source, 1)
	if err := os.WriteFile(path, []byte(changed+more), 0o600); err != nil || changed == string(text) {
		w.t.Fatal(err, changed)
	}
}

func (w *webhookFixture) git(arguments ...string) string {
	w.t.Helper()
	cmd := exec.Command("git", arguments...)
	cmd.Dir = w.policy
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v\n%s", arguments, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *webhookFixture) commit() string {
	w.t.Helper()
	w.git("add", "-A")
	w.git("commit", "--quiet", "--allow-empty", "-m", "policy")
	return w.git("rev-parse", "HEAD")
}

// allow commits a policy that allows these hosts besides.
func (w *webhookFixture) allow(hosts ...string) string {
	w.t.Helper()
	text := "package sallyport.egress\n"
	for _, host := range hosts {
		text += fmt.Sprintf("\nallow contains {\"rule\": %q} if input.target.host == %q\n", host[:strings.Index(host, ".")], host)
	}
	if err := os.WriteFile(filepath.Join(w.policy, "egress", "hosts.rego"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.commit()
}

// push pushes refs, and returns the delivery once it has ended.
func (w *webhookFixture) push(refs ...string) hook.Delivery {
	w.t.Helper()
	w.git(append([]string{"push", "--quiet", "--force", "origin"}, refs...)...)
	w.sent++
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	all, err := w.hook.Wait(ctx, w.sent)
	if err != nil {
		w.t.Fatal(err)
	}
	return all[w.sent-1]
}

// pushMain pushes the policy's branch, and expects the delivery to be accepted and the
// commit to decide in both instances.
func (w *webhookFixture) pushMain(head string) {
	w.t.Helper()
	began := time.Now()
	if d := w.push("main"); !d.Accepted() {
		w.t.Fatalf("the delivery: %+v", d)
	}
	w.pushes++
	w.active(head)
	w.t.Logf("both instances decide by %s %v after the push", head[:8], time.Since(began).Round(time.Millisecond))
}

// active waits until both instances decide by the commit.
func (w *webhookFixture) active(head string) {
	w.t.Helper()
	for i, s := range []*server{w.server, w.other} {
		eventually(w.t, fmt.Sprintf("instance %d decides by %s", i+1, head), func() bool { return s.policyCommit() == head })
	}
}

// policyCommit is the commit of the active policy.
func (s *server) policyCommit() string {
	_, ready := s.readyz()
	details, _ := ready["detail"].(map[string]any)
	policy, _ := details["policy"].(map[string]any)
	commit, _ := policy["commit"].(string)
	return commit
}

var refreshMetric = regexp.MustCompile(`(?m)^sallyport_webhook_policy_refreshes_total (\d+)$`)

// refreshes expects that each instance has been asked to refresh exactly for the delivered
// pushes of the policy's branch.
func (w *webhookFixture) refreshes() {
	w.t.Helper()
	for i, s := range []*server{w.server, w.other} {
		_, metrics := s.get("/metrics")
		m := refreshMetric.FindStringSubmatch(metrics)
		if m == nil || m[1] != fmt.Sprint(w.pushes) {
			w.t.Errorf("instance %d was asked to refresh %v times, want %d", i+1, m, w.pushes)
		}
	}
}

// decides expects the verdict of both instances about a host.
func (w *webhookFixture) decides(host, verdict string) {
	w.t.Helper()
	for i, proxy := range w.proxies {
		c := w.anybody()
		a := sendRaw(w.t, proxy, connectTo(host+":443", c.basic()))
		if verdict == "deny" {
			a.refused(w.t.(*testing.T), 403, "no_rule_matched")
		}
		if row := w.decision(w.t, c); row["verdict"] != verdict {
			w.t.Errorf("instance %d: %v, want %s: %v", i+1, row["verdict"], verdict, row)
		}
	}
}

// TestPushActivatesPolicy: a push to the policy repository is delivered to one of two
// instances, and both decide by the new commit although neither polls. A push of other refs
// changes nothing, and neither does a forged delivery.
func TestPushActivatesPolicy(t *testing.T) {
	t.Parallel()
	w := newWebhookFixture(t)
	const first, second = "first.partner.example", "second.partner.example"
	w.decides(first, "deny")
	w.pushMain(w.allow(first))
	w.decides(first, "allow")
	w.decides(second, "deny")
	w.refreshes()

	// A tag, another branch and a deletion are accepted, and nothing is fetched.
	head := w.allow(first, second)
	w.git("tag", "v1")
	for _, ref := range []string{"v1", "main:topic", ":topic", "main:refs/tags/main"} {
		if d := w.push(ref); !d.Accepted() {
			t.Errorf("%s: %+v", ref, d)
		}
	}
	w.git("push", "--quiet", "origin", ":refs/tags/main")
	w.sent++
	w.decides(second, "deny")

	// A forged delivery of the same commit is refused: its sender does not have the secret.
	w.hook.Update(func(c *hook.Config) { c.Secret = "forged" })
	if d := w.push("main"); d.Accepted() || d.Attempts[0].Status != 401 {
		t.Errorf("a forged delivery: %+v", d)
	}
	w.decides(second, "deny")
	w.hook.Update(func(c *hook.Config) { c.Secret = w.secret })
	last := w.commit()
	w.pushMain(last)
	w.decides(second, "allow")
	w.refreshes()
	if rows := w.query(t, `SELECT FROM audit.policy_changes WHERE kind = 'policy_loaded' AND commit = $1`, head); len(rows) != 0 {
		t.Errorf("the commit of the forged delivery was activated %d times", len(rows))
	}
	if rows := w.query(t, `SELECT FROM audit.webhook_deliveries WHERE receiver = 'policy' AND verdict = 'allow'`); len(rows) != w.sent-1 {
		t.Errorf("%d deliveries are recorded, want %d", len(rows), w.sent-1)
	}
	w.outageAndLoss()
}

// outageAndLoss: during an outage of PostgreSQL a delivery is answered 503, and Bitbucket's
// resend is accepted once. A delivery that Bitbucket loses is made good by the next poll.
func (w *webhookFixture) outageAndLoss() {
	w.t.Helper()
	const third, fourth = "third.partner.example", "fourth.partner.example"
	w.postgres.Kill(w.t)
	w.hook.Update(func(c *hook.Config) {
		c.BeforeAttempt = func(number int) {
			if number == 2 {
				w.postgres.Restart(w.t)
				w.server.ready()
				w.other.ready()
			}
		}
	})
	head := w.allow(third)
	d := w.push("main")
	if len(d.Attempts) < 2 || d.Attempts[0].Status != 503 || !d.Accepted() {
		w.t.Fatalf("during the outage: %+v", d)
	}
	w.active(head)
	w.decides(third, "allow")
	if rows := w.query(w.t, `SELECT verdict FROM audit.webhook_deliveries WHERE request_id = $1::text AND unqueued IS NULL`, d.RequestUUID); len(rows) != 1 {
		w.t.Errorf("the delivery that was sent again is recorded as %v", rows)
	}
	w.hook.Update(func(c *hook.Config) { c.BeforeAttempt = nil })

	w.hook.Lose(1)
	w.allow(third, fourth)
	if d := w.push("main"); d.Skipped == "" {
		w.t.Fatalf("%+v", d)
	}
	w.decides(fourth, "deny")
	text, err := os.ReadFile(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.config, []byte(strings.Replace(string(text), "poll_interval: 24h", "poll_interval: 5s", 1)), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.stop()
	w.restart()
	w.hook.Lose(1)
	head = w.allow(fourth)
	w.push("main")
	eventually(w.t, "the poll finds the lost push", func() bool { return w.policyCommit() == head })
}
