package bitbucket

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestRefreshNames: a request takes over a changed name long before it is stale, reports a
// repository that disappeared, and a flood of requests lists once and then once more.
func TestRefreshNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t, withAPI)
		website := h.acme.AddRepository("website", "WEB")
		h.accepts(h.token(website.Run("main").Step(nil)))
		token := h.token(h.plain)
		if p := h.accepts(token); p.Repository.FullName != "acme/payments" {
			t.Fatalf("got %+v", p)
		}
		n := h.auth.list[0].names
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			n.runRequested(ctx)
		}()
		defer func() {
			cancel()
			<-ended
		}()
		h.payments.Rename("settlements")
		uuid := website.UUID
		website.Delete()
		for range 1000 {
			h.auth.RefreshNames()
		}
		time.Sleep(time.Second)
		if p := h.accepts(token); p.Repository.FullName != "acme/settlements" {
			t.Errorf("after the request the name is %s", p.Repository.FullName)
		}
		if s := h.auth.Status()[0]; len(s.MissingRepositories) != 1 || s.MissingRepositories[0] != uuid+" acme/website" {
			t.Errorf("missing are %v", s.MissingRepositories)
		}
		h.logMu.Lock()
		if !strings.Contains(h.log.String(), "missing in the workspace") {
			t.Errorf("the log has %s", h.log.String())
		}
		h.logMu.Unlock()
		time.Sleep(2 * refreshPause)
		if got := h.server.Count(bitbuckettest.RepositoryList); got < 1 || got > 2 {
			t.Errorf("%d listings for a flood of requests", got)
		}
	})
}
