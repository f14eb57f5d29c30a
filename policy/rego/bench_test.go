package rego

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/destination"
)

// hosts is a list of 150 names and 50 patterns.
func hosts() []string {
	var list []string
	for i := range 150 {
		list = append(list, fmt.Sprintf("api-%d.partner.example", i))
	}
	for i := range 50 {
		list = append(list, fmt.Sprintf("*.zone-%d.example", i))
	}
	return list
}

func quoted(list []string) string { return `"` + strings.Join(list, `", "`) + `"` }

// BenchmarkDecide measures one decision, with the making of its input, for a list of 200
// hosts in each form that policies use.
func BenchmarkDecide(b *testing.B) {
	list := quoted(hosts())
	keys := `"` + strings.Join(hosts(), `": {}, "`) + `": {}`
	shapes := []struct{ name, files string }{
		{"floor", org("allow contains {\"rule\": \"x\"}")},
		{"set in the rule", org("allow contains {\"rule\": \"x\"} if input.target.host in {" + list + ", \"x.zone-25.example\"}")},
		{"one rule a host", org(oneRuleAHost())},
		{"library, set in the rule", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, {" + list + "})")},
		{"library, list in data", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.hosts)") + "-- data/x.json --\n{\"hosts\": [" + list + "]}\n"},
		{"library, object in data", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.hosts)") + "-- data/x.json --\n{\"hosts\": {" + keys + "}}\n"},
		{"all four sets and a repository", org("import data.sallyport.lib\n\nallow contains {\"rule\": \"x\"} if lib.host_in(input.target.host, data.hosts)\n\ndeny contains {\"rule\": \"no\", \"enforce_in_report_mode\": true} if input.target.host in {\"paste.example\", \"files.example\"}\n\nreport contains {\"rule\": \"web\"} if input.principal.repository.full_name == \"acme/website\"\n\ndelegate contains {\"rule\": \"tools\"} if input.principal.repository.project == \"PAY\"") +
			"-- data/x.json --\n{\"hosts\": {" + keys + "}}\n-- repositories/acme/payments/a.rego --\npackage sallyport.repository[\"acme/payments\"]\n\nallow contains {\"rule\": \"own\"} if {\n\tinput.target.host == \"api-7.partner.example\"\n\tinput.principal.deployment.type == \"production\"\n}\n"},
	}
	for _, shape := range shapes {
		set := mustLoad(b, shape.files)
		set.loader.options.Deadline = DefaultDeadline
		for _, host := range []string{"api-75.partner.example", "x.zone-25.example", "nowhere.at.all.example"} {
			b.Run(shape.name+"/"+host, func(b *testing.B) {
				r := requestFor(b, "deployment=production")
				r.Target = destination.Target{Host: host, Port: 443}
				b.ReportAllocs()
				for b.Loop() {
					if _, err := set.Decide(b.Context(), r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func oneRuleAHost() string {
	var b strings.Builder
	for i, host := range hosts() {
		fmt.Fprintf(&b, "allow contains {\"rule\": \"host-%d\"} if input.target.host == %q\n\n", i, strings.TrimPrefix(host, "*."))
	}
	return b.String()
}
