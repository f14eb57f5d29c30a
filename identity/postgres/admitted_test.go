package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// principal returns the verified step of a number, whose token is its own.
func principal(n int) *identity.Principal {
	return &identity.Principal{
		Kind: identity.KindBitbucketStep, Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
		Workspace:  identity.Workspace{UUID: acme, Slug: "acme"},
		Repository: identity.Repository{UUID: payments, FullName: "acme/payments", Project: "PAY"},
		Deployment: &identity.Deployment{UUID: uuidOf(7), Name: "Production EU", Slug: "production-eu", Type: "production"},
		Pipeline:   identity.Run{UUID: uuidOf(1000 + n)}, Step: identity.Run{UUID: uuidOf(n)}, Branch: "feature/ü",
		CredentialKind: identity.CredentialOIDC, CredentialDigest: sha256.Sum256(fmt.Appendf(nil, "token %d", n)),
		Expires: time.Now().Add(time.Hour),
	}
}

func (h *env) admits(t testing.TB, p *identity.Principal) {
	t.Helper()
	h.Admit(p)
	pgtest.Eventually(t, "admitted", func() bool { return h.admitted.has(p.CredentialDigest) })
}

func (h *env) honours(t testing.TB, p *identity.Principal) *identity.Principal {
	t.Helper()
	got, found, err := h.Admitted(t.Context(), p.CredentialDigest, p.Step.UUID)
	if err != nil {
		t.Fatal(err)
	}
	if found != (got != nil) {
		t.Fatalf("%v, %v", got, found)
	}
	return got
}

func TestAdmittedTokensSurvive(t *testing.T) {
	pgtest.CheckLeaks(t)
	server, db := pgtest.StartFrom(t, pgtest.Options{}, "sallyport", migrate)
	h := instance(t, db.URL(database.Writer), 6*time.Hour)
	p := principal(1)
	before := time.Now()
	if h.honours(t, p) != nil {
		t.Error("honoured before it was admitted")
	}
	h.admits(t, p)
	server.Kill(t) // an admission counts only when it is durable
	if _, found, err := h.Admitted(t.Context(), p.CredentialDigest, p.Step.UUID); found || err == nil {
		t.Errorf("without a database: %v, %v", found, err)
	}
	server.Restart(t)
	other := instance(t, db.URL(database.Writer), 6*time.Hour)
	for _, h := range []*env{h, other} {
		pgtest.Eventually(t, "the database is back", func() bool {
			_, _, err := h.Admitted(t.Context(), p.CredentialDigest, p.Step.UUID)
			return err == nil
		})
		got := h.honours(t, p)
		if got == nil {
			t.Fatal("not honoured")
		}
		if ends := got.Expires.Sub(before); ends < 6*time.Hour-time.Second || ends > 6*time.Hour+time.Minute {
			t.Errorf("honoured for %v", ends)
		}
		want := *p
		want.Workspace.Slug, want.Repository = "", identity.Repository{UUID: payments}
		want.Deployment = &identity.Deployment{UUID: uuidOf(7)}
		want.CredentialKind, want.Expires = identity.CredentialAdmitted, got.Expires
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got %+v\nwant %+v", *got, want)
		}
	}
}

func TestAdmittedForItsStepOnly(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), time.Hour)
	one, two := principal(1), principal(2)
	h.admits(t, one)
	h.admits(t, two)
	for name, ask := range map[string]struct {
		digest digest
		step   string
	}{
		"the step of another": {one.CredentialDigest, two.Step.UUID},
		"no such token":       {sha256.Sum256([]byte("forged")), one.Step.UUID},
		"no step":             {one.CredentialDigest, ""},
		"another spelling":    {one.CredentialDigest, "{" + one.Step.UUID + "}"},
	} {
		if _, found, err := h.Admitted(t.Context(), ask.digest, ask.step); found || err != nil {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	if h.honours(t, one) == nil || h.honours(t, two) == nil {
		t.Error("its own is not honoured")
	}
}

func TestAdmissionHasItsAge(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), time.Hour), pgtest.Connect(t, db.URL(""))
	p := principal(1)
	h.admits(t, p)
	at := pgtest.Value[time.Time](t, conn, "SELECT admitted_at FROM identity.admitted_tokens")
	// Admitted again, and by another instance: the first time counts.
	other := instance(t, db.URL(database.Writer), 3*time.Hour)
	other.admits(t, p)
	if again := pgtest.Value[time.Time](t, conn, "SELECT admitted_at FROM identity.admitted_tokens"); !again.Equal(at) {
		t.Errorf("%v became %v", at, again)
	}
	if other.honours(t, p) == nil {
		t.Error("not honoured")
	}
	pgtest.Exec(t, conn, "UPDATE identity.admitted_tokens SET admitted_at = admitted_at - interval '40 minutes', until = until - interval '40 minutes'")
	if h.honours(t, p) == nil {
		t.Error("not honoured after 40 minutes of 60")
	}
	if strict := instance(t, db.URL(database.Writer), 30*time.Minute); strict.honours(t, p) != nil {
		t.Error("an age that was lowered is not kept")
	}
	if off := instance(t, db.URL(database.Writer), 0); off.honours(t, p) != nil {
		t.Error("honoured while it is switched off")
	}
	pgtest.Exec(t, conn, "UPDATE identity.admitted_tokens SET admitted_at = admitted_at - interval '20 minutes', until = until - interval '20 minutes'")
	if h.honours(t, p) != nil {
		t.Error("honoured after an hour")
	}
	h.admits(t, principal(2))
	// One instance sweeps at a time: another that has just started may hold the lock.
	pgtest.Eventually(t, "one is left, and counted", func() bool {
		if err := h.sweepOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		return pgtest.Value[int64](t, conn, "SELECT count(*) FROM identity.admitted_tokens") == 1 && h.Status().Admitted == 1
	})
}

