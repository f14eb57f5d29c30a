package bitbucket

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/tokentest"
)

// admissions is a store in memory, with a switch for its faults.
type admissions struct {
	age time.Duration

	mu    sync.Mutex
	kept  map[[32]byte]identity.Principal
	asked int
	fault error
}

func newAdmissions(age time.Duration) *admissions {
	return &admissions{age: age, kept: map[[32]byte]identity.Principal{}}
}

func (s *admissions) Admit(p *identity.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.kept[p.CredentialDigest]; found || s.fault != nil {
		return
	}
	k := *p
	k.CredentialKind, k.Expires = identity.CredentialAdmitted, time.Now().Add(s.age)
	s.kept[p.CredentialDigest] = k
}

func (s *admissions) Admitted(_ context.Context, d [32]byte, step string) (*identity.Principal, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	k, found := s.kept[d]
	return &k, found && k.Step.UUID == step && time.Now().Before(k.Expires), s.fault
}

// honoring configures admitted tokens.
func honoring(s *admissions) func(*env, *Config, *Deps) {
	return func(_ *env, c *Config, d *Deps) { c.AdmittedMaxAge, d.Admitted = s.age, s }
}

func (h *env) hour(s *bitbuckettest.Step) string {
	return s.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: time.Hour})
}

func TestAdmitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newAdmissions(4 * time.Hour)
		h := build(t, honoring(store))
		used, unused := h.hour(h.step), h.hour(h.plain)
		if p := h.accepts(used); p.CredentialKind != identity.CredentialOIDC || time.Until(p.Expires) != time.Hour {
			t.Errorf("while valid: %s until %s", p.CredentialKind, p.Expires)
		}
		time.Sleep(2 * time.Hour)
		p := h.accepts(used)
		if p.CredentialKind != identity.CredentialAdmitted || p.Step.UUID != h.step.UUID || time.Until(p.Expires) != 2*time.Hour {
			t.Errorf("after its end: %s %s until %s", p.CredentialKind, p.Step.UUID, p.Expires)
		}
		if h.accepts(used) != p || store.asked != 1 {
			t.Errorf("the store was asked %d times", store.asked)
		}
		h.refuses(unused, identity.CredentialExpired)
		h.refuses(unused, identity.CredentialExpired)
		if store.asked != 2 {
			t.Errorf("a token that was not admitted was asked for %d times", store.asked-1)
		}
		// Another process recognizes it by the store.
		again := h.authenticator(honoring(store))
		defer again.Close()
		if p, err := again.Authenticate(t.Context(), identity.NewCredential(used)); err != nil || p.CredentialKind != identity.CredentialAdmitted {
			t.Errorf("after a restart: %+v, %v", p, err)
		}
		// An admitted token admits no longer life.
		time.Sleep(2*time.Hour - time.Second)
		h.accepts(used)
		time.Sleep(time.Second)
		h.refuses(used, identity.CredentialExpired)
	})
}

// TestAdmittedOff: without the setting a token ends at its end, admitted or not.
func TestAdmittedOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newAdmissions(4 * time.Hour)
		h := build(t, func(_ *env, _ *Config, d *Deps) { d.Admitted = store })
		token := h.hour(h.step)
		h.accepts(token)
		time.Sleep(2 * time.Hour)
		h.refuses(token, identity.CredentialExpired)
		if len(store.kept) != 0 || store.asked != 0 {
			t.Error("the store was used")
		}
	})
}

