package report

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/policy"
)

var countsSpec = sectionSpec{
	name: "population", title: "Population", criteria: []string{"CC6.1", "CC6.6", "PI1.4", "PI1.5"},
	kinds: []audit.Kind{audit.KindDecision, audit.KindTunnelClosed, audit.KindRequestClosed},
	begin: func() section { return &countsSection{} },
	text: `<p>{{n .Decisions "decision was" "decisions were"}} made in the period{{if .Facts.Repositories}} for the repositories {{range $i, $r := .Facts.Repositories}}{{if $i}}, {{end}}{{cell $r}}{{end}}; {{.LeftOut}} decisions for other repositories are not included{{end}}. Each is in <code>population.csv</code> and <code>population.jsonl.gz</code>, with its end.</p>
<p><b>{{.Clients}} of them are about clients</b> (pipelines and others): {{.Closed}} have an end, {{.Refused}} were refused and have none, and {{.Open}} were allowed and have no end that this checkpoint covers: they were still open, or their process was lost. {{.Probes}} are <b>probes of the proxy itself</b>, the <a href="#self-tests">self-tests</a>. Probes are in the population with the origin <code>self_test</code> and on rows of their own in this section. No other section counts them, and the sample does not include them.</p>
<p>Decisions are counted three times: from their records while the log is read in the order of its tree, from the population as it is written, and from the columns of the database. {{if .Agrees}}They agree.{{else}}<b>They do not agree.</b>{{end}}</p>
<p>A request that was not decided or not recorded (such as <code>policy_error</code>, <code>names_unavailable</code>, <code>audit_unavailable</code>) was refused, and is counted here as an ERROR. Decisions of clients with an ERROR: {{.Errors}}. Attempts without a credential, unreadable request heads, connections over a limit, refusals over a rate and repeats of a refusal <b>are not recorded one by one</b>; <a href="#unrecorded">their totals</a> are.</p>`,
}

type countsSection struct {
	Facts                          *pack.Facts
	Decisions, Clients, Probes     int64
	Closed, Open, Refused          int64 // of clients
	LeftOut, Errors                int64
	Agrees                         bool
	outcomes, repositories, causes groups[int64]
}

func (c *countsSection) decision(d *Decision) {
	c.Decisions++
	if d.End != nil {
		count(&c.causes, d.Origin(), d.End.Kind, d.End.CloseReason)
	}
	if d.IsProbe() {
		c.Probes++
	} else {
		c.client(d)
	}
	count(&c.outcomes, d.Origin(), d.Verdict, d.Mode, strconv.FormatBool(d.WouldDeny), d.Reason, number(d.Status), groupOf(d.Reason))
	count(&c.repositories, d.Client(), d.RepositoryUUID, d.Origin(), d.Verdict, strconv.FormatBool(d.WouldDeny))
}

func (c *countsSection) client(d *Decision) {
	c.Clients++
	if strings.HasPrefix(groupOf(d.Reason), "ERROR") {
		c.Errors++
	}
	switch {
	case d.End != nil:
		c.Closed++
	case d.Verdict == "allow":
		c.Open++
	default:
		c.Refused++
	}
}

// groupOf is the group of a reason: see docs/reasons.md.
func groupOf(reason string) string {
	switch r := policy.Reason(reason); r {
	case policy.PolicyAllowed, policy.PolicyDenied, policy.NoRuleMatched:
		return "policy decision"
	case policy.TargetInvalid, policy.RequestInvalid, policy.HeadTooLarge, policy.HeadTimeout:
		return "invalid request"
	case policy.AddressProhibited, policy.NameUnresolved:
		return "target address"
	case policy.TargetUnreachable, policy.TargetTimeout, policy.UpstreamUnavailable, policy.UpstreamTimeout, policy.ResponseInvalid:
		return "target or upstream proxy"
	case policy.ByteLimit, policy.StepLimit, policy.RepositoryLimit, policy.InstanceLimit, policy.Overloaded:
		return "limit exceeded"
	case policy.ShuttingDown, policy.EmergencyStop:
		return "stopped by an operator or shutting down"
	case policy.PolicyError, policy.AuditUnavailable, policy.InternalError:
		return "ERROR: not decided or not recorded"
	default:
		switch {
		case strings.HasPrefix(reason, "credential_"):
			return "no verified identity"
		case strings.HasSuffix(reason, "_unavailable"):
			return "ERROR: not decided or not recorded"
		}
		return "other"
	}
}

func (c *countsSection) event(e *loggedEvent) {}

func (c *countsSection) finish(f *pack.Facts) []pack.Table {
	c.Facts = f
	c.LeftOut = f.Kinds["decision"] - f.Selected
	c.Agrees = f.Selected == c.Decisions
	kinds := pack.Table{Name: "kinds", Title: "Events of the period by kind", Columns: []string{"kind", "events"},
		Note: "Of all repositories, as the walk through the whole log found them."}
	for _, k := range slices.Sorted(maps.Keys(f.Kinds)) {
		kinds.Rows = append(kinds.Rows, []string{k, strconv.FormatInt(f.Kinds[k], 10)})
	}
	return []pack.Table{
		kinds,
		counted("outcomes", "Decisions by verdict, mode and reason", &c.outcomes, "origin", "verdict", "mode", "would_deny", "reason", "status", "group"),
		counted("endings", "Ends by kind and cause", &c.causes, "origin", "kind", "close_reason"),
		counted("repositories", "Decisions by repository", &c.repositories, "repository", "repository_uuid", "origin", "verdict", "would_deny"),
	}
}
