package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

const webhookPage = "../docs/webhooks.md"

// What the page of webhooks and a run have in different words.
var (
	guidePath = regexp.MustCompile(`/hooks/policy(-dc)?-[0-9a-f]{32}`)
	guideFile = regexp.MustCompile(`(/[^ "]*)?/webhook-policy(-dc)?\.`)
	// guideWriter is the place of an event in the log.
	guideWriter = regexp.MustCompile(`(, number )\d+ of writer \S+`)
	guideUntil  = regexp.MustCompile(`( is valid for \S+ until )\S+`)
	// guideWarning is a warning about the test's certificate.
	guideWarning = regexp.MustCompile(`(?m)^warning: .*certificate.*\n`)
)

// webhookGuide is one way through docs/webhooks.md.
type webhookGuide struct {
	*guide
	repository *bitbuckettest.Repository
	listener   string // as the page's URL is reached
	before     string // the commit that decided before the push
	jenkins    *httptest.Server
	builds     chan string // what the Jenkins received, with a valid signature
}

// TestWebhookGuide goes through docs/webhooks.md as its reader does: with the real program, a
// real server and a real database, and with a Bitbucket that delivers.
func TestWebhookGuide(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(webhookPage)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := guideSteps(string(raw))
	if err != nil {
		t.Fatalf("%s: %v", webhookPage, err)
	}
	g := newWebhookGuide(t)
	events := 0
	for _, s := range steps {
		if err := g.step(s); err != nil {
			t.Fatalf("%s:%d: %v", webhookPage, s.line, err)
		}
		if s.event != "" {
			events++
		}
	}
	if events != 5 || len(g.results) < 17 {
		t.Errorf("the page was read as %d commands and %d events", len(g.results), events)
	}
	last := g.results[len(g.results)-1]
	changed := *last.step
	changed.want += "more\n"
	if g.matches(&changed, last) == nil {
		t.Error("a wrong line passes")
	}
}

func newWebhookGuide(t *testing.T) *webhookGuide {
	t.Helper()
	w := newFixture(t, options{})
	w.Workspace.AddAccessToken("webhook-access-token", bitbuckettest.ScopeWebhook)
	w.addSecret("webhook-access-token")
	g := &webhookGuide{repository: w.Workspace.AddRepository("egress-policy", "SEC"), listener: freeAddress(t)}
	g.builds = make(chan string, 10)
	g.jenkins = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/bitbucket-hook/" || r.Header.Get("X-Hub-Signature") != hook.Signature(g.repository.Hooks()[0].Config().Secret, body) {
			http.Error(rw, "not signed", http.StatusUnauthorized)
			return
		}
		g.builds <- r.Header.Get("X-Event-Key")
	}))
	t.Cleanup(g.jenkins.Close)
	remotes := t.TempDir()
	clone, err := g.repository.ServeGit(filepath.Join(remotes, "served"))
	if err != nil {
		t.Fatal(err)
	}
	g.guide = readerOf(t, released(t), remotes)
	g.w = w
	reader := filepath.Dir(g.directory)
	if err := os.WriteFile(filepath.Join(reader, "webhook-token"), []byte("webhook-access-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(g.directory, os.DirFS("testdata/policy")); err != nil {
		t.Fatal(err)
	}
	setup := "git -C egress-policy init --quiet --initial-branch=main\ngit -C egress-policy remote add origin " + clone +
		"\ngit -C egress-policy add -A\ngit -C egress-policy commit --quiet -m policy\ngit -C egress-policy push --quiet -u origin main\n"
	if output, status, err := g.sh.run(setup); err != nil || status != 0 {
		t.Fatalf("%v: %s", err, output)
	}
	g.edit(fmt.Sprintf("directory: %q", w.policy), fmt.Sprintf("git: {url: %q, poll_interval: 24h}", clone))
	return g
}

// edit replaces a text of the configuration.
func (g *webhookGuide) edit(from, to string) {
	g.t.Helper()
	text, err := os.ReadFile(g.w.config)
	if err != nil {
		g.t.Fatal(err)
	}
	changed := strings.ReplaceAll(string(text), from, to)
	if err := os.WriteFile(g.w.config, []byte(changed), 0o600); err != nil || changed == string(text) {
		g.t.Fatal(from, err)
	}
}

