package bitbucket

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const otherUUID = "{11111111-2222-3333-4444-555555555555}"

// env is an emulated Bitbucket and a client of its API.
type env struct {
	*bitbuckettest.Fixture
	step   *bitbuckettest.Step // deploys to eu
	client *bitbucketapi.Client
}

func build(t testing.TB) *env {
	t.Helper()
	f, err := bitbuckettest.NewFixture()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Server.Close)
	e := &env{Fixture: f}
	e.step = e.Payments.Run("main").Step(e.EU)
	h := bitbucketapi.NewHTTP(f.Server.Client().Transport, time.Now)
	t.Cleanup(h.CloseIdleConnections)
	e.client = bitbucketapi.New(h, bitbucketapi.Config{URL: f.Server.APIURL(), Token: func() (string, error) { return bitbuckettest.FixtureToken, nil }},
		e.Acme.UUID, func(string, time.Duration, error) {})
	return e
}
