package docs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/proxytest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/webhook"
)

// block is one fenced block of a page. A first line "# name" gives its name.
type block struct {
	page, language, name, text string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

func blocks(t *testing.T, language string, from ...string) []block {
	t.Helper()
	var all []block
	for _, page := range from {
		for _, found := range fence.FindAllStringSubmatch(read(t, page), -1) {
			b := block{page: page, language: found[1], text: found[2]}
			first, _, _ := strings.Cut(b.text, "\n")
			b.name, _ = strings.CutPrefix(first, "# ")
			if b.language == language {
				all = append(all, b)
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("no block of %s in %v", language, from)
	}
	return all
}

func named(t *testing.T, page, language, name string) block {
	t.Helper()
	all := blocks(t, language, page)
	i := slices.IndexFunc(all, func(b block) bool { return b.name == name })
	if i < 0 {
		t.Fatalf("%s has no block # %s", page, name)
	}
	return all[i]
}

// TestConfigurationLoads loads the configuration of operations.md with the files
// that the configuration names.
func TestConfigurationLoads(t *testing.T) {
	directory := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, key := proxytest.SelfSignedPEM(t, "egress.acme.example")
	write("tls/certificate.pem", certificate)
	write("tls/key.pem", key)
	write("policy-repository/egress/first.rego", "package sallyport.egress\n")
	for _, secret := range []string{"bitbucket-token", "database-url", "sealer-database-url", "migration-url"} {
		write("secrets/"+secret, "postgres://somebody@database.example/sallyport\n")
	}
	write("sallyport.yaml", named(t, "operations.md", "yaml", "sallyport.yaml").text)
	cfg, err := config.Load(filepath.Join(directory, "sallyport.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if warnings := cfg.Warnings(); len(warnings) > 0 {
		t.Errorf("it is warned about: %v", warnings)
	}
}

// TestPipelineHasWhatAStepNeeds parses the pipeline of pipelines.md and checks the
// lines without which some client bypasses the proxy or prints the token.
func TestPipelineHasWhatAStepNeeds(t *testing.T) {
	var file struct {
		Pipelines struct {
			Branches map[string][]struct {
				Step struct {
					Deployment string
					OIDC       struct {
						Audiences []string
					}
					Script      []string
					AfterScript []string `yaml:"after-script"`
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(named(t, "pipelines.md", "yaml", "variables only").text), &file); err != nil {
		t.Fatal(err)
	}
	steps := file.Pipelines.Branches["main"]
	if len(steps) != 1 {
		t.Fatalf("the pipeline was read as %d steps", len(steps))
	}
	step := steps[0].Step
	if len(step.OIDC.Audiences) != 1 || step.Deployment == "" {
		t.Errorf("audiences %q, deployment %q", step.OIDC.Audiences, step.Deployment)
	}
	for name, script := range map[string][]string{"script": step.Script, "after-script": step.AfterScript} {
		environment := exported(t, script)
		proxyURL := environment["HTTPS_PROXY"]
		if !stepProxyURL.MatchString(proxyURL) {
			t.Errorf("%s: HTTPS_PROXY is %q, not https://name:token@host:port", name, proxyURL)
		}
		for _, twin := range []string{"https_proxy", "HTTP_PROXY", "http_proxy"} {
			if environment[twin] != proxyURL {
				t.Errorf("%s: %s is %q", name, twin, environment[twin])
			}
		}
		if not := environment["NO_PROXY"]; not != environment["no_proxy"] || !strings.Contains(not, "localhost,127.0.0.1,host.docker.internal") || strings.ContainsAny(not, "*/") {
			t.Errorf("%s: NO_PROXY is %q, no_proxy %q", name, not, environment["no_proxy"])
		}
		if environment["GIT_HTTP_PROXY_AUTHMETHOD"] != "basic" {
			t.Errorf("%s: git would wait for a 407", name)
		}
	}
}

// TestPipelineStartsTheProgram runs the script of pipelines.md with another curl and
// another program: it starts only a program with the pinned checksum.
func TestPipelineStartsTheProgram(t *testing.T) {
	var file struct {
		Pipelines struct {
			Branches map[string][]struct {
				Step struct {
					OIDC        struct{ Audiences []string }
					Script      []string
					AfterScript []string `yaml:"after-script"`
				}
			}
		}
	}
	if err := yaml.Unmarshal([]byte(named(t, "pipelines.md", "yaml", "bitbucket-pipelines.yml").text), &file); err != nil {
		t.Fatal(err)
	}
	step := file.Pipelines.Branches["main"][0].Step
	if len(step.OIDC.Audiences) != 1 || !slices.Contains(step.AfterScript, "sallyport-step stop") {
		t.Errorf("%+v", step)
	}
	const program = "#!/bin/sh\necho \"export STARTED='$*'\"\n"
	bin := t.TempDir()
	curl := "#!/bin/sh\ncase $1 in -fsSo) cat > \"$2\" <<'END'\n" + program + "END\nesac\n"
	if err := os.WriteFile(filepath.Join(bin, "curl"), []byte(curl), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(sum string) (string, error) {
		script := strings.NewReplacer("/usr/local/bin", bin, "SHA256-OF-THE-PROGRAM", sum).Replace(strings.Join(append(step.Script, `echo "started: $STARTED"`), "\n"))
		cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", script)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run(fmt.Sprintf("%x", sha256.Sum256([]byte(program)))); err != nil || !strings.Contains(out, "started: start --proxy https://egress.acme.example:3129") {
		t.Errorf("%v %s", err, out)
	}
	if out, err := run(strings.Repeat("0", 64)); err == nil || strings.Contains(out, "started:") {
		t.Errorf("another program is started: %v %s", err, out)
	}
}

// stepProxyURL is a proxy URL with the token that [exported] sets.
var stepProxyURL = regexp.MustCompile(`^https://[a-z]+:eyJ\.x\.y@[a-z.]+:\d+$`)

// TestReadmeStep runs the two lines of README's step.
func TestReadmeStep(t *testing.T) {
	var steps []struct {
		Step struct {
			OIDC   struct{ Audiences []string }
			Script []string
		}
	}
	if err := yaml.Unmarshal([]byte(blocks(t, "yaml", "../README.md")[0].text), &steps); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 1 || len(steps[0].Step.OIDC.Audiences) != 1 {
		t.Fatalf("README's step was read as %+v", steps)
	}
	environment := exported(t, steps[0].Step.Script)
	if proxyURL := environment["HTTPS_PROXY"]; !stepProxyURL.MatchString(proxyURL) || environment["https_proxy"] != proxyURL {
		t.Errorf("HTTPS_PROXY is %q, https_proxy %q", proxyURL, environment["https_proxy"])
	}
}

// exported runs the exports of a script in a shell, as a step does, and returns
// the environment that they leave.
func exported(t *testing.T, script []string) map[string]string {
	t.Helper()
	var exports []string
	for _, line := range script {
		if strings.HasPrefix(line, "export ") {
			exports = append(exports, line)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", strings.Join(append(exports, "env"), "\n"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "BITBUCKET_STEP_OIDC_TOKEN=eyJ.x.y"}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%q: %v", exports, err)
	}
	environment := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		environment[name] = value
	}
	return environment
}

// TestPolicyLoadsAndDecides loads the policies of README.md and policy-reference.md,
// each by itself, and compares decisions with what the text states.
func TestPolicyLoadsAndDecides(t *testing.T) {
	readme := blocks(t, "rego", "../README.md")[0]
	readme.name = "egress/readme.rego"
	for _, p := range []struct {
		blocks    []block
		decisions []decision
	}{
		{[]block{readme}, []decision{
			{"acme/payments", "production", "api.partner.example:443", "allow policy_allowed settle-with-partner"},
			{"acme/payments", "", "api.partner.example:443", "deny no_rule_matched "},
			{"acme/other", "production", "api.partner.example:443", "deny no_rule_matched "},
		}},
		{[]block{
			named(t, "policy-reference.md", "rego", "egress/first.rego"),
			named(t, "policy-reference.md", "rego", "repositories/acme/payments/partner.rego"),
		}, []decision{
			{"acme/payments", "production", "api.partner.example:443", "allow policy_allowed settle-with-partner"},
			{"acme/payments", "", "api.partner.example:443", "deny no_rule_matched "},
			{"acme/payments", "production", "api.partner.example:8443", "deny no_rule_matched "},
			{"acme/other", "production", "api.partner.example:443", "deny no_rule_matched "},
			{"acme/other", "", "eu.mirror.packages.example:443", "allow policy_allowed shared-registries"},
			{"acme/other", "", "mirror.packages.example:443", "deny no_rule_matched "},
			{"acme/website", "", "fonts.unlisted.example:443", "allow no_rule_matched observed"},
			{"acme/website", "", "raw.pastebin.example:443", "deny policy_denied no-paste-sites"},
		}},
	} {
		checkDecisions(t, p.blocks, p.decisions)
	}
}

// TestWebhookPolicyLoadsAndDecides loads the rules about deliveries of
// policy-reference.md, and compares decisions with what the text states.
func TestWebhookPolicyLoadsAndDecides(t *testing.T) {
	set := loadBlocks(t, []block{
		named(t, "policy-reference.md", "rego", "egress/first.rego"),
		named(t, "policy-reference.md", "rego", "webhook/first.rego"),
		named(t, "policy-reference.md", "rego", "repositories/acme/payments/webhook/own.rego"),
	})
	const fork = "0f000000-0000-4000-8000-000000000001"
	for _, c := range []struct {
		repository, event, source string
		refs                      []webhook.Ref
		want                      string
	}{
		{"acme/app", "repo:push", "", []webhook.Ref{{Type: webhook.Branch, Name: "main", Change: webhook.Updated}}, "allow policy_allowed builds [{forward jenkins to-jenkins}]"},
		{"acme/app", "repo:push", "", []webhook.Ref{{Type: webhook.Branch, Name: "main", Change: webhook.Deleted}}, "allow policy_allowed builds []"},
		{"acme/app", "repo:fork", "", nil, "deny no_rule_matched  []"},
		{"acme/app", "pullrequest:fulfilled", fork, nil, "deny policy_denied no-forks []"},
		{"acme/app", "pullrequest:fulfilled", "-", nil, "deny policy_denied no-forks []"},
		{"acme/website", "pullrequest:fulfilled", fork, nil, "allow policy_denied no-forks []"},
		{"acme/payments", "repo:push", "", []webhook.Ref{{Type: webhook.Tag, Name: "v1", Change: webhook.Created}}, "deny policy_denied no-tags []"},
		{"acme/app", "repo:push", "", []webhook.Ref{{Type: webhook.Tag, Name: "v1", Change: webhook.Created}}, "allow policy_allowed builds []"},
	} {
		e := &webhook.Event{Kind: webhook.Cloud, Key: c.event, Repository: &webhook.Repository{UUID: "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11", FullName: c.repository}, Refs: c.refs}
		if c.source != "" {
			e.PullRequest = &webhook.PullRequest{ID: 7, State: "MERGED"}
		}
		if c.source != "" && c.source != "-" {
			e.PullRequest.Source.Repository = &webhook.Repository{UUID: c.source, FullName: "acme/fork"}
		}
		d, err := set.DecideDelivery(t.Context(), &webhook.Delivery{Receiver: "builds", Event: e, Received: time.Unix(1, 0)})
		if got := fmt.Sprintf("%v %s %s %v", d.Verdict, d.Reason, d.Rule, d.Routes); err != nil || got != c.want {
			t.Errorf("%s of %s from %q: %s, want %s (%v)", c.event, c.repository, c.source, got, c.want, err)
		}
	}
}

// decision is a request and the verdict, reason and rule that a page promises.
type decision struct {
	repository, deployment, to string
	want                       string
}

func checkDecisions(t *testing.T, blocks []block, decisions []decision) {
	t.Helper()
	engine := new(rego.Engine)
	engine.Swap(loadBlocks(t, blocks))
	for _, c := range decisions {
		d, err := engine.Decide(t.Context(), question(t, c.repository, c.deployment, c.to))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%v %s %s", d.Verdict, d.Reason, d.Rule); got != c.want {
			t.Errorf("%s (%s) to %s: %s, want %s", c.repository, c.deployment, c.to, got, c.want)
		}
	}
}

// loadBlocks loads a policy of blocks, which has no faults and no warnings.
func loadBlocks(t *testing.T, blocks []block) *rego.Set {
	t.Helper()
	var files []policy.File
	for _, b := range blocks {
		files = append(files, policy.File{Path: b.name, Content: []byte(b.text)})
	}
	snapshot, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	options := rego.Options{Names: true, Deadline: 10 * time.Second}
	problems, warnings, err := rego.Check(t.Context(), snapshot, options)
	if err != nil || len(problems) > 0 || len(warnings) > 0 {
		t.Fatalf("%v\n%v\n%v", err, problems, warnings)
	}
	set, err := rego.Load(t.Context(), snapshot, options)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func question(t *testing.T, repository, deployment, to string) *policy.Request {
	t.Helper()
	const uuid = "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"
	host, err := destination.ParseAuthority(to)
	if err != nil {
		t.Fatal(err)
	}
	p := &identity.Principal{
		Kind: identity.KindBitbucketStep, Branch: "main",
		Workspace:  identity.Workspace{UUID: uuid, Slug: "acme"},
		Repository: identity.Repository{UUID: uuid, FullName: repository, Project: "ACME"},
		Pipeline:   identity.Run{UUID: uuid}, Step: identity.Run{UUID: uuid},
	}
	if deployment != "" {
		p.Deployment = &identity.Deployment{UUID: uuid, Name: deployment, Slug: deployment, Type: deployment}
	}
	return &policy.Request{
		Principal: p, Action: policy.Connect, Target: host, ClientAddress: netip.MustParseAddr("192.0.2.7"),
		Time: time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC),
	}
}

// TestQueriesRun runs the SQL of operator.md, and of the commands in it, as the
// auditor on the real schema.
func TestQueriesRun(t *testing.T) {
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})
	conn, err := pgx.Connect(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var queries []string
	for _, b := range blocks(t, "sql", "operator.md") {
		queries = append(queries, b.text)
	}
	for _, b := range blocks(t, "sh", "operator.md") {
		for _, found := range regexp.MustCompile(`audit psql .*-c '([^']+)'`).FindAllStringSubmatch(b.text, -1) {
			queries = append(queries, found[1])
		}
	}
	for _, query := range queries {
		if _, err := conn.Exec(t.Context(), query); err != nil {
			t.Errorf("%s\n%v", query, err)
		}
	}
}

// TestCommandsExist checks every command line in a shell block: targets of the
// Makefile, and commands and flags of the real program; the shell parses the
// block whole.
func TestCommandsExist(t *testing.T) {
	inStep := filepath.Join(t.TempDir(), "sallyport-step")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", inStep, "../cmd/sallyport-step").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	makefile := read(t, "../Makefile")
	for _, b := range blocks(t, "sh", "../README.md", "../CONTRIBUTING.md", "pipelines.md", "operator.md") {
		if out, err := exec.CommandContext(t.Context(), "sh", "-n", "-c", b.text).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", b.page, err, out)
		}
		for line := range strings.Lines(b.text) {
			switch words := strings.Fields(line); {
			case len(words) > 1 && words[0] == "make":
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("%s: make has no target %s", b.page, words[1])
				}
			case len(words) > 1 && words[0] == "sallyport":
				checkCommand(t, words[1:])
			}
		}
	}
}

// checkCommand asks the program for help on a command line's command, which ends
// at its first flag or path, and looks for its flags there.
func checkCommand(t *testing.T, words []string) {
	t.Helper()
	end := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "-") || strings.HasPrefix(w, ".") })
	if end < 0 {
		end = len(words)
	}
	out, err := exec.CommandContext(t.Context(), program(t), append(slices.Clone(words[:end]), "--help")...).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("sallyport "+strings.Join(words[:end], " "))) {
		t.Errorf("sallyport %s is not a command: %v\n%s", strings.Join(words[:end], " "), err, out)
	}
	for _, flag := range words[end:] {
		if strings.HasPrefix(flag, "-") && !bytes.Contains(out, []byte(flag)) {
			t.Errorf("sallyport %s has no flag %s", strings.Join(words[:end], " "), flag)
		}
	}
}
