package bitbucket

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// proven are the checks behind which it is known whose token it is: all else of
// it is valid, or does not concern its step.
var proven = []string{"expiry", "issued_at", "not_before", "lifetime", "audience"}

// TestRefusalsSayWhose goes through the table: a refusal names a step where its
// issuer signed that it is this step's, and never otherwise.
func TestRefusalsSayWhose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, asking)
		f := newForge(h)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, r := range tokentest.Rows {
			if r.Problem == "" {
				continue
			}
			floor()
			e := h.refuses(r.Make(f), r.Problem)
			if known := e.Principal != nil; known != slices.Contains(proven, r.Check) {
				t.Errorf("%s: it is known whose it is: %t", r.Name, known)
			}
			if p := e.Principal; p != nil && (p.Step.UUID != h.step.UUID || p.Repository.UUID != h.payments.UUID || p.Deployment.UUID != h.eu.UUID ||
				p.Workspace.UUID != h.acme.UUID || p.Issuer != h.acme.Issuer() || p.Expires.IsZero()) {
				t.Errorf("%s: %+v", r.Name, p)
			}
		}
	})
}

// TestForgedExpiredTokenNamesNoStep: the record of a token that no issuer signed names
// no step, although it is refused before its key is checked; and a token whose key is
// not held causes no request.
func TestForgedExpiredTokenNamesNoStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		ended := bitbuckettest.TokenOptions{Audiences: []string{audience}, IssuedAt: time.Now().Add(-3 * time.Hour), Lifetime: time.Hour}
		genuine := h.step.Token(ended)
		if e := h.refuses(genuine, identity.CredentialExpired); e.Principal != nil || h.server.Count(bitbuckettest.Any) != 0 {
			t.Errorf("without keys: %+v, %d requests", e.Principal, h.server.Count(bitbuckettest.Any))
		}
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		asked := h.server.Count(bitbuckettest.Any)
		if e := h.refuses(genuine, identity.CredentialExpired); e.Principal == nil || e.Principal.Repository.FullName != "" {
			t.Errorf("got %+v", e.Principal)
		}
		forged := ended
		forged.Key = h.server.NewKey(h.acme.Key().ID, "RS256")
		stranger := ended
		stranger.Key = h.server.NewKey("", "RS256")
		for _, o := range []bitbuckettest.TokenOptions{forged, stranger} {
			if e := h.refuses(h.step.Token(o), identity.CredentialExpired); e.Principal != nil {
				t.Errorf("a forged token names %+v", e.Principal)
			}
		}
		if n := h.server.Count(bitbuckettest.Any) - asked; n != 0 {
			t.Errorf("%d requests", n)
		}
		// What is known by name is named.
		h.accepts(h.token(h.step))
		if e := h.refuses(genuine, identity.CredentialExpired); e.Principal.Repository.FullName != "acme/payments" || e.Principal.Deployment.Name != "Production EU" {
			t.Errorf("got %+v", e.Principal)
		}
	})
}

// TestSignedNamesAreNeeded: without the check of the signature, a forged token has its
// refusal recorded under another step's name.
func TestSignedNamesAreNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		if err := h.auth.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		forged := bitbuckettest.TokenOptions{Audiences: []string{audience}, IssuedAt: time.Now().Add(-3 * time.Hour), Lifetime: time.Hour,
			Key: h.server.NewKey(h.acme.Key().ID, "RS256")}
		for _, taken := range []bool{false, true} {
			if taken {
				h.auth.skip = 1 << checkSignature
			}
			e := h.refuses(h.step.Token(forged), identity.CredentialExpired)
			if named := e.Principal != nil && e.Principal.Step.UUID == h.step.UUID; named != taken {
				t.Errorf("without the check: %t; the refusal names the step: %t", taken, named)
			}
		}
	})
}
