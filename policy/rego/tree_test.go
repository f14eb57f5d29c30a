package rego_test

import (
	"io/fs"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/deploy"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// deployed reads the policy repository of a new installation.
func deployed(t *testing.T) *policy.Snapshot {
	t.Helper()
	root, err := fs.Sub(deploy.PolicyRepository, "policy-repository")
	if err != nil {
		t.Fatal(err)
	}
	var files []policy.File
	err = fs.WalkDir(root, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !policy.Belongs(path) {
			return err
		}
		content, err := fs.ReadFile(root, path)
		files = append(files, policy.File{Path: path, Content: content})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// enforcing is the tree after acme/payments has left report mode.
func enforcing(t *testing.T, tree *policy.Snapshot) *policy.Snapshot {
	t.Helper()
	const list = "data/rollout/repositories.yaml"
	files := slices.DeleteFunc(slices.Clone(tree.Files), func(f policy.File) bool { return f.Path == list })
	if len(files) == len(tree.Files) {
		t.Fatalf("there is no %s", list)
	}
	s, err := policy.NewSnapshot(append(files, policy.File{Path: list, Content: []byte("enforced: [acme/payments]\ndelegated: [acme/payments]\n")}), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func loaded(t *testing.T, tree *policy.Snapshot) *rego.Set {
	t.Helper()
	set, err := rego.Load(t.Context(), tree, rego.Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestDeployedPolicy: the shipped policy repository loads without an error or a warning,
// its tests cover every line, and it decides the requests of the tour.
func TestDeployedPolicy(t *testing.T) {
	tree := deployed(t)
	problems, warnings, err := rego.Check(t.Context(), tree, rego.Options{Names: true})
	if err != nil || len(problems) > 0 || len(warnings) > 0 {
		t.Fatalf("%v\nproblems:\n%v\nwarnings:\n%v", err, problems, warnings)
	}
	report, err := rego.Test(t.Context(), tree, rego.Options{Names: true})
	if err != nil || !report.Passed() || len(report.Results) < 10 {
		t.Fatalf("%v, %+v", err, report)
	}
	if report.Coverage < 100 {
		t.Errorf("the tests cover %.1f %%", report.Coverage)
	}
	shipped, begun := loaded(t, tree), loaded(t, enforcing(t, tree))
	for _, tc := range []struct {
		enforced                     bool // for acme/payments; in the tree as shipped, for none
		repository, deployment, host string
		verdict                      policy.Verdict
		reason                       policy.Reason
		rule                         string
		wouldDeny                    bool
	}{
		{true, "acme/payments", "production", "api.partner.example", policy.Allow, policy.PolicyAllowed, "settle-with-partner", false},
		{true, "acme/payments", "", "api.partner.example", policy.Deny, policy.PolicyDenied, "partner-from-production-only", false},
		{true, "acme/payments", "staging", "api.partner.example", policy.Deny, policy.PolicyDenied, "partner-from-production-only", false},
		{true, "acme/payments", "", "unlisted.example", policy.Deny, policy.NoRuleMatched, "", false},
		{true, "acme/payments", "", "sandbox.partner.example", policy.Allow, policy.PolicyAllowed, "partner-sandbox", false},
		{true, "acme/website", "", "unlisted.example", policy.Allow, policy.NoRuleMatched, "observed", true},
		{true, "acme/website", "", "pastebin.example", policy.Deny, policy.PolicyDenied, "no-paste-sites", false},
		{true, "acme/website", "", "registry.packages.example", policy.Allow, policy.PolicyAllowed, "shared-registries", false},
		{true, "acme/website", "production", "sandbox.partner.example", policy.Allow, policy.NoRuleMatched, "observed", true},
		{false, "acme/payments", "", "api.partner.example", policy.Allow, policy.PolicyDenied, "partner-from-production-only", true},
		{false, "acme/payments", "", "unlisted.example", policy.Allow, policy.NoRuleMatched, "observed", true},
		{false, "acme/payments", "", "raw.pastebin.example", policy.Deny, policy.PolicyDenied, "no-paste-sites", false},
		{false, "acme/payments", "", "metadata.cloud.example", policy.Deny, policy.PolicyDenied, "no-metadata", false},
		{false, "acme/other", "production", "unlisted.example", policy.Allow, policy.NoRuleMatched, "observed", true},
	} {
		set := shipped
		if tc.enforced {
			set = begun
		}
		parsed, err := destination.ParseAuthority(tc.host + ":443")
		if err != nil {
			t.Fatal(err)
		}
		p := &identity.Principal{
			Kind:       identity.KindBitbucketStep,
			Workspace:  identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d", Slug: "acme"},
			Repository: identity.Repository{UUID: "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11", FullName: tc.repository, Project: "PAY"},
			Branch:     "feature/x",
		}
		if tc.deployment != "" {
			p.Deployment = &identity.Deployment{UUID: "0f000000-0000-4000-8000-000000000003", Name: tc.deployment, Slug: tc.deployment, Type: tc.deployment}
		}
		d, err := set.Decide(t.Context(), &policy.Request{
			Principal: p, Action: policy.Connect, Target: parsed,
			ClientAddress: netip.MustParseAddr("192.0.2.7"), Time: time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC),
		})
		if err != nil || d.Verdict != tc.verdict || d.Reason != tc.reason || d.Rule != tc.rule || d.WouldDeny != tc.wouldDeny {
			t.Errorf("%s %q to %s: %v %s rule %q would_deny %v (%v)", tc.repository, tc.deployment, tc.host, d.Verdict, d.Reason, d.Rule, d.WouldDeny, err)
		}
	}
}
