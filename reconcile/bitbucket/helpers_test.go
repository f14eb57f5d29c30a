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

// env is an emulated Bitbucket without sockets, so that it works in a synctest bubble,
// and a client of its API.
type env struct {
	server   *bitbuckettest.Server
	acme     *bitbuckettest.Workspace
	payments *bitbuckettest.Repository
	eu       *bitbuckettest.Environment
	step     *bitbuckettest.Step // deploys to eu
	client   *bitbucketapi.Client
}

func build(t testing.TB) *env {
	t.Helper()
	server, err := bitbuckettest.New(bitbuckettest.Options{Seed: 7, BaseURL: "http://127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.StartInMemory(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	e := &env{server: server, acme: server.AddWorkspace("acme")}
	e.acme.SetAccessTokens("access-token")
	e.payments = e.acme.AddRepository("payments", "PAY")
	e.eu = e.payments.AddEnvironment("Production EU", bitbuckettest.Production)
	e.step = e.payments.Run("main").Step(e.eu)
	h := bitbucketapi.NewHTTP(server.Client().Transport, time.Now)
	t.Cleanup(h.CloseIdleConnections)
	e.client = bitbucketapi.New(h, bitbucketapi.Config{URL: server.APIURL(), Token: func() (string, error) { return "access-token", nil }},
		e.acme.UUID, func(string, time.Duration, error) {})
	return e
}
