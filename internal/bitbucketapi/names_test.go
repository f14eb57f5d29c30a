package bitbucketapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/printable"
)

// FuzzNames: no response of the API makes a name that could leave its
// folder in a policy repository, or that cannot be logged and stored.
func FuzzNames(f *testing.F) {
	const workspace, repository = "922e118c-f34f-4226-a897-0e0afbec553d", "1de489be-ce6a-42a0-a8c8-eadbf1174ac7"
	f.Add(`{"uuid":"{` + repository + `}","full_name":"acme/payments","project":{"key":"PAY"},"workspace":{"uuid":"{` + workspace + `}","slug":"acme"}}`)
	f.Add(`{"uuid":"{` + repository + `}","name":"Production EU","slug":"production-eu","environment_type":{"name":"Production"}}`)
	f.Add(`{"uuid":"{` + repository + `}","full_name":"acme/.."}`)
	f.Add(`{"uuid":"{` + repository + `}","full_name":"a/b/c"}`)
	f.Add(`{"values":[],"next":"https://evil.example"}`)
	f.Fuzz(func(t *testing.T, body string) {
		if n, err := parseRepository([]byte(body), workspace); err == nil {
			owner, slug, _ := strings.Cut(n.FullName, "/")
			if owner != n.WorkspaceSlug || slug == ".." || owner == ".." || strings.ContainsAny(slug, "/\\\x00 ") || !printable.IsClean(n.Project) {
				t.Fatalf("got %+v", n)
			}
		}
		if n, err := parseEnvironment([]byte(body), workspace, repository); err == nil {
			if n.Name == "" || !printable.IsClean(n.Name) || strings.ContainsAny(n.Slug, "/\\\x00 ") || !slices.Contains([]string{"", "test", "staging", "production"}, n.Type) {
				t.Fatalf("got %+v", n)
			}
		}
	})
}
