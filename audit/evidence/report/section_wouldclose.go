package report

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var wouldCloseSpec = sectionSpec{
	name: "would-close", title: "Tunnels continued in report mode only", criteria: []string{"CC6.1", "CC6.7", "CC8.1"},
	kinds: []audit.Kind{audit.KindWouldClose},
	begin: func() section { return new(wouldCloseSection) },
	text: `{{if .Count}}<p>{{n .Count "tunnel" "tunnels"}} continued because report mode applied: the first bytes were not a TLS ClientHello for the target, as the rule requires, and enforce mode closes such a tunnel with the close reason of the table. The content of these tunnels was not restricted to the target that the policy allowed.</p>
{{if .Others}}<p>In {{n .Others "tunnel" "tunnels"}}, the ClientHello named another host than the target. That host has a decision of its own in the population.</p>{{end}}
{{else}}<p>Report mode let no tunnel continue that enforce mode closes.</p>{{end}}
{{if .Repositories}}<p>The table has the tunnels of all repositories.</p>{{end}}`,
}

// wouldCloseSection counts the tunnels that only report mode let continue.
type wouldCloseSection struct {
	nothing
	Count, Others int64
	Repositories  []string // that the population is narrowed to
	flows         groups[continued]
}

// continued is what is counted of the tunnels of one repository to one target.
type continued struct {
	repository, deployment string
	first, last            string
	count                  int64
	rules, names           Names
}

func (c *wouldCloseSection) event(e *loggedEvent) {
	if audit.Kind(e.Kind) != audit.KindWouldClose || !e.inPeriod || e.IsProbe() {
		return
	}
	c.Count++
	named := e.Attributes["server_name"]
	if named != "" {
		c.Others++
	}
	who := e.RepositoryUUID
	if who == "" {
		who = e.ClientAddress
	}
	f, _ := c.flows.of(who, e.DeploymentUUID, e.Target(), e.CloseReason)
	f.count++
	if f.first == "" || e.Time < f.first {
		f.first = e.Time
	}
	if e.Time >= f.last {
		f.last, f.repository, f.deployment = e.Time, e.Client(), e.DeploymentName()
	}
	f.rules.Add(e.Rule)
	f.names.Add(named)
}

func (c *wouldCloseSection) finish(f *pack.Facts) []pack.Table {
	c.Repositories = f.Repositories
	t := pack.Table{
		Name: "would_close", Title: "Tunnels that enforce mode closes",
		Columns: []string{"repository", "deployment", "target", "close_reason", "count", "first_seen", "last_seen", "rules", "server_names", "repository_uuid_or_address", "deployment_uuid"},
		Extra:   2,
		Note:    "server_names: the hosts in the ClientHello, where they are not the target.",
	}
	c.flows.each(func(key []string, f *continued) {
		repository, deployment := f.repository, f.deployment
		if key == nil {
			key = overLimit(nil, 4)
			repository, deployment = "(all others: too many to list)", ""
			key[0] = ""
		}
		t.Rows = append(t.Rows, []string{repository, deployment, key[2], key[3], strconv.FormatInt(f.count, 10), f.first, f.last,
			f.rules.String(), f.names.String(), key[0], key[1]})
	})
	sortRows(&t, 0, 1, 2, 3, 9, 10)
	return []pack.Table{t}
}