// What is not the verified token of a step is not admitted.
func TestNotAdmitted(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), time.Hour)
	for name, change := range map[string]func(*identity.Principal){
		"admitted itself": func(p *identity.Principal) { p.CredentialKind = identity.CredentialAdmitted },
		"no digest":       func(p *identity.Principal) { p.CredentialDigest = digest{} },
		"ended":           func(p *identity.Principal) { p.Expires = time.Now().Add(-time.Second) },
		"braces":          func(p *identity.Principal) { p.Step.UUID = "{" + p.Step.UUID + "}" },
		"no repository":   func(p *identity.Principal) { p.Repository.UUID = "" },
		"NUL":             func(p *identity.Principal) { p.Branch = "a\x00b" },
		"UTF-8":           func(p *identity.Principal) { p.Branch = "a\xff" },
	} {
		p := principal(1)
		change(p)
		h.Admit(p)
		if n := h.Status().AdmissionsWaiting; n != 0 || h.admitted.has(p.CredentialDigest) {
			t.Errorf("%s: admitted", name)
		}
	}
	off := instance(t, db.URL(database.Writer), 0)
	off.Admit(principal(1))
	h.written(t)
	off.written(t)
	if n := pgtest.Value[int](t, pgtest.Connect(t, db.URL("")), "SELECT count(*) FROM identity.admitted_tokens"); n != 0 {
		t.Errorf("%d are there", n)
	}
}

// Several instances admit the same tokens at the same time: none waits for
// another in a circle, and each is there once.
func TestInstancesAdmitTogether(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	one, two := instance(t, db.URL(database.Writer), time.Hour), instance(t, db.URL(database.Writer), time.Hour)
	var all sync.WaitGroup
	for _, h := range []*env{one, two, one, two} {
		all.Go(func() {
			for i := range 3000 {
				h.Admit(principal(i))
			}
		})
	}
	all.Wait()
	for _, h := range []*env{one, two} {
		h.written(t)
		if s := h.Status(); s.AdmissionsLost != 0 || s.AdmissionsError != nil {
			t.Errorf("%d lost, %v", s.AdmissionsLost, s.AdmissionsError)
		}
	}
	if n := pgtest.Value[int](t, pgtest.Connect(t, db.URL("")), "SELECT count(*) FROM identity.admitted_tokens"); n != 3000 {
		t.Errorf("%d are there", n)
	}
	if two.honours(t, principal(2999)) == nil {
		t.Error("not honoured")
	}
}

// No token, and nothing that it could be made of, is in the database.
func TestOnlyTheDigestIsKept(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), time.Hour)
	credential := identity.NewCredential("eyJhbGciOiJSUzI1NiJ9.canary-payload.canary-signature")
	p := principal(1)
	p.CredentialDigest = credential.Digest()
	h.admits(t, p)
	row := pgtest.Value[string](t, pgtest.Connect(t, db.URL("")), "SELECT a::text FROM identity.admitted_tokens a")
	for _, part := range []string{"canary", "eyJ", "acme/payments", "Production"} {
		if containsFold(row, part) {
			t.Errorf("%q is in %s", part, row)
		}
	}
}

func TestRecentIsBounded(t *testing.T) {
	t.Parallel()
	var r recent
	first := sha256.Sum256([]byte("first"))
	r.put(first)
	for i := range 10 * maxRecent {
		var d digest
		d[0], d[1], d[2] = byte(i), byte(i>>8), byte(i>>16)
		r.put(d)
		if !r.has(first) {
			t.Fatalf("what is in use was forgotten after %d", i)
		}
		if n := len(r.young) + len(r.old); n > 2*maxRecent {
			t.Fatalf("%d are remembered", n)
		}
	}
}

func BenchmarkAdmitAgain(b *testing.B) {
	s := &Store{config: Config{AdmittedMaxAge: time.Hour}}
	s.revoked.Store(newRevocationSet(nil))
	p := principal(1)
	s.admitted.put(p.CredentialDigest)
	for b.Loop() {
		s.Admit(p)
	}
}

func BenchmarkAdmitted(b *testing.B) {
	db := migrated(b)
	h := instance(b, db.URL(database.Writer), time.Hour)
	p := principal(1)
	h.admits(b, p)
	for b.Loop() {
		if _, found, err := h.Admitted(context.Background(), p.CredentialDigest, p.Step.UUID); !found || err != nil {
			b.Fatal(found, err)
		}
	}
}
