package report

import (
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var destinationsSpec = sectionSpec{
	name: "destinations", title: "Destinations", criteria: []string{"CC6.7", "CC6.1", "CC9.2"},
	begin: func() section { return new(destinationsSection) },
	text:  `<p>Every allowed target by repository and deployment environment: the first and the last decision, the number of decisions, the bytes in each direction, and the rules that allowed them. Bytes are those of connections whose end this checkpoint covers. The deployment is empty if the step is not a deployment.</p>`,
}

var denialsSpec = sectionSpec{
	name: "denials", title: "Refused requests", criteria: []string{"CC6.6", "CC6.1", "CC7.2"},
	begin: func() section { return &refusalsSection{name: "denials", title: "Refusals"} },
	text:  `<p>{{n .Count "decision refused" "decisions refused"}} a request. No connection to a target was opened for any of them. Without a known repository the client's address is shown.</p>`,
}

var reportModeSpec = sectionSpec{
	name: "report-mode", title: "Requests allowed in report mode only", criteria: []string{"CC6.1", "CC6.7", "CC8.1"},
	begin: func() section {
		return &refusalsSection{name: "report_mode", title: "Report-mode findings", report: true}
	},
	text: `<p>{{n .Count "decision allowed" "decisions allowed"}} requests that policy would have refused, because the organization set report mode for them: the policy was recorded and not enforced.</p>`,
}

// flow is what is counted of one target.
type flow struct {
	repository, deployment, kind, message string
	first, last                           string
	count, reported, open                 int64
	sent, received                        int64
	rules, branches                       Names
}

func (f *flow) add(d *Decision) {
	f.count++
	if f.first == "" || d.Time < f.first {
		f.first = d.Time
	}
	if d.Time >= f.last {
		f.last, f.repository, f.deployment, f.kind, f.message = d.Time, d.Client(), d.DeploymentName(), d.DeploymentType, d.Message
	}
	if d.WouldDeny {
		f.reported++
	}
	f.rules.Add(d.Rule)
	f.branches.Add(d.Branch)
	switch {
	case d.End != nil:
		f.sent += d.End.BytesSent
		f.received += d.End.BytesReceived
	case d.Verdict == "allow":
		f.open++
	}
}

type destinationsSection struct {
	nothing
	flows groups[flow]
}

func (c *destinationsSection) decision(d *Decision) {
	if d.Verdict != "allow" || d.IsProbe() {
		return
	}
	f, _ := c.flows.of(d.WorkspaceUUID, d.RepositoryUUID, d.DeploymentUUID, d.Target())
	f.add(d)
}

func (c *destinationsSection) finish(*pack.Facts) []pack.Table {
	t := pack.Table{
		Name: "destinations", Title: "Targets by repository and deployment",
		Columns: []string{"repository", "deployment", "deployment_type", "target", "first_seen", "last_seen", "allowed", "allowed_in_report_mode_only",
			"without_end", "bytes_sent", "bytes_received", "rules", "repository_uuid", "deployment_uuid"},
		Extra: 2,
	}
	c.flows.each(func(key []string, f *flow) {
		repository, deployment, kind := f.repository, f.deployment, f.kind
		if key == nil {
			key = overLimit(nil, 4)
			repository, deployment, kind = key[0], "", ""
		}
		t.Rows = append(t.Rows, []string{repository, deployment, kind, key[3], f.first, f.last, whole(f.count), whole(f.reported),
			whole(f.open), whole(f.sent), whole(f.received), f.rules.String(), key[1], key[2]})
	})
	sortRows(&t, 0, 1, 3, 12, 13)
	return []pack.Table{t}
}

// refusalsSection counts what was refused, or would have been.
type refusalsSection struct {
	nothing
	name, title string
	report      bool
	Count       int64
	flows       groups[flow]
}

func (c *refusalsSection) decision(d *Decision) {
	if d.IsProbe() || c.report && !d.WouldDeny || !c.report && d.Verdict == "allow" {
		return
	}
	c.Count++
	who := d.RepositoryUUID
	if who == "" {
		who = d.ClientAddress
	}
	to := d.Target()
	if to == "" {
		to = d.TargetRaw
	}
	f, _ := c.flows.of(who, d.DeploymentUUID, to, d.Reason, d.Rule, number(d.Status))
	f.add(d)
}

func (c *refusalsSection) finish(*pack.Facts) []pack.Table {
	t := pack.Table{
		Name: c.name, Title: c.title,
		Columns: []string{"repository", "deployment", "target", "reason", "rule", "status", "count", "first_seen", "last_seen", "branches", "message", "repository_uuid_or_address", "deployment_uuid"},
		Extra:   2,
	}
	c.flows.each(func(key []string, f *flow) {
		repository, deployment := f.repository, f.deployment
		if key == nil {
			key = overLimit(nil, 6)
			repository, deployment = key[0], ""
			key[0] = ""
		}
		t.Rows = append(t.Rows, []string{repository, deployment, key[2], key[3], key[4], key[5], whole(f.count), f.first, f.last,
			f.branches.String(), f.message, key[0], key[1]})
	})
	sortRows(&t, 0, 1, 2, 3, 4, 5, 11, 12)
	return []pack.Table{t}
}
