// Package tokentest is the table of odd and hostile tokens that a verifier of
// Bitbucket Pipelines' tokens has to judge. The package that verifies and the
// tests that drive the running server read the same table.
package tokentest

import (
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// What the verifier has to be configured with, beside the workspace's issuer and
// UUID, the default leeway and the default lifetime.
const (
	Audience       = "https://egress.acme.example"
	SecondAudience = "second"
)

// CheckKey is the check of rows whose key is not published. Each of them makes the
// verifier query the issuer, and only a response to that query makes the refusal final:
// another token within the floor is refused as unavailable.
const CheckKey = "key"

// Row is one token: what makes it odd, the source, the name of the check that refuses it
// first, and the result. Without a Problem it is accepted.
type Row struct {
	Name, Source string
	Check        string
	Problem      identity.Problem
	Make         func(*Forge) string
}

// Forge makes tokens out of a good one.
type Forge struct {
	Workspace *bitbuckettest.Workspace // the one that is configured
	Other     *bitbuckettest.Workspace // one that is not
	Payments  *bitbuckettest.Repository
	Step      *bitbuckettest.Step // of Payments, deploying
	Plain     *bitbuckettest.Step // also, deploying nothing
	Stranger  *bitbuckettest.Key  // published nowhere
	ES256     *bitbuckettest.Key  // published, of another algorithm
	Now       time.Time

	foreign *bitbuckettest.Step // of Other
}

// NewForge makes what a forger needs at a Bitbucket, for steps of the configured
// workspace. It adds a workspace "evil" and publishes a key in the configured one.
func NewForge(s *bitbuckettest.Server, step, plain *bitbuckettest.Step, now time.Time) *Forge {
	payments := step.Pipeline.Repository
	f := &Forge{Workspace: payments.Workspace(), Other: s.AddWorkspace("evil"), Payments: payments, Step: step, Plain: plain,
		Stranger: s.NewKey("", "RS256"), ES256: s.NewKey("", "ES256"), Now: now}
	f.Workspace.Publish(f.ES256)
	f.foreign = f.Other.AddRepository("payments", "PAY").Run("main").Step(nil)
	return f
}

func (f *Forge) token(s *bitbuckettest.Step) string {
	return s.Token(bitbuckettest.TokenOptions{Audiences: []string{Audience}})
}
