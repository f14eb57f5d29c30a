package rego

import (
	"slices"
	"strings"
	"testing"
)

// TestUnknownRepositories: a repository that does not exist is found in documents, in
// rules and as a folder, with a similar name.
func TestUnknownRepositories(t *testing.T) {
	t.Parallel()
	const text = `-- egress/a.rego --
package sallyport.egress

allow contains {"rule": "a"} if input.target.host == "a.example"

report contains {"rule": "r"} if not input.principal.repository.full_name in data.enforced

delegate contains {"rule": "d"} if input.principal.repository.full_name in {"acme/website", "acme/toools"}
-- data/x.yaml --
enforced:
  - acme/payments
  - acme/paymnets
-- repositories/acme/website/a.rego --
package sallyport.repository["acme/website"]

allow contains {"rule": "w"} if input.target.host == "w.example"
-- repositories/acme/websites/a.rego --
package sallyport.repository["acme/websites"]

allow contains {"rule": "w"} if input.target.host == "w.example"
`
	set := mustLoad(t, text)
	found, err := UnknownRepositories(t.Context(), set, []string{"acme/website", "acme/payments", "acme/tools"})
	if err != nil {
		t.Fatal(err)
	}
	for want, near := range map[string]string{"acme/toools": "acme/tools", "acme/paymnets": "acme/payments", "acme/websites": "acme/website"} {
		if !slices.ContainsFunc(found, func(e Error) bool {
			return strings.Contains(e.Message, want) && strings.Contains(e.Hint, "did you mean "+near) && e.File != "" && NamesUnknownRepository(e)
		}) {
			t.Errorf("%s is not reported with %s: %v", want, near, found)
		}
	}
	if len(found) != 3 {
		t.Errorf("%d are reported: %v", len(found), found)
	}
	if found, err := UnknownRepositories(t.Context(), set, []string{"acme/website", "acme/websites", "acme/payments", "acme/paymnets", "acme/toools"}); err != nil || len(found) != 0 {
		t.Errorf("all exist: %v %v", found, err)
	}
}
