package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestInspectScripts runs `token inspect` as an operator and as a step does,
// with tokens of an emulated Bitbucket in the environment.
func TestInspectScripts(t *testing.T) {
	t.Parallel()
	program := released(t)
	bitbucket, err := bitbuckettest.New(bitbuckettest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bitbucket.Close)
	if err := bitbucket.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	acme, beta := bitbucket.AddWorkspace("acme"), bitbucket.AddWorkspace("beta")
	payments := acme.AddRepository("payments", "PAY")
	step := payments.Run("main").Step(payments.AddEnvironment("Production EU", bitbuckettest.Production))
	const audience = "https://egress.acme.example"
	forged := beta.Key().Sign(map[string]any{"kid": acme.Key().ID}, step.Claims(bitbuckettest.TokenOptions{Audiences: []string{audience}}))
	variables := map[string]string{
		"GOOD":      step.Token(bitbuckettest.TokenOptions{Audiences: []string{audience}}),
		"DEFAULT":   step.Token(bitbuckettest.TokenOptions{}),
		"EXPIRED":   step.Token(bitbuckettest.TokenOptions{Audiences: []string{"x"}, IssuedAt: time.Now().Add(-3 * time.Hour), Lifetime: time.Hour}),
		"FORGED":    forged,
		"FOREIGN":   beta.AddRepository("r", "P").Run("main").Step(nil).Token(bitbuckettest.TokenOptions{Audiences: []string{audience}}),
		"STEP":      step.UUID,
		"WORKSPACE": acme.UUID,
		"ISSUER":    acme.Issuer(),
	}
	for _, name := range []string{"GOOD", "FORGED"} {
		token := variables[name]
		variables[name+"_TAIL"] = token[len(token)-40:]
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/token",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("SALLYPORT_CONFIG", "")
			e.Setenv("BITBUCKET_STEP_OIDC_TOKEN", "")
			for name, value := range variables {
				e.Setenv(name, value)
			}
			return os.WriteFile(filepath.Join(e.WorkDir, "sallyport.yaml"), []byte(`listeners: [{address: "127.0.0.1:0"}]
identity:
  bitbucket:
    - workspace: acme
      workspace_uuid: "`+acme.UUID+`"
      issuer: `+acme.Issuer()+`
      audiences: ["`+audience+`"]
policy: {directory: .}
audit: {embedded: true}
`), 0o644)
		},
	})
}
