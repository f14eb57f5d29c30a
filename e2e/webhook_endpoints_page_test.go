package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const endpointsPage = "../docs/webhook-endpoints.md"

var (
	pageBlock = regexp.MustCompile("(?ms)^```(sh|yaml|text)\n(.*?)^```$")
	// pageDelivery and pageCredential stand for the ids of a run.
	pageDelivery   = "019ad5a1-4c1e-7d0b-9f57-3c0b5b0a9d11"
	pageCredential = "0f3a9c51d27be846"
	deliveryRow    = regexp.MustCompile(`(?m)^([0-9a-f-]{36})\s+\S+\s+builds\s+repo:push\s+dead 1/2$`)
	credentialRow  = regexp.MustCompile(`(?m)^([0-9a-f]{16})\s+private-jenkins\s.*\sbuild-1$`)
)

// endpointsGuide is one way through docs/webhook-endpoints.md.
type endpointsGuide struct {
	*guide
	jenkins, private *buildServer
	replace          []string // pairs: a text of the page, and what a run has
	listener         string
}

// section is a section webhooks of the page with the paths and addresses of the run.
func (g *endpointsGuide) section(text string) string {
	return strings.NewReplacer(`":8443"`, fmt.Sprintf("%q", g.listener), "/etc/sallyport/", g.w.Directory+"/",
		"https://jenkins.internal.example/bitbucket-scmsource-hook/notify", g.jenkins.URL+"/", `"10.20.0.0/16"`, `"127.0.0.0/8"`).Replace(text)
}

