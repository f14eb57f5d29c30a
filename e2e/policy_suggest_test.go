package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// TestPolicySuggest: what was observed becomes rules that load without a warning
// and allow it, and nothing else.
func TestPolicySuggest(t *testing.T) {
	t.Parallel()
	// Everything is observed, but for one repository that is enforced.
	s := newSeeded(t, tree(t, `
-- egress/a.rego --
package sallyport.egress

allow contains {"rule": "shared"} if input.target.host == "registry.example"

deny contains {"rule": "no-paste"} if input.target.host == "paste.example"

report contains {"rule": "observed"} if input.principal.repository.full_name != "acme/strict"
`))
	observed := [][4]string{
		{"acme/website", "", "main", "fonts.example:443"},
		{"acme/website", "", "x", "fonts.example:443"},
		{"acme/website", "", "main", "raw.example:8443"},
		{"acme/website", "", "main", "192.0.2.1:443"},
		{"acme/website", "staging", "main", "[2001:db8::1]:22"},
		{"acme/website", "staging", "main", "deploy.example:22"},
		{"acme/website", "production", "main", "fonts.example:443"},
		{"acme/tools", "", "main", "registry.example:443"},
		{"acme/own", "", "main", "own.example:443"},
	}
	observed = append(observed, [4]string{"acme/website", "", "main", "my_bucket.example:443"})
	for i := range 6 {
		observed = append(observed, [4]string{"acme/website", "", "main", string(rune('a'+i)) + ".bucket.store.example:443"})
	}
	for i, o := range observed {
		id := s.recordDecision(o[0], o[1], o[2], o[3])
		// Allowed is not the same as passed: the first tunnel was cut at its beginning.
		reason := map[int]string{0: "hello_encrypted", 1: "finished", 2: "idle_timeout", 7: "hello_encrypted", 9: "hello_missing"}[i]
		if reason == "" {
			continue
		}
		kind := audit.KindTunnelClosed
		if i == 7 || i == 9 {
			kind = audit.KindWouldClose // report mode let it continue
		}
		if err := s.log.Record(t.Context(), &audit.Event{Time: s.now.Add(time.Minute), Kind: kind, DecisionID: id, CloseReason: reason}); err != nil {
			t.Fatal(err)
		}
	}
	s.recordDecision("acme/website", "", "main", "paste.example:443")
	s.recordDecision("acme/strict", "", "main", "refused.example:443")

	out := tree(t, `
-- egress/a.rego --
package sallyport.egress

allow contains {"rule": "shared"} if input.target.host == "registry.example"

deny contains {"rule": "no-paste"} if input.target.host == "paste.example"

delegate contains {"rule": "own"} if input.principal.repository.full_name != "acme/strict"
-- repositories/acme/own/own.rego --
package sallyport.repository["acme/own"]

allow contains {"rule": "x"} if input.target.host == "x.example"
`)
	output := s.run(0, "suggest", "--all", "--out", out, "--since", "2h", "--dry-run")
	checkContains(t, output, "-- repositories/acme/website/observed.rego --", "acme/own: 1 target, in repositories/acme/own/observed.rego", "acme/tools: needs nothing, all of 1 is allowed",
		"acme/strict: there is nothing to suggest", "acme/website: 13 targets",
		`acme/tools: rule shared allows registry.example:443, and enforce mode closes 1 tunnel with hello_encrypted. To accept them, add "ech": true to the rule`)
	file := filepath.Join(out, "repositories/acme/website/observed.rego")
	if _, err := os.Stat(file); err == nil {
		t.Error("--dry-run wrote a file")
	}
	s.run(0, "suggest", "--all", "--out", out, "--since", "2h")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checkContains(t, string(raw), `package sallyport.repository["acme/website"]`, "#   paste.example, by no-paste: once, by 1 pipeline",
		"\n# fonts.example: 2 times, by 1 pipeline, on ", "; it passed in report mode; enforce mode closes 1 tunnel with hello_encrypted: disable ECH in the client", `{"rule": "observed-builds-ech", "ech": true}`, `{"rule": "observed-builds-no-sni", "no_sni": true}`, "; it passed in report mode\n", "\t\t\"fonts.example\",\n", "\"raw.example:8443\",\n",
		`{"rule": "observed-builds-addresses", "allow_ip_literal": true}`, "not input.principal.deployment\n", `"[2001:db8::1]:22"`,
		`input.principal.deployment.slug == "staging"`, `# 6 names below bucket.store.example: to allow the whole domain, write "*.bucket.store.example".`)
	checkContains(t, runCommand(t, 0, "policy", "check", "--strict", out), "accepted", "0 warnings")
	checkContains(t, runCommand(t, 0, "policy", "test", out), "0 failed")

	// It allows what was observed, and no more than that.
	for _, o := range observed {
		if o[0] != "acme/website" {
			continue
		}
		as := "repository=" + o[0] + ",branch=" + o[2]
		if o[1] != "" {
			as += ",deployment=" + o[1]
		}
		runCommand(t, 0, "policy", "eval", out, "--as", as, "--to", o[3], "--expect", "allow")
	}
	for _, not := range [][2]string{
		{"repository=acme/website,deployment=production", "raw.example:8443"}, {"repository=acme/website", "deploy.example:22"}, {"repository=acme/website", "fonts.example:80"},
		{"repository=acme/website", "z.bucket.store.example"}, {"repository=acme/website", "paste.example"}, {"repository=acme/tools", "fonts.example"},
	} {
		runCommand(t, 0, "policy", "eval", out, "--as", not[0], "--to", not[1], "--expect", "deny")
	}

	// Again there is nothing to do, and denied requests count only with the flag.
	checkContains(t, s.run(0, "suggest", "--all", "--out", out), "acme/website: needs nothing, all of", "acme/own: needs nothing, all of 1 is allowed")
	output = s.run(0, "suggest", "--repository", "acme/strict", "--repository", "acme/ghost", "--repository", "acme/websit", "--repository", "website", "--out", out, "--refused")
	checkContains(t, output, "acme/strict: 1 target", "nothing delegates to it. Add to egress/:\n  delegate contains {\"rule\": \"own-rules-of-acme-strict\"} if", "acme/ghost: the log has not seen it in this time\n", "acme/websit: the log has not seen it in this time: did you mean acme/website?", "\nwebsite: the log has not seen it in this time: did you mean acme/website?")

	// A repository with rules gets what they do not allow, in a file of its own and under
	// ids of its own. Rules that nothing delegates to are not suggested again.
	s.recordDecision("acme/website", "", "main", "late.example:443")
	output = s.run(0, "suggest", "--all", "--out", out)
	checkContains(t, output, "acme/website: 1 target, in repositories/acme/website/observed-2.rego")
	raw, err = os.ReadFile(filepath.Join(out, "repositories/acme/website/observed-2.rego"))
	if err != nil || !strings.Contains(string(raw), "late.example") || strings.Contains(string(raw), "fonts.example") || !strings.Contains(string(raw), `{"rule": "observed-builds-2"}`) {
		t.Errorf("%v:\n%s", err, raw)
	}
	checkContains(t, s.run(0, "suggest", "--repository", "acme/strict", "--out", out, "--refused"), "its rules allow 1 more, and do not count yet")
	checkContains(t, runCommand(t, 0, "policy", "check", "--strict", out), "0 warnings")

	// Into nothing: everything stays in report mode.
	empty := filepath.Join(t.TempDir(), "new")
	checkContains(t, s.run(0, "suggest", "--repository", "acme/website", "--out", empty), "the organization had no rules")
	checkContains(t, runCommand(t, 0, "policy", "check", "--strict", empty), "0 warnings")
	runCommand(t, 0, "policy", "eval", empty, "--as", "repository=acme/website,branch=main", "--to", "fonts.example", "--expect", "allow")
	checkContains(t, runCommand(t, 0, "policy", "replay", empty, "--fail-on", "closed", "--database-url-file", s.urlFile, "--repository", "acme/website"), "0 closed")

	checkContains(t, s.run(2, "suggest", "--all"), "--out is missing")
	checkContains(t, s.run(2, "suggest", "--out", out), "name the repositories")
	checkContains(t, s.run(2, "suggest", "--all", "--out", tree(t, "-- egress/a.rego --\npackage x\n")), "egress/a.rego:1")
	if strings.Contains(output, "sha256") {
		t.Error(output)
	}
}
