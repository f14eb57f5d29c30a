package bitbucketapi

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// crowded is an environment whose workspace has so many repositories.
func crowded(t *testing.T, repositories int) *env {
	e := build(t)
	for i := 1; i < repositories; i++ {
		e.Acme.AddRepository(fmt.Sprintf("r%d", i), "PAY")
	}
	return e
}

func (e *env) list(t *testing.T) ([]identity.KnownName, error) {
	return ListRepositories(t.Context(), "acme", bitbuckettest.Braced(e.Acme.UUID), e.config, e.Server.Client().Transport)
}

// TestRepositories: all pages of the list, with and without what only some answers
// have, and in a workspace of many pages within the budget.
func TestRepositories(t *testing.T) {
	for _, n := range []int{1, 100, 101, 250} {
		for _, bare := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := crowded(t, n)
				h.Server.SetBarePages(bare)
				list, err := h.list(t)
				if err != nil || len(list) != n || list[0].RepositoryUUID != h.Payments.UUID || list[0].FullName != "acme/payments" {
					t.Fatalf("%d, bare %t: %d, %v", n, bare, len(list), err)
				}
				if asked := h.Server.Count(bitbuckettest.RepositoryList); asked != (n+99)/100 {
					t.Errorf("%d requests for %d", asked, n)
				}
			})
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := crowded(t, 450)
		h.config.RequestsPerHour = 3
		began := time.Now()
		list, err := h.list(t)
		if err != nil || len(list) != 450 || time.Since(began) < 30*time.Minute {
			t.Errorf("%d after %v, %v", len(list), time.Since(began), err)
		}
	})
}

// TestRepositoriesIsWholeOrFails: whatever happens to the second page, the answer
// is never the first alone.
func TestRepositoriesIsWholeOrFails(t *testing.T) {
	next := func(to string) bitbuckettest.Fault {
		return bitbuckettest.Replaced(fmt.Sprintf(`{"values":[],"next":%q}`, to))
	}
	for name, c := range map[string]struct {
		fault bitbuckettest.Fault
		says  string
	}{
		"rate limit":     {bitbuckettest.RateLimited(0), "429"},
		"failing":        {bitbuckettest.Failing(500), "500"},
		"forbidden":      {bitbuckettest.Failing(403), "403"},
		"gone":           {bitbuckettest.Failing(404), "404"},
		"reset":          {bitbuckettest.Resetting(), ""},
		"hanging":        {bitbuckettest.Hanging(), "deadline exceeded"},
		"truncated":      {bitbuckettest.Truncated(), ""},
		"redirected":     {bitbuckettest.Redirecting("https://elsewhere.test/2.0"), "another host"},
		"not JSON":       {bitbuckettest.Replaced("<html>"), "invalid character"},
		"another shape":  {bitbuckettest.Replaced(`{"values":{}}`), "cannot unmarshal"},
		"no list":        {bitbuckettest.Replaced(`{"type":"error"}`), "not a list"},
		"null":           {bitbuckettest.Replaced(`null`), "not a list"},
		"short":          {bitbuckettest.Replaced(`{"values":[],"size":250}`), "should have 250"},
		"a bad value":    {bitbuckettest.Replaced(`{"values":[{"uuid":"x"}]}`), "its uuid is missing"},
		"another host":   {next("https://elsewhere.test/2.0/repositories/x?page=3"), "another host"},
		"another scheme": {next("file:///etc/passwd"), "another host"},
		"for ever":       {next("http://127.0.0.1/2.0/repositories/%7B%7D?page=2"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := crowded(t, 250)
				c.fault.Match = func(r *http.Request) bool { return r.URL.Query().Has("page") }
				defer h.Server.Inject(bitbuckettest.RepositoryList, c.fault).Clear()
				list, err := h.list(t)
				if list != nil || err == nil || !strings.Contains(err.Error(), "after 100 repositories") || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%d repositories, %v", len(list), err)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		h := crowded(t, 2)
		ask := func() error {
			_, err := h.list(t)
			return err
		}
		h.config.Token = func() (string, error) { return "", errors.New("no such file") }
		if err := ask(); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("without a token: %v", err)
		}
		h.config.Token = func() (string, error) { return "another", nil }
		if err := ask(); err == nil {
			t.Error("with a token of nobody")
		}
		h.config = nil
		if err := ask(); !errors.Is(err, ErrNoAPI) {
			t.Errorf("without an API: %v", err)
		}
	})
}