// newEndpointsGuide starts a server with the first section of the page and the endpoint of
// the second.
func newEndpointsGuide(t *testing.T, sections []string) *endpointsGuide {
	t.Helper()
	w := newFixture(t, options{})
	w.addSecret(forwardSecret)
	g := &endpointsGuide{jenkins: newBuildServer(t, forwardKey(t)), private: newBuildServer(t, forwardKey(t)), listener: freeAddress(t)}
	g.guide = readerOf(t, w.program, t.TempDir())
	g.w = w
	certificate, key, err := w.WriteCertificate(w.Directory, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, from := range map[string]string{"hooks.pem": certificate, "hooks-key.pem": key, "cluster-ca.pem": certificate} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.Directory, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"webhook-builds.secret": forwardSecret, "cluster.token": "cluster-token-0123456789", "deployer.previous-secret": "unused-0123456789abcdef0123456789",
		"deployer.secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
	} {
		if err := os.WriteFile(filepath.Join(w.Directory, name), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base, err := os.ReadFile(w.config)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range append(sections[1:], sections[0]) { // the first is that of the server
		if err := os.WriteFile(w.config, append([]byte(string(base)), g.section(text)...), 0o600); err != nil {
			t.Fatal(err)
		}
		if output, status, err := g.sh.run("sallyport config check --config " + w.config + "\n"); err != nil || status != 0 {
			t.Errorf("section %d of %s: %v: %s", i, endpointsPage, err, output)
		}
	}
	_, deployer, ok := strings.Cut(sections[1], "  endpoints:\n")
	if !ok {
		t.Fatalf("%s: the second section has no endpoint", endpointsPage)
	}
	if err := os.WriteFile(w.config, append([]byte(string(base)), g.section(sections[0]+deployer)...), 0o600); err != nil {
		t.Fatal(err)
	}
	g.replace = []string{"/etc/sallyport/sallyport.yaml", w.config, "https://hooks.acme.example:8443", "https://" + g.listener,
		"http://127.0.0.1:8080", g.private.URL, "webhook agent --server", "webhook agent --ca-file " + w.CAFile + " --server"}
	return g
}

// push delivers a push, which the endpoint jenkins refuses for good.
func (g *endpointsGuide) push() {
	g.t.Helper()
	g.jenkins.fail(410)
	body := `{"actor":{},"repository":{"full_name":"acme/tools","uuid":"{22222222-0000-4000-8000-000000000001}"},"push":{"changes":[]}}`
	script := fmt.Sprintf("curl --silent --show-error --fail --cacert %s --header 'Content-Type: application/json' --header 'X-Event-Key: repo:push' --header 'X-Hub-Signature: %s' --data '%s' https://%s/hooks/builds-5f0c2d3a\n",
		g.w.CAFile, forwardKey(g.t.(*testing.T)).Sign([]byte(body)), body, g.listener)
	if output, status, err := g.sh.run(script); err != nil || status != 0 {
		g.t.Fatalf("push: %v: %s", err, output)
	}
}

// TestWebhookEndpointsGuide runs every command of docs/webhook-endpoints.md with a real server
// and checks every section of its configuration.
func TestWebhookEndpointsGuide(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(endpointsPage)
	if err != nil {
		t.Fatal(err)
	}
	var sections, commands []string
	for _, block := range pageBlock.FindAllStringSubmatch(string(raw), -1) {
		switch {
		case block[1] == "sh":
			commands = append(commands, block[2])
		case strings.HasPrefix(block[2], "webhooks:\n"):
			sections = append(sections, block[2])
		}
	}
	if len(sections) != 3 || len(commands) != 10 {
		t.Fatalf("%s was read as %d sections and %d commands", endpointsPage, len(sections), len(commands))
	}
	g := newEndpointsGuide(t, sections)
	g.w.start()
	t.Cleanup(func() { _, _, _ = g.sh.run("kill $agent\n") })
	for _, command := range commands {
		if !g.command(command) {
			t.FailNow()
		}
	}
	eventually(t, "the delivery is sent again", func() bool { return len(g.jenkins.received()) == 1 })
	ages := g.w.query(t, `SELECT attributes::text AS ages FROM audit.operations WHERE kind = 'secret_ages' AND attributes ->> 'secrets' LIKE '%webhook_secret 20%webhooks.receivers[builds].secret_file%'`)
	if len(ages) == 0 || strings.Contains(fmt.Sprint(ages), forwardSecret) {
		t.Errorf("the ages of secrets are recorded as %v", ages)
	}
}

// command runs one command of the page, and checks its effect.
func (g *endpointsGuide) command(text string) bool {
	t := g.t
	t.Helper()
	has := func(part string) bool { return strings.HasPrefix(text, "sallyport webhook "+part) }
	switch {
	case has("agent --server"):
		text = strings.TrimSuffix(text, "\n") + " > agent.log 2>&1 & agent=$!\n"
	case has("deliveries"):
		eventually(t, "the delivery is a dead letter", func() bool {
			output, _, err := g.sh.run("sallyport webhook dead-letters --endpoint jenkins --config " + g.w.config + "\n")
			return err == nil && strings.Contains(output, "jenkins")
		})
	case has("replay"):
		g.jenkins.fail(0)
	}
	output, status, err := g.sh.run(strings.NewReplacer(g.replace...).Replace(text))
	if err != nil || status != 0 {
		t.Errorf("%s%v, status %d: %s", text, err, status, output)
		return false
	}
	switch {
	case has("agent --server"):
		g.push()
		eventually(t, "the agent delivers", func() bool { return len(g.private.received()) == 1 })
	case has("agent-credential list"):
		return g.found(pageCredential, credentialRow, output)
	case strings.HasPrefix(text, "sallyport audit query") && !strings.Contains(output, "webhook_failed"):
		t.Errorf("%sprints %s", text, output)
	case has("deliveries"):
		return g.found(pageDelivery, deliveryRow, output)
	case has("show") && !strings.Contains(output, "forward to jenkins"), has("replay") && !strings.Contains(output, "is sent to jenkins again"):
		t.Errorf("%sprints %s", text, output)
	}
	return true
}

// found remembers what a run has in the place of an id of the page.
func (g *endpointsGuide) found(id string, row *regexp.Regexp, output string) bool {
	m := row.FindStringSubmatch(output)
	if m == nil {
		g.t.Errorf("no row %s in %s", row, output)
		return false
	}
	g.replace = append(g.replace, id, m[1])
	return true
}
