package bitbucket

import (
	"crypto/rand"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func TestCacheIsBounded(t *testing.T) {
	const entries = 320
	c := newCache(entries)
	var first digest
	for i := range 10 * entries {
		v := &verified{}
		_, _ = rand.Read(v.digest[:])
		if i == 0 {
			first = v.digest
		}
		c.put(v)
		if c.get(&first) == nil {
			t.Fatalf("what is in use was dropped after %d", i)
		}
		if n := c.len(); n > entries {
			t.Fatalf("holds %d", n)
		}
	}
	c.drop(c.get(&first))
	if c.get(&first) != nil {
		t.Error("dropped, and found")
	}
}

func TestRememberedUntilItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := 0
		h := build(t, func(_ *env, _ *Config, d *Deps) {
			d.Hooks.Verified = func(_ string, a bool) {
				if a {
					again++
				}
			}
		})
		token := h.token(h.step)
		p := h.accepts(token)
		h.accepts(token)
		if again != 1 {
			t.Errorf("recognized %d times", again)
		}
		time.Sleep(time.Until(p.Expires) + 29*time.Second)
		h.accepts(token)
		time.Sleep(time.Second)
		h.refuses(token, identity.CredentialExpired)
		if n := h.auth.cache.len(); n != 0 {
			t.Errorf("%d are still remembered", n)
		}
	})
}

// TestConcurrent verifies, rotates and renames at once; the race detector and
// the principals are the judges.
func TestConcurrent(t *testing.T) {
	h := build(t, func(h *env, c *Config, d *Deps) {
		withAPI(h, c, d)
		c.CacheEntries = 64
		c.KeyFetchFloor = time.Microsecond
		c.NameRefresh = time.Millisecond
	})
	defer func() { h.auth.Close() }()
	var tokens []string
	for range 40 {
		tokens = append(tokens, h.token(h.payments.Run("main").Step(h.eu)))
	}
	if err := h.auth.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			for i := range 200 {
				p := h.accepts(tokens[(i*7+w)%len(tokens)])
				if p.Repository.UUID != h.payments.UUID || p.Repository.FullName == "" {
					t.Errorf("got %+v", p)
					return
				}
			}
		})
	}
	all.Go(func() {
		for i := range 20 {
			h.acme.RotateKey(true)
			h.payments.Rename("payments" + string(rune('a'+i)))
			_ = h.auth.list[0].keys.refresh(t.Context())
			_ = h.auth.list[0].names.request(t.Context(), nameKey{repository: h.payments.UUID}, false)
		}
	})
	all.Wait()
}

func BenchmarkFirst(b *testing.B) {
	h := build(b, nil)
	token := h.token(h.step)
	c := identity.NewCredential(token)
	h.accepts(token)
	b.ReportAllocs()
	for b.Loop() {
		h.auth.cache.drop(h.auth.cache.get(new(c.Digest())))
		if _, err := h.auth.Authenticate(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRepeated(b *testing.B) {
	for name, change := range map[string]func(*env, *Config, *Deps){"uuids": nil, "names": withAPI} {
		b.Run(name, func(b *testing.B) {
			h := build(b, change)
			token := h.token(h.step)
			c := identity.NewCredential(token)
			h.accepts(token)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := h.auth.Authenticate(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRepeatedParallel(b *testing.B) {
	h := build(b, withAPI)
	var tokens []identity.Credential
	for range 100 {
		token := h.payments.Run("main").Step(h.eu).Token(bitbuckettest.TokenOptions{Audiences: []string{audience}})
		h.accepts(token)
		tokens = append(tokens, identity.NewCredential(token))
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := h.auth.Authenticate(b.Context(), tokens[i%len(tokens)]); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkForged(b *testing.B) {
	h := build(b, nil)
	if err := h.auth.Check(b.Context()); err != nil {
		b.Fatal(err)
	}
	c := identity.NewCredential(h.server.NewKey(h.acme.Key().ID, "RS256").Sign(nil, h.step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}})))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := h.auth.Authenticate(b.Context(), c); err == nil {
			b.Fatal("accepted")
		}
	}
}
