package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// TestTwoWorkspaces: two workspaces side by side, each with an issuer, keys, an
// audience and an API of its own. What is right for one is wrong for the other.
func TestTwoWorkspaces(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	const audience, access = "https://egress.beta.example", "access-token-of-beta"
	beta := w.Bitbucket.AddWorkspace("beta")
	beta.SetAccessTokens(access)
	site := beta.AddRepository("payments", "PAY")
	tokenFile := filepath.Join(t.TempDir(), "beta")
	if err := os.WriteFile(tokenFile, []byte(access+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.addSecret(access)
	w.rewrite(t, "policy:\n", fmt.Sprintf(`    - workspace: beta
      workspace_uuid: %q
      issuer: %s
      audiences: [%q]
      api: {url: %s, token_file: %q}
policy:
`, beta.UUID, beta.Issuer(), audience, w.Bitbucket.APIURL(), tokenFile))
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	of := func(r *bitbuckettest.Repository, o bitbuckettest.TokenOptions) caller {
		return w.callerWith(r, nil, "main", o)
	}
	ours, theirs := bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}}, bitbuckettest.TokenOptions{Audiences: []string{audience}}
	both := bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience, audience}}
	edit := func(o bitbuckettest.TokenOptions, change func(map[string]any)) bitbuckettest.TokenOptions {
		o.Edit = change
		return o
	}
	for _, c := range []struct {
		name   string
		caller caller
		reason string
	}{
		{"ours", of(w.Payments, ours), ""},
		{"theirs", of(site, theirs), ""},
		{"ours, for both", of(w.Payments, both), ""},
		{"theirs, for both", of(site, both), ""},
		{"ours, for them", of(w.Payments, theirs), "credential_audience"},
		{"theirs, for us", of(site, ours), "credential_audience"},
		{"theirs, that says it is ours", of(site, edit(theirs, func(c map[string]any) { c["iss"] = w.Workspace.Issuer() })), "credential_key_unknown"},
		{"theirs, of our workspace", of(site, edit(theirs, func(c map[string]any) { c["workspaceUuid"] = bitbuckettest.Braced(w.Workspace.UUID) })), "credential_workspace"},
		{"theirs, of our workspace, for us", of(site, edit(both, func(c map[string]any) { c["workspaceUuid"] = bitbuckettest.Braced(w.Workspace.UUID) })), "credential_workspace"},
	} {
		var status int
		var reason string
		eventually(t, c.name+" can be judged", func() bool {
			status, reason = w.request(t, c.caller, to)
			return reason != "keys_unavailable"
		})
		if want := map[bool]int{true: 200, false: 407}[c.reason == ""]; status != want || reason != c.reason {
			t.Errorf("%s: %d %q", c.name, status, reason)
		}
	}
	// A repository of the other workspace with our repository's UUID is one of that
	// workspace, and gets no name of ours.
	posing := of(site, edit(theirs, func(c map[string]any) {
		step := c["stepUuid"].(string)
		c["repositoryUuid"] = bitbuckettest.Braced(w.Payments.UUID)
		c["sub"] = bitbuckettest.Braced(w.Payments.UUID) + ":" + step
	}))
	w.expect(t, posing, to, 503, "names_unavailable")
	check(t, "row", w.lastDecision(t, posing), fields{"workspace_uuid": beta.UUID, "repository": nil, "reason": "names_unavailable"})
	names := map[string]string{}
	for _, r := range w.query(t, `SELECT DISTINCT workspace, repository FROM audit.events WHERE kind = 'decision' AND verdict = 'allow'`) {
		names[show(r["workspace"])] = show(r["repository"])
	}
	if len(names) != 2 || names[`"acme"`] != `"acme/payments"` || names[`"beta"`] != `"beta/payments"` {
		t.Errorf("on record: %v", names)
	}

	// One issuer's absence is not the other's.
	gone := w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
	defer gone.Clear()
	beta.RotateKey(true)
	eventually(t, "their new key is asked for", func() bool {
		_, reason := w.request(t, of(site, theirs), to)
		return reason == "keys_unavailable"
	})
	w.expect(t, of(w.Payments, ours), to, 200, "")
}
