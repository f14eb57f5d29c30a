package bitbucket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func long(s *bitbuckettest.Step) string {
	return s.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}, Lifetime: 12 * time.Hour})
}

// running runs the authenticator's background until the function it returns.
func (h *env) running() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = h.auth.Run(ctx) })
	synctest.Wait()
	return func() {
		cancel()
		all.Wait()
	}
}

func TestNamesFollowRenames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		defer h.running()()
		token := long(h.step)
		first := h.accepts(token)
		if h.accepts(token) != first {
			t.Error("another principal without a change")
		}
		h.payments.Rename("pay-ments")
		h.eu.Rename("Production Europe")
		time.Sleep(61 * time.Minute)
		h.accepts(token) // may be the old names: they are looked up now
		time.Sleep(2 * time.Second)
		p := h.accepts(token)
		if p.Repository.FullName != "acme/pay-ments" || p.Deployment.Name != "Production Europe" || p.Deployment.Slug != "production-europe" {
			t.Errorf("got %+v %+v", p.Repository, p.Deployment)
		}
		if first.Repository.FullName != "acme/payments" || first.Deployment.Name != "Production EU" {
			t.Error("a principal that was handed out has changed")
		}
	})
}

// TestNamesLearntAhead holds that a step does not wait for what the background
// has listed, over several pages.
func TestNamesLearntAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		var last *bitbuckettest.Repository
		for i := range 120 {
			last = h.acme.AddRepository("r"+strings.Repeat("x", i+1), "PAY")
		}
		test := last.AddEnvironment("Try out", bitbuckettest.Test)
		stop := h.running()
		time.Sleep(30 * time.Minute)
		h.server.Inject(bitbuckettest.REST, bitbuckettest.Failing(503))
		p := h.accepts(long(last.Run("main").Step(test)))
		if p.Repository.FullName != last.FullName() || p.Deployment.Type != "test" {
			t.Errorf("got %+v %+v", p.Repository, p.Deployment)
		}
		stop()
		if s := h.auth.Status()[0]; s.KnownNames < 122 {
			t.Errorf("knows %d names", s.KnownNames)
		}
	})
}

// TestNamesUnavailable holds what happens to a name that was never known.
func TestNamesUnavailable(t *testing.T) {
	tests := []struct {
		name  string
		fault bitbuckettest.Fault
		most  time.Duration
	}{
		{"5xx", bitbuckettest.Failing(503), 3 * time.Second},
		{"hanging", bitbuckettest.Hanging(), 3 * time.Second},
		{"reset", bitbuckettest.Resetting(), 3 * time.Second},
		{"not found", bitbuckettest.Failing(404), 0},
		{"forbidden", bitbuckettest.Failing(403), 0},
		{"not JSON", bitbuckettest.Replaced("<html>"), 0},
		{"too long", bitbuckettest.Oversized(1 << 20), 3 * time.Second},
		{"redirected", bitbuckettest.Redirecting("https://evil.example/"), 3 * time.Second},
		{"another repository", bitbuckettest.Replaced(`{"uuid":"` + otherUUID + `","full_name":"acme/x"}`), 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t, withAPI)
				if err := h.auth.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				fault := h.server.Inject(bitbuckettest.RepositoryGet, test.fault)
				token := h.token(h.step)
				begun := time.Now()
				e := h.refuses(token, identity.NamesUnavailable)
				if duration := time.Since(begun); duration > test.most {
					t.Errorf("waited %v", duration)
				}
				if p := e.Principal; p == nil || p.Repository.UUID != h.payments.UUID || p.Repository.FullName != "" || p.Deployment.Name != "" {
					t.Errorf("the error's principal is %+v", p)
				}
				asked := h.server.Count(bitbuckettest.RepositoryGet)
				for range 20 {
					h.refuses(token, identity.NamesUnavailable)
				}
				if n := h.server.Count(bitbuckettest.RepositoryGet) - asked; n > 3 {
					t.Errorf("asked %d more times", n)
				}
				fault.Clear()
				time.Sleep(time.Minute)
				h.accepts(token)
			})
		})
	}
}

