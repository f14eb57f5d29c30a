package functions

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestBuiltinsAreListed: a policy gets the listed builtins and no others, every listed
// name is one of OPA's, and every other has a reason.
func TestBuiltinsAreListed(t *testing.T) {
	var names []string
	for _, b := range Capabilities().Builtins {
		if !isDeprecated(b.Name) {
			names = append(names, b.Name)
		}
	}
	for _, name := range allowed {
		if !slices.Contains(names, name) {
			t.Errorf("%s is listed, and OPA does not have it or it is not repeatable", name)
		}
	}
	if len(names) != len(allowed) {
		t.Errorf("%d builtins, %d are listed", len(names), len(allowed))
	}
	for _, b := range ast.CapabilitiesForThisVersion().Builtins {
		if listed := slices.Contains(allowed, b.Name); listed == (WhyRemoved(b.Name) != "") && !ast.BuiltinMap[b.Name].IsDeprecated() {
			t.Errorf("%s: listed %v, and refused for %q", b.Name, listed, WhyRemoved(b.Name))
		}
	}
	page, err := os.ReadFile("../../../docs/policy-reference.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range allowed {
		b := ast.BuiltinMap[name]
		if !strings.HasPrefix(name, "internal.") && b.Infix == "" && !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/policy-reference.md does not list %s", name)
		}
	}
}
