package bitbuckettest_test

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func Example() {
	bitbucket, err := bitbuckettest.New(bitbuckettest.Options{Seed: 1})
	if err != nil {
		panic(err)
	}
	defer bitbucket.Close()
	if err := bitbucket.Start("127.0.0.1:0"); err != nil {
		panic(err)
	}
	acme := bitbucket.AddWorkspace("acme")
	acme.SetAccessTokens("access-token")
	payments := acme.AddRepository("payments", "PAY")
	production := payments.AddEnvironment("Production EU", bitbuckettest.Production)

	step := payments.Run("main").Step(production)
	_ = step.Token(bitbuckettest.TokenOptions{Audiences: []string{"https://egress.acme.example"}})
	fmt.Println(payments.FullName(), production.Slug(), step.Pipeline.BuildNumber)

	outage := bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
	defer outage.Clear()
	// Output: acme/payments production-eu 1
}