// TestAdmittedIsJudgedAnew: a record in the store lengthens the life of a genuine
// token of its own step, and makes none.
func TestAdmittedIsJudgedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newAdmissions(8 * time.Hour)
		h := build(t, honoring(store))
		f := newForge(h)
		p := h.accepts(h.hour(h.step))
		put := func(token string, change func(*identity.Principal)) {
			k := *p
			k.CredentialDigest, k.Expires = identity.NewCredential(token).Digest(), time.Now().Add(8*time.Hour)
			if change != nil {
				change(&k)
			}
			store.kept[k.CredentialDigest] = k
		}
		claims := f.Claims()
		claims["iat"], claims["exp"] = time.Now().Add(-2*time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
		genuine := f.Sign(claims)
		put(genuine, nil)
		if p := h.accepts(genuine); p.CredentialKind != identity.CredentialAdmitted {
			t.Errorf("got %s", p.CredentialKind)
		}
		for name, r := range map[string]struct {
			token string
			want  identity.Problem
		}{
			"a stranger's signature": {f.Stranger.Sign(map[string]any{"kid": h.acme.Key().ID}, claims), identity.CredentialSignature},
			"a stranger's key":       {f.Stranger.Sign(nil, claims), identity.KeysUnavailable}, // asked a moment ago
			"no signature":           {"eyJhbGciOiJub25lIn0.e30.AA", identity.CredentialAlgorithm},
			"another audience":       {tokentest.With("iat", tokentest.At(-2*time.Hour), "exp", tokentest.At(-time.Hour), "aud", "x")(f), identity.CredentialAudience},
			"another workspace":      {tokentest.With("iat", tokentest.At(-2*time.Hour), "exp", tokentest.At(-time.Hour), "workspaceUuid", otherUUID)(f), identity.CredentialWorkspace},
			"an endless life":        {tokentest.With("iat", tokentest.At(-20*time.Hour), "exp", tokentest.At(-time.Hour))(f), identity.CredentialLifetime},
			"older than any age":     {tokentest.With("iat", tokentest.At(-10*time.Hour), "exp", tokentest.At(-9*time.Hour))(f), identity.CredentialExpired},
		} {
			put(r.token, nil)
			if problem, _ := outcome(h.auth, r.token); problem != r.want {
				t.Errorf("%s: %q, want %q", name, problem, r.want)
			}
		}
		// Genuine, but kept for another step or repository.
		for name, change := range map[string]func(*identity.Principal){
			"step":       func(p *identity.Principal) { p.Step.UUID = h.plain.UUID },
			"repository": func(p *identity.Principal) { p.Repository.UUID = h.plain.UUID },
			"deployment": func(p *identity.Principal) { p.Deployment = nil },
			"issuer":     func(p *identity.Principal) { p.Issuer += "/" },
			"branch":     func(p *identity.Principal) { p.Branch = "release" },
			"over":       func(p *identity.Principal) { p.Expires = time.Now() },
		} {
			token := tokentest.With("iat", tokentest.At(-2*time.Hour), "exp", tokentest.At(-time.Hour), "n", name)(f)
			put(token, change)
			if problem, _ := outcome(h.auth, token); problem != identity.CredentialExpired {
				t.Errorf("kept for another %s: %q", name, problem)
			}
		}
	})
}

// TestAdmittedNeedsItsKey: a key that the issuer withdraws ends admitted tokens
// like any other.
func TestAdmittedNeedsItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newAdmissions(8 * time.Hour)
		h := build(t, honoring(store))
		token := h.hour(h.step)
		h.accepts(token)
		time.Sleep(2 * time.Hour)
		h.accepts(token)
		h.acme.RotateKey(false)
		if err := h.auth.list[0].keys.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.refuses(token, identity.CredentialKeyUnknown)
	})
}

func TestAdmittedStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newAdmissions(4 * time.Hour)
		h := build(t, honoring(store))
		token := h.hour(h.step)
		h.accepts(token)
		time.Sleep(2 * time.Hour)
		store.fault = errors.New("the database is away")
		if e := h.refuses(token, identity.AdmittedUnavailable); !e.Problem.Unavailable() {
			t.Error("it is final")
		}
		store.fault = nil
		h.accepts(token)
	})
}

func TestAdmittedNeedsAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, nil)
		c := h.auth.config
		c.AdmittedMaxAge = time.Hour
		if _, err := New(c, Deps{}); err == nil {
			t.Error("it was accepted without a store")
		}
		c.AdmittedMaxAge = -time.Hour
		if _, err := New(c, Deps{Admitted: newAdmissions(1)}); err == nil {
			t.Error("a negative age was accepted")
		}
	})
}

// blocklist is a set of revoked UUIDs.
type blocklist struct {
	mu  sync.Mutex
	set map[string]bool
}

func (b *blocklist) put(uuid string, revoked bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.set[uuid] = revoked
}

func (b *blocklist) Revoked(step, repository string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set[step] || b.set[repository]
}

