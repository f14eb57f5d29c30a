package rego

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// scale is the size of a policy set of many repositories. Each repository has a file of 12
// to 18 lines; every tenth reads a document of its own, every fifth has tests, and every
// third uses the library.
type scale struct {
	repositories int
	patterns     bool           // the organization's 200 hosts are the library's patterns in data, and not a set in the rule
	organization string         // added to the organization's file
	own          map[int]string // added to a repository's file
	documents    map[int]string // a member added to a repository's document
	broken       int            // the repository whose file does not pass; 0: none
}

func (s scale) snapshot(t testing.TB) *policy.Snapshot {
	t.Helper()
	files := s.organizationFiles()
	for i := range s.repositories {
		files = append(files, s.repositoryFiles(i)...)
	}
	snapshot, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	return snapshot
}

// allowList is the organization's rule for its 200 hosts, and the document that
// belongs to it.
func (s scale) allowList() (rule, document string) {
	if !s.patterns {
		return "allow contains {\"rule\": \"shared\"} if {\n\tinput.target.port == 443\n\tinput.target.host in {\n\t\t" + strings.ReplaceAll(quoted(hosts()), " ", "\n\t\t") + ",\n\t}\n}\n", "empty: {}\n"
	}
	return "allow contains {\"rule\": \"shared\"} if lib.target_in(input.target, data.shared.hosts)\n", "hosts:\n  \"" + strings.Join(hosts(), "\": {}\n  \"") + "\": {}\n"
}

func (s scale) organizationFiles() []policy.File {
	rule, document := s.allowList()
	text := "package sallyport.egress\n\nimport data.sallyport.lib\n\n" + rule + `
allow contains {"rule": "exception", "message": exception.ticket, "expires": exception.until} if {
	some exception in lib.exceptions_for(data.exceptions.list, input.principal.repository.full_name, input.target)
}

deny contains {"rule": "no-paste-sites", "enforce_in_report_mode": true} if lib.host_in(input.target.host, {"paste.example", "*.paste.example"})

report contains {"rule": "observed"} if input.principal.repository.project == "WEB"

delegate contains {"rule": "teams"} if not startswith(input.target.host, "internal.")
` + s.organization
	tests := `package sallyport.egress_test

import data.sallyport.egress

test_shared if count(egress.allow) == 1 with input as {"target": {"host": "api-7.partner.example", "port": 443}, "principal": {"repository": {"full_name": "acme/r-1"}}}

test_paste if count(egress.deny) == 1 with input as {"target": {"host": "a.paste.example", "port": 443}}
`
	exceptions := "list:\n"
	for i := range 20 {
		exceptions += fmt.Sprintf("  - {repository: acme/r-%d, hosts: [exception-%d.example], owner: kim@acme.example, ticket: X-%d, until: \"2099-01-01T00:00:00Z\"}\n", i, i, i)
	}
	return []policy.File{
		{Path: "egress/allow.rego", Content: []byte(text)},
		{Path: "egress/allow_test.rego", Content: []byte(tests)},
		{Path: "data/shared/hosts.yaml", Content: []byte(document)},
		{Path: "data/exceptions/list.yaml", Content: []byte(exceptions)},
	}
}

func (s scale) repositoryFiles(i int) []policy.File {
	name := fmt.Sprintf("acme/r-%d", i)
	folder := "repositories/" + name + "/"
	text := fmt.Sprintf(`# What %s needs, kept by team-%d.
package sallyport.repository["%s"]

allow contains {"rule": "partner", "message": "settlement", "limits": {"lifetime": "30m"}} if {
	input.principal.deployment.type == "production"
	input.target.port == 443
	input.target.host in {"api-%d.partner.example", "files-%d.partner.example", "status.partner.example"}
}

allow contains {"rule": "sandbox"} if {
	input.target.host == "sandbox-%d.partner.example"
	input.principal.branch != "main"
}

deny contains {"rule": "no-uploads"} if input.target.host == "upload-%d.example"
`, name, i%40, name, i, i, i, i)
	if i%3 == 0 {
		text = strings.Replace(text, "\n\nallow", "\n\nimport data.sallyport.lib\n\nallow", 1)
		text += fmt.Sprintf("\nallow contains {\"rule\": \"mirrors\"} if lib.host_in(input.target.host, {\"*.mirror-%d.example\", \"mirror.example\"})\n", i)
	}
	if i%10 == 0 {
		text += fmt.Sprintf("\nallow contains {\"rule\": \"listed\"} if input.target.host in data.repositories.acme[\"r-%d\"].hosts\n", i)
	}
	if s.broken != 0 && s.broken == i {
		text += "\nallow contains {\"rule\": \"typo\"} if input.target.hots == \"a.example\"\n"
	}
	files := []policy.File{{Path: folder + "egress.rego", Content: []byte(text + s.own[i])}}
	if i%10 == 0 {
		document := "hosts:\n"
		for h := range 10 {
			document += fmt.Sprintf("  - host-%d.r-%d.example\n", h, i)
		}
		files = append(files, policy.File{Path: "data/" + folder + "hosts.yaml", Content: []byte(document + s.documents[i])})
	}
	if i%5 == 0 {
		files = append(files, policy.File{Path: folder + "egress_test.rego", Content: fmt.Appendf(nil, `package sallyport.repository_test["%s"]

import data.sallyport.repository["%s"] as own

test_production if count(own.allow) == 1 with input as {"target": {"host": "api-%d.partner.example", "port": 443}, "principal": {"deployment": {"type": "production"}}}

test_elsewhere if count(own.allow) == 0 with input as {"target": {"host": "elsewhere.example", "port": 443}, "principal": {"branch": "main"}}
`, name, name, i)})
	}
	return files
}
