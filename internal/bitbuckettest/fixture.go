package bitbuckettest

// FixtureToken is the access token of a fixture's workspace.
const FixtureToken = "access-token"

// Fixture is a server in memory with a workspace, a repository and a deployment
// environment. It has no sockets, and therefore works in a bubble of testing/synctest.
type Fixture struct {
	Server   *Server
	Acme     *Workspace
	Payments *Repository
	EU       *Environment // of Payments, for production
}

// NewFixture starts a fixture. The caller closes its server.
func NewFixture() (*Fixture, error) {
	server, err := New(Options{Seed: 7, BaseURL: "http://127.0.0.1"})
	if err != nil {
		return nil, err
	}
	if err := server.StartInMemory(); err != nil {
		return nil, err
	}
	f := &Fixture{Server: server, Acme: server.AddWorkspace("acme")}
	f.Acme.SetAccessTokens(FixtureToken)
	f.Payments = f.Acme.AddRepository("payments", "PAY")
	f.EU = f.Payments.AddEnvironment("Production EU", Production)
	return f, nil
}