// TestRevoked: a revocation holds for a token that was verified long ago, for an
// admitted one and for one that comes later, until it is lifted; taking the
// check away lets each of them in.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, list := newAdmissions(8*time.Hour), &blocklist{set: map[string]bool{}}
		h := build(t, func(h *env, c *Config, d *Deps) {
			honoring(store)(h, c, d)
			withAPI(h, c, d)
			d.Revocations = list
		})
		token, other := h.hour(h.step), h.hour(h.plain)
		h.accepts(token)
		list.put(h.step.UUID, true)
		e := h.refuses(token, identity.CredentialRevoked)
		if e.Principal == nil || e.Principal.Step.UUID != h.step.UUID || e.Principal.Repository.FullName != "acme/payments" {
			t.Errorf("who was revoked is not known: %+v", e.Principal)
		}
		if e.Problem.Unavailable() {
			t.Error("it is not final")
		}
		h.accepts(other)
		list.put(h.step.UUID, false)
		h.accepts(token)

		list.put(h.payments.UUID, true)
		h.refuses(token, identity.CredentialRevoked)
		h.refuses(other, identity.CredentialRevoked)
		fresh := h.hour(h.payments.Run("main").Step(nil))
		h.refuses(fresh, identity.CredentialRevoked)
		if _, found := store.kept[identity.NewCredential(fresh).Digest()]; found {
			t.Error("a revoked step was admitted")
		}
		time.Sleep(2 * time.Hour)
		h.refuses(token, identity.CredentialRevoked)
		list.put(h.payments.UUID, false)
		if p := h.accepts(token); p.CredentialKind != identity.CredentialAdmitted {
			t.Errorf("got %s", p.CredentialKind)
		}
		list.put(h.payments.UUID, true)
		h.refuses(token, identity.CredentialRevoked)

		h.auth.skip = 1 << checkRevoked
		h.accepts(token)
	})
}

// silentStore is a store whose database does not answer.
type silentStore struct {
	*admissions
	asking, most atomic.Int32
}

func (s *silentStore) Admitted(ctx context.Context, _ [32]byte, _ string) (*identity.Principal, bool, error) {
	now := s.asking.Add(1)
	defer s.asking.Add(-1)
	s.most.Store(max(s.most.Load(), now))
	select {
	case <-ctx.Done():
		return nil, false, ctx.Err()
	case <-time.After(2 * time.Second):
		return nil, false, errors.New("the database does not answer")
	}
}

// TestAdmittedLookupsAreShared: a step that presents an ended token a hundred
// times while the database does not answer has two lookups under way, its
// repository four, and another repository's is made at once.
func TestAdmittedLookupsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &silentStore{admissions: newAdmissions(4 * time.Hour)}
		h := build(t, func(_ *env, c *Config, d *Deps) { c.AdmittedMaxAge, d.Admitted = store.age, store })
		other := h.hour(h.acme.AddRepository("other", "PAY").Run("main").Step(nil))
		run := h.payments.Run("main")
		tokens := []string{h.hour(run.Step(nil)), h.hour(run.Step(nil)), h.hour(run.Step(nil))}
		time.Sleep(2 * time.Hour)
		h.refuses(other, identity.AdmittedUnavailable) // the keys are known from here on
		store.most.Store(0)
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() { _, _ = h.ask(tokens[i%3]) })
		}
		synctest.Wait()
		if n := store.asking.Load(); n != 4 {
			t.Errorf("%d lookups of one repository", n)
		}
		began := time.Now()
		h.refuses(other, identity.AdmittedUnavailable)
		if duration := time.Since(began); duration != 2*time.Second || store.most.Load() != 5 {
			t.Errorf("another repository's lookup took %v; %d were under way", duration, store.most.Load())
		}
		all.Wait()
	})
}

// TestUnadmittedIsBounded: ended tokens are remembered in bounded number.
func TestUnadmittedIsBounded(t *testing.T) {
	var u unadmitted
	now := time.Now()
	for i := range 3 * maxUnadmitted {
		u.add(digest{byte(i), byte(i >> 8), byte(i >> 16)}, now)
		if len(u.until) > maxUnadmitted {
			t.Fatalf("%d are remembered", len(u.until))
		}
	}
}