// TestHiccupIsNotSeen holds that a failure shorter than the wait costs the step
// only time.
func TestHiccupIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		f := bitbuckettest.Failing(503)
		f.Times = 1
		h.server.Inject(bitbuckettest.REST, f)
		begun := time.Now()
		h.accepts(h.token(h.step))
		if duration := time.Since(begun); duration > 3*time.Second {
			t.Errorf("waited %v", duration)
		}
	})
}

func TestStaleNamesServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		defer h.running()()
		h.accepts(long(h.step))
		h.server.Inject(bitbuckettest.REST, bitbuckettest.Failing(500))
		for range 22 {
			time.Sleep(time.Hour)
			if p := h.accepts(long(h.step)); p.Repository.FullName != "acme/payments" {
				t.Fatalf("got %+v", p)
			}
		}
		asked := h.server.Count(bitbuckettest.REST)
		if asked > 22*70 {
			t.Errorf("an API that fails was asked %d times in a day", asked)
		}
		time.Sleep(3 * time.Hour)
		h.refuses(long(h.step), identity.NamesUnavailable)
		if s := h.auth.Status()[0]; s.NamesError == nil {
			t.Error("the status does not say so")
		}
	})
}

// TestNamesRateLimited holds that the Retry-After of a 429 is obeyed.
func TestNamesRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		limit := bitbuckettest.RateLimited(0)
		limit.Header = http.Header{"Retry-After": {"600"}}
		limited := h.server.Inject(bitbuckettest.REST, limit)
		token := h.token(h.plain)
		h.refuses(token, identity.NamesUnavailable)
		limited.Clear()
		asked := h.server.Count(bitbuckettest.REST)
		for range 9 {
			time.Sleep(time.Minute)
			h.refuses(token, identity.NamesUnavailable)
		}
		if n := h.server.Count(bitbuckettest.REST) - asked; n != 0 {
			t.Errorf("asked %d times while it had to be left alone", n)
		}
		time.Sleep(time.Minute)
		h.accepts(token)
	})
}

// TestFirstRequestsOfAStep: the first requests of a step may be as many as a build tool opens
// at once. All wait for the names, for which one request is sent to the API.
func TestFirstRequestsOfAStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		hanging := h.server.Inject(bitbuckettest.RepositoryGet, bitbuckettest.Hanging())
		token := h.token(h.step)
		var requests sync.WaitGroup
		for range 100 {
			requests.Go(func() {
				if _, err := h.ask(token); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		hanging.Clear()
		requests.Wait()
		if n := h.server.Count(bitbuckettest.RepositoryGet); n != 1 {
			t.Errorf("%d requests to the API", n)
		}
	})
}

// TestNameBudget holds that we ask no more than we may.
func TestNameBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, func(h *env, c *Config, d *Deps) {
			withAPI(h, c, d)
			c.Workspaces[0].API.RequestsPerHour = 10
		})
		for i := range 30 {
			r := h.acme.AddRepository("many-"+strings.Repeat("y", i+1), "PAY")
			_, _ = h.ask(h.token(r.Run("main").Step(nil)))
		}
		if n := h.server.Count(bitbuckettest.REST); n != 10 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestAccessTokenIsRotated holds that the token is read for every request, and
// that one that cannot be read ends the start.
func TestAccessTokenIsRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, failure := "access-token", error(nil)
		h := build(t, func(h *env, c *Config, d *Deps) {
			withAPI(h, c, d)
			c.Workspaces[0].API.Token = func() (string, error) { return token, failure }
		})
		h.accepts(h.token(h.plain))
		h.acme.SetAccessTokens("rotated")
		h.refuses(h.token(h.step), identity.NamesUnavailable)
		token = "rotated"
		time.Sleep(time.Minute)
		h.accepts(h.token(h.step))
		for _, r := range h.server.Requests(bitbuckettest.OIDC) {
			if r.Authorization != "" {
				t.Error("the access token was sent to the issuer's endpoints, which need none")
			}
		}
		failure = errors.New("no such file")
		if err := h.auth.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("got %v", err)
		}
		if strings.Contains(h.log.String(), "access-token") {
			t.Error("the access token is in the log")
		}
	})
}

