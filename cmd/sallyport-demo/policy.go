package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sallyport/sallyport/deploy"
	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
	"github.com/sallyport/sallyport/internal/testenv"
)

// policyRepository is acme/egress-policy in the emulated Bitbucket. Its webhook delivers
// each push to the server.
type policyRepository struct {
	tree     string // a clone
	source   string // value of policy.git
	receiver string // section webhooks of the configuration
	hook     *hook.Sender
	endpoint *endpoint
}

// rollout is how far the tour's organization has come: the repository to start from
// enforces nothing but its guardrails.
const rollout = `enforced:
  - acme/payments
delegated:
  - acme/payments
`

// exception is what the tour's push adds. Its end is a day hence.
const exception = `list:
  - repository: acme/website
    hosts: [%q]
    owner: kim@acme.example
    ticket: "WEB-142: fonts move into the repository"
    until: %q
`

const pushTimeout = 30 * time.Second

// newPolicyRepository makes the repository with its first commit, and its webhook to the
// listener at an address.
func newPolicyRepository(env *testenv.Env, address string) (*policyRepository, error) {
	p := &policyRepository{tree: filepath.Join(env.Directory, "policy-repository")}
	repository := env.Workspace.AddRepository("egress-policy", "SEC")
	clone, err := repository.ServeGit(filepath.Join(env.Directory, "bitbucket", "egress-policy.git"))
	if err != nil {
		return nil, err
	}
	if err := copyPolicy(p.tree); err != nil {
		return nil, err
	}
	for _, arguments := range [][]string{{"init", "--quiet", "--initial-branch=main"}, {"remote", "add", "origin", clone}} {
		if err := p.git(arguments...); err != nil {
			return nil, err
		}
	}
	if err := p.commit("The policy to start from"); err != nil {
		return nil, err
	}
	b := make([]byte, 32)
	_, _ = rand.Read(b)
	secret, secretFile := hex.EncodeToString(b), filepath.Join(env.Directory, "webhook-secret")
	if err := os.WriteFile(secretFile, []byte(secret+"\n"), 0o600); err != nil {
		return nil, err
	}
	p.endpoint = newEndpoint(secret)
	const path = "/hooks/policy-5f0c2d3a"
	p.source = fmt.Sprintf("{url: %q, poll_interval: 1h}", clone)
	p.receiver = fmt.Sprintf(`webhooks:
  listener: {address: %q}
  receivers:
    - {name: policy, path: %s, kind: cloud, secret_file: %q, repositories: [acme/egress-policy], events: ["repo:push"], actions: [refresh_policy], forward_to: [builds]}
  endpoints:
    - {name: builds, url: %q, allow_networks: ["127.0.0.1/32"]}
`, address, path, secretFile, p.endpoint.server.URL)
	p.hook = repository.AddHook(hook.Config{URL: "http://" + address + path, Secret: secret, Events: []string{"repo:push"}})
	return p, nil
}

func copyPolicy(to string) error {
	tree, err := fs.Sub(deploy.PolicyRepository, "policy-repository")
	if err != nil {
		return err
	}
	if err := os.CopyFS(to, tree); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "data", "rollout", "repositories.yaml"), []byte(rollout), 0o644)
}

func (p *policyRepository) git(arguments ...string) error {
	cmd := exec.Command("git", arguments...)
	cmd.Dir = p.tree
	cmd.Env = append(withoutProxies(os.Environ()), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(arguments, " "), err, out)
	}
	return nil
}

// commit commits the tree and pushes it.
func (p *policyRepository) commit(subject string) error {
	for _, arguments := range [][]string{{"add", "-A"}, {"commit", "--quiet", "-m", subject}, {"push", "--quiet", "origin", "main"}} {
		if err := p.git(arguments...); err != nil {
			return err
		}
	}
	return nil
}

// push adds an exception, and returns when the server decides by it.
func (p *policyRepository) push(ctx context.Context, out io.Writer, srv *server) error {
	ctx, cancel := context.WithTimeout(ctx, pushTimeout)
	defer cancel()
	before, err := revision(ctx, srv.admin)
	if err != nil {
		return err
	}
	text := fmt.Sprintf(exception, fmt.Sprintf("%s:%d", unlistedHost, httpsPort), time.Now().Add(24*time.Hour).UTC().Format(time.RFC3339))
	if err := os.WriteFile(filepath.Join(p.tree, "data", "exceptions", "list.yaml"), []byte(text), 0o644); err != nil {
		return err
	}
	say(out, "   $ git commit -m 'WEB-142: fonts until they are moved' && git push origin main")
	if err := p.commit("WEB-142: fonts until they are moved"); err != nil {
		return err
	}
	pushed := time.Now()
	deliveries, err := p.hook.Wait(ctx, 1)
	if err != nil {
		return fmt.Errorf("the delivery: %w", err)
	}
	d := deliveries[0]
	if !d.Accepted() {
		return fmt.Errorf("the delivery was not accepted: %+v", d.Attempts)
	}
	say(out, "   Bitbucket delivers %s, signed: status %d, %s", d.Event, d.Attempts[0].Status, strings.TrimSpace(d.Attempts[0].Answer))
	select {
	case line := <-p.endpoint.received:
		say(out, "   The endpoint \"builds\", which Bitbucket cannot reach, received %s.", line)
	case <-ctx.Done():
		return fmt.Errorf("the endpoint received nothing: %w", ctx.Err())
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		if now, err := revision(ctx, srv.admin); err == nil && now != before {
			say(out, "   The commit is checked, recorded and active %.1f s after the push.", time.Since(pushed).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the push did not change policy: %w", ctx.Err())
		case <-again.C:
		}
	}
}

// revision is the active policy's, as /readyz reports it.
func revision(ctx context.Context, admin string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var body struct {
		Detail struct {
			Policy struct {
				Revision string `json:"revision"`
			} `json:"policy"`
		} `json:"detail"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return "", err
	}
	return body.Detail.Policy.Revision, nil
}
