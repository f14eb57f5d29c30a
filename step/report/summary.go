package report

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/forwarder"
)

// The outcomes of a row, besides those of stepapi's kinds.
const outcomeDenied = "denied"

// maxRows bounds the rows of each list: the build log and Code Insights are for people.
const maxRows = 1000

// Summary is what a step requested, and what was denied.
type Summary struct {
	// Principal is the step as the server identified it; nil if the server did not answer.
	Principal *stepapi.Principal `json:"principal,omitempty"`
	Mode      string             `json:"mode,omitempty"` // enforce or report; "": unknown
	Requests  stepapi.Requests   `json:"requests"`
	// Problems are the denied requests and closed tunnels, and what report mode let pass.
	Problems []Row `json:"problems"`
	Allowed  []Row `json:"allowed"`
	// Rules is a file of rules to ask for, in Rego; "": there is nothing to ask for.
	Rules     string `json:"rules,omitempty"`
	RulesFile string `json:"rules_file,omitempty"` // its name in the policy repository
	// Notes state what the report does not contain.
	Notes []string `json:"notes,omitempty"`
}

// Row is one target with one outcome. Its texts come from the network.
type Row struct {
	Outcome       string   `json:"outcome"` // denied, or a kind of stepapi
	Target        string   `json:"target"`  // host:port
	Action        string   `json:"action"`  // connect or request
	Times         int64    `json:"times"`
	Status        int      `json:"status,omitempty"`
	Reason        string   `json:"reason,omitempty"` // of docs/reasons.md, or the close reason
	Message       string   `json:"message,omitempty"`
	Rule          string   `json:"rule,omitempty"`
	DecisionIDs   []string `json:"decision_ids,omitempty"`
	Next          string   `json:"next,omitempty"` // what to do
	BytesSent     int64    `json:"bytes_sent,omitempty"`
	BytesReceived int64    `json:"bytes_received,omitempty"`
}

// rowKey identifies a row.
type rowKey struct{ outcome, target, action, reason, rule string }

func (r *Row) key() rowKey { return rowKey{r.Outcome, r.Target, r.Action, r.Reason, r.Rule} }

// summarize combines the server's answer with what the forwarder counted. Each may be nil.
// The server's answer is complete but for its bounds; the forwarder adds the requests that
// did not reach the server, repeats of remembered denials, and entries over these bounds.
func summarize(server *stepapi.Step, local *forwarder.Report) *Summary {
	s := &Summary{Problems: []Row{}, Allowed: []Row{}}
	c := collector{rows: map[rowKey]*Row{}, ids: map[string]*Row{}}
	if server != nil {
		s.Principal, s.Mode, s.Requests = &server.Principal, server.Mode, server.Requests
		for i := range server.Entries {
			c.addEntry(&server.Entries[i])
		}
		if server.More {
			s.note("the server lists the latest entries only; the forwarder's own list adds what it knows of earlier ones")
		}
	} else {
		s.note("the server did not answer: names, modes and rules to ask for are missing")
	}
	if local != nil {
		for i := range local.Refusals {
			c.addRefusal(&local.Refusals[i])
		}
		c.addTargets(local.Targets)
		if server == nil {
			s.Requests.Allowed, s.Requests.Denied = int64(local.Allowed), int64(local.Denied+local.Repeats)
		}
		if local.Omitted > 0 || local.Rejected > 0 {
			s.note("the forwarder's list is not complete: it was full, or it had too many connections")
		}
	} else {
		s.note("no forwarder answered: requests that did not reach the server are missing")
	}
	for _, r := range c.order {
		if r.Outcome == stepapi.KindAllowed {
			s.Allowed = append(s.Allowed, *r)
		} else {
			s.Problems = append(s.Problems, *r)
		}
	}
	s.Problems, s.Allowed = s.bound("problems", s.Problems), s.bound("allowed", s.Allowed)
	s.Rules, s.RulesFile = rules(s)
	return s
}

func (s *Summary) note(text string) { s.Notes = append(s.Notes, text) }

// bound sorts and shortens a list.
func (s *Summary) bound(name string, rows []Row) []Row {
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(severity(a.Outcome), severity(b.Outcome)), cmp.Compare(a.Target, b.Target))
	})
	if len(rows) > maxRows {
		s.note("the list " + name + " is shortened")
		rows = rows[:maxRows]
	}
	return rows
}

// severity orders outcomes: those that failed are first.
func severity(outcome string) int {
	return slices.Index([]string{outcomeDenied, stepapi.KindClosed, stepapi.KindWouldDeny, stepapi.KindWouldClose}, outcome)
}

// collector merges entries and refusals into rows.
type collector struct {
	rows  map[rowKey]*Row
	ids   map[string]*Row // by decision id
	order []*Row
}

// add merges a row with an equal one, and returns the row that counts it.
func (c *collector) add(r Row) *Row {
	own := c.rows[r.key()]
	if own == nil {
		own = &r
		c.rows[r.key()] = own
		c.order = append(c.order, own)
	} else {
		own.Times += r.Times
		own.BytesSent += r.BytesSent
		own.BytesReceived += r.BytesReceived
		own.DecisionIDs = append(own.DecisionIDs, r.DecisionIDs...)
		own.Message, own.Next = cmp.Or(r.Message, own.Message), cmp.Or(r.Next, own.Next)
	}
	for _, id := range r.DecisionIDs {
		c.ids[id] = own
	}
	return own
}

func (c *collector) addEntry(e *stepapi.Entry) {
	r := Row{Outcome: e.Kind, Target: e.Target, Action: e.Action, Times: 1 + e.Repeats, Status: e.Status,
		Reason: cmp.Or(e.CloseReason, e.Reason), Message: e.Message, Rule: e.Rule, Next: e.Next, BytesSent: e.BytesSent, BytesReceived: e.BytesReceived}
	if e.Kind == stepapi.KindRefused {
		r.Outcome = outcomeDenied
	}
	if e.DecisionID != "" {
		r.DecisionIDs = []string{e.DecisionID}
	}
	c.add(r)
}

// addRefusal adds a refusal that the forwarder passed on. The server has counted all but
// the repeats that the forwarder answered itself.
func (c *collector) addRefusal(f *forwarder.Refusal) {
	if own := c.ids[f.DecisionID]; own != nil && f.DecisionID != "" {
		own.Times += int64(f.Repeats)
		return
	}
	r := Row{Outcome: outcomeDenied, Target: hostPort(f.Target), Action: f.Action, Times: 1 + int64(f.Repeats), Status: f.Status,
		Reason: f.Reason, Message: f.Message, Rule: f.Rule, Next: f.Next}
	if f.DecisionID != "" {
		r.DecisionIDs = []string{f.DecisionID}
	}
	c.add(r)
}

// addTargets adds the allowed targets that the server does not list.
func (c *collector) addTargets(targets []forwarder.Target) {
	listed := map[string]bool{}
	for _, r := range c.order {
		if r.Outcome != outcomeDenied {
			listed[r.Target] = true
		}
	}
	for _, t := range targets {
		if name := strings.ToLower(t.Name); t.Allowed > 0 && !listed[name] {
			c.add(Row{Outcome: stepapi.KindAllowed, Target: name, Times: int64(t.Allowed), BytesSent: t.BytesSent, BytesReceived: t.BytesReceived})
		}
	}
}

// hostPort returns the host and port of a target that is a URL; others unchanged.
func hostPort(target string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return strings.ToLower(target)
	}
	host := strings.ToLower(u.Host)
	if u.Port() == "" {
		host += ":80"
	}
	return host
}