// TestNameMoves deletes a repository and makes another under its name: it does
// not inherit anything silently.
func TestNameMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var moves []string
		h := build(t, func(h *env, c *Config, d *Deps) {
			withAPI(h, c, d)
			d.Hooks.NameReassigned = func(w, name, from, to string) { moves = append(moves, w+" "+name+" "+from+" "+to) }
		})
		old := long(h.plain)
		h.accepts(old)
		h.payments.Delete()
		made := h.acme.AddRepository("payments", "PAY")
		if p := h.accepts(long(made.Run("main").Step(nil))); p.Repository.FullName != "acme/payments" {
			t.Errorf("got %+v", p)
		}
		if len(moves) != 1 || moves[0] != "acme acme/payments "+h.payments.UUID+" "+made.UUID {
			t.Errorf("got %v", moves)
		}
		// A step of the deleted one has its name no more.
		h.refuses(old, identity.NamesUnavailable)
	})
}

// TestForeignNextPage holds that the access token is not led to another host.
func TestForeignNextPage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		h.server.Inject(bitbuckettest.RepositoryList, bitbuckettest.Replaced(`{"values":[],"next":"https://evil.example/2.0/repositories"}`))
		err := h.auth.list[0].names.prefetch(t.Context())
		if err == nil || !strings.Contains(err.Error(), "another host") {
			t.Errorf("got %v", err)
		}
	})
}

// shelf is a NameStore in memory.
type shelf struct {
	mu    sync.Mutex
	names map[nameKey]identity.KnownName
	fail  bool
}

func (s *shelf) LoadNames(_ context.Context, workspace string) ([]identity.KnownName, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []identity.KnownName
	for _, n := range s.names {
		if n.WorkspaceUUID == workspace {
			all = append(all, n)
		}
	}
	return all, nil
}

func (s *shelf) SaveName(_ context.Context, n identity.KnownName) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail {
		return errors.New("the shelf is full")
	}
	s.names[nameKey{n.RepositoryUUID, n.DeploymentUUID}] = n
	return nil
}

func TestNamesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{names: map[nameKey]identity.KnownName{}}
		stored := func(h *env, c *Config, d *Deps) { withAPI(h, c, d); d.Names = s }
		h := build(t, stored)
		want := h.accepts(h.token(h.step))
		h.server.Inject(bitbuckettest.REST, bitbuckettest.Failing(500))
		again := h.authenticator(stored)
		if err := again.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		p, err := again.Authenticate(t.Context(), identity.NewCredential(h.token(h.step)))
		if err != nil || p.Repository != want.Repository || *p.Deployment != *want.Deployment {
			t.Errorf("got %+v, %v", p, err)
		}
		again.Close()
	})
}

func TestPathsAreEncoded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		h.accepts(h.token(h.step))
		for _, r := range h.server.Requests(bitbuckettest.REST) {
			if strings.ContainsAny(r.URI, "{}") || !strings.Contains(r.URI, "%7B") || r.Authorization != "Bearer access-token" {
				t.Errorf("asked for %s", r.URI)
			}
		}
	})
}

// TestNameShares: a repository with many deployments that were never seen, which
// use up its share of the budget, leaves another repository's name to be found.
// TestNameSharesAreNeeded takes the share away.
func TestNameShares(t *testing.T) {
	if err := nameBesideDeployments(t, true); err != nil {
		t.Error(err)
	}
}

func TestNameSharesAreNeeded(t *testing.T) {
	if err := nameBesideDeployments(t, false); err == nil {
		t.Error("the name was found without shares")
	}
}

func nameBesideDeployments(t *testing.T, shared bool) (found error) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, func(h *env, c *Config, d *Deps) {
			withAPI(h, c, d)
			c.Workspaces[0].API.RequestsPerHour = 20
		})
		names := h.auth.list[0].names
		many := h.acme.AddRepository("many", "PAY")
		for i := range 60 {
			if !shared {
				names.budgets = map[string]*bitbucketapi.Bucket{}
			}
			_, _ = h.ask(h.token(many.Run("main").Step(many.AddEnvironment(fmt.Sprint("Stage ", i), bitbuckettest.Test))))
		}
		_, found = h.ask(h.token(h.plain))
		for range 2 * maxBudgets {
			names.takeFromBudget(fmt.Sprint(len(names.budgets), "-", names.version.Add(1)))
		}
		if len(names.budgets) > maxBudgets || len(names.flights) != 0 || names.waiting.Held() != 0 {
			t.Errorf("%d shares, %d lookups, %d callers are remembered", len(names.budgets), len(names.flights), names.waiting.Held())
		}
	})
	return found
}
