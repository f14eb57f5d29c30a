package rego

import (
	"strings"
	"testing"
)

// TestUndelegated: an allow in a repository's folder that no rule of delegate can count is
// named with its place and the rule to add, and one that may count is not.
func TestUndelegated(t *testing.T) {
	const own = "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"x\"} if input.target.port == 443\n"
	const none = "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"y\"} if input.target.port == 25\n"
	for name, c := range map[string]struct {
		files string
		never bool
	}{
		"no delegate":          {none + own, true},
		"another repository's": {none + "\ndelegate contains {\"rule\": \"d\"} if input.principal.repository.full_name == \"acme/payments\"\n" + own, true},
		"two of others": {none + "\ndelegate contains {\"rule\": \"d\"} if input.principal.repository.full_name == \"acme/payments\"\n" +
			"\ndelegate contains {\"rule\": \"e\"} if {\n\tinput.target.port == 443\n\t\"acme/tool\" == input.principal.repository.full_name\n}\n" + own, true},
		"its own":                    {none + "\ndelegate contains {\"rule\": \"d\"} if input.principal.repository.full_name == \"acme/tools\"\n" + own, false},
		"by UUID":                    {none + "\ndelegate contains {\"rule\": \"d\"} if input.principal.repository.uuid == \"922e118c-f34f-4226-a897-0e0afbec553d\"\n" + own, false},
		"every repository":           {none + "\ndelegate contains {\"rule\": \"d\"}\n" + own, false},
		"every other":                {none + "\ndelegate contains {\"rule\": \"d\"} if not input.principal.repository.full_name == \"acme/payments\"\n" + own, false},
		"a list":                     {none + "\ndelegate contains {\"rule\": \"d\"} if input.principal.repository.full_name in {\"acme/payments\"}\n" + own, false},
		"a deny needs none":          {none + strings.Replace(own, "allow", "deny", 1), false},
		"a test is no policy":        {none + strings.Replace(own, "a.rego", "a_test.rego", 1), false},
		"a file that does not parse": {"-- egress/b.rego --\npackage sallyport.egress\n\nallow contains {\n" + own, false},
	} {
		warnings := Undelegated(snapshot(t, c.files))
		if len(warnings) > 0 != c.never {
			t.Errorf("%s: %v", name, warnings)
		}
		for _, w := range warnings {
			if w.File != "repositories/acme/tools/a.rego" || w.Line != 3 || !strings.Contains(w.Hint, `full_name == "acme/tools"`) {
				t.Errorf("%s: %+v", name, w)
			}
		}
	}
}