// step executes one step of the page.
func (g *webhookGuide) step(s *guideStep) error {
	switch s.event {
	case "":
	case "start":
		g.w.start()
		g.before = g.w.policyCommit()
		if hooks := g.repository.Hooks(); len(hooks) != 1 || hooks[0].Config().Secret == "" {
			return fmt.Errorf("the repository has the webhooks %v", hooks)
		}
		g.repository.Hooks()[0].Update(func(c *hook.Config) { g.w.addSecret(c.Secret) })
		return nil
	case "restart":
		g.w.stop()
		g.w.restart()
		g.before = g.w.policyCommit()
		g.t.Cleanup(func() { _, _, _ = g.sh.run("kill $!\n") }) // the agent, where the page was not read to its end
		return nil
	case "built":
		select {
		case event := <-g.builds:
			if event != "repo:push" {
				return fmt.Errorf("the Jenkins received %s", event)
			}
		case <-time.After(patience):
			log, _ := os.ReadFile(filepath.Join(filepath.Dir(g.directory), "agent.log"))
			return fmt.Errorf("the Jenkins received nothing: %s", log)
		}
		eventually(g.t, "the pushed commit decides", func() bool { return g.w.policyCommit() != g.before })
		return nil
	case "pushed":
		ctx, cancel := context.WithTimeout(g.t.Context(), patience)
		defer cancel()
		if all, err := g.repository.Hooks()[0].Wait(ctx, 1); err != nil || !all[0].Accepted() {
			return fmt.Errorf("the delivery was not accepted: %+v: %w", all, err)
		}
		eventually(g.t, "the pushed commit decides", func() bool { return g.w.policyCommit() != g.before })
		return nil
	default:
		return fmt.Errorf("nothing is known of %q", s.event)
	}
	command := strings.NewReplacer("/etc/sallyport/sallyport.yaml", g.w.config, "https://hooks.acme.example:8443", "https://"+g.listener,
		"http://127.0.0.1:8080", g.jenkins.URL, "webhook agent --server", "webhook agent --ca-file "+g.w.CAFile+" --server").Replace(s.command)
	if strings.Contains(command, "webhook test") { // the test's authority is not one of the system's
		command = strings.TrimSuffix(command, "\n") + " --ca-file " + g.w.CAFile + "\n"
	}
	output, status, err := g.sh.run(command)
	if err != nil {
		return fmt.Errorf("%s%w\n%s", command, err, output)
	}
	if strings.HasPrefix(command, "cat webhooks.yaml >>") { // the reader corrects address and certificate
		certificate, key, err := g.w.WriteCertificate(g.w.Directory, "127.0.0.1")
		if err != nil {
			return err
		}
		g.edit(`address: ":8443"`, fmt.Sprintf("address: %q", g.listener))
		g.edit("tls: {certificate_file: tls/certificate.pem, key_file: tls/key.pem}", fmt.Sprintf("tls: {certificate_file: %q, key_file: %q}", certificate, key))
	}
	a := guideResult{step: s, output: output, status: status}
	g.results = append(g.results, a)
	return g.matches(s, a)
}

// matches compares what was printed with the page.
func (g *webhookGuide) matches(s *guideStep, a guideResult) error {
	same := func(text string) string {
		text = strings.NewReplacer(g.listener, "hooks.acme.example:8443", "valid for 127.0.0.1", "valid for hooks.acme.example",
			"name: 127.0.0.1 is an address", "name: hooks.acme.example has the addresses 203.0.113.7").Replace(text)
		text = guideUntil.ReplaceAllString(text, "${1}<day>")
		text = guideWriter.ReplaceAllString(text, "${1}N of writer W")
		text = guideWarning.ReplaceAllString(text, "")
		text = guideFile.ReplaceAllString(guidePath.ReplaceAllString(text, "<path>"), "<folder>/webhook-policy$2.")
		return unrepeated(g.today, text)
	}
	if want, got := same(s.want), same(a.output); got != want || a.status != s.status {
		return fmt.Errorf("it ended with %d and printed\n%s\n-- and the page has %d and --\n%s", a.status, got, s.status, want)
	}
	return nil
}
