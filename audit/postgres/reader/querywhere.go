package reader

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Filter selects events. Values of one field are alternatives;
// fields are conditions that all have to hold. An empty field is not a condition.
type Filter struct {
	Since, Until time.Time // from, and before

	Kinds, Verdicts, Modes, Reasons, Rules []string
	WouldDeny                              *bool
	// Names as they were at that moment, or UUIDs.
	Workspaces, Repositories, Deployments []string
	// Hosts are whole names, or patterns such as *.partner.example: one label or
	// more before it.
	Hosts   []string
	Ports   []int32
	Clients []netip.Prefix
	// Revisions are digests or commits, or how they begin.
	Revisions                   []string
	Steps, Pipelines, Decisions []string // UUIDs
	Builds                      []int64  // build numbers
	Writers                     []string
	// Of webhook deliveries: the configured receiver, Bitbucket's event key, an endpoint or
	// resource that the delivery is routed to, and the delivery's id. If one is given, only
	// events about deliveries match.
	Receivers, EventKeys, Endpoints, Deliveries []string
	// ExcludeSelfTests leaves out the decisions about probes of the self-test, and
	// the ends of what these allowed.
	ExcludeSelfTests bool

	// few are the decisions that meet whereDecided, where there are few; nil: not known.
	few []string
	// many is true if so many decisions meet whereDecided that the first events of the
	// period reach Limit.
	many bool

	Oldest  bool     // the oldest first
	Limit   int64    // 0: none
	Columns []string // none: AllColumns
}

// selective reports whether an index finds the few events that are meant.
func (q *Filter) selective() bool {
	return len(q.Decisions) > 0 || len(q.Writers) > 0 || q.ofDeliveries() || q.few != nil
}

// arguments numbers the parameters of a statement.
type arguments []any

func (a *arguments) add(value any) string {
	*a = append(*a, value)
	return fmt.Sprintf("$%d", len(*a))
}

// anyOf is true where expression is one of the values. One value is compared by
// itself, which an index in the order of time can serve.
func anyOf[T any](a *arguments, expression, typ string, values []T) string {
	if len(values) == 1 {
		return expression + " = " + a.add(values[0]) + "::" + typ
	}
	return expression + " = ANY (" + a.add(values) + "::" + typ + "[])"
}

func anyUUID(a *arguments, column string, values []string) string {
	if len(values) == 1 {
		return column + " = " + a.add(values[0]) + "::text::uuid"
	}
	return column + " = ANY (" + a.add(values) + "::text[]::uuid[])"
}

// where is the condition of the question, and its parameters.
func (q *Filter) where(a *arguments) string {
	conditions := []string{"true"}
	add := func(given bool, condition func() string) {
		if given {
			conditions = append(conditions, condition())
		}
	}
	texts := func(column string, values []string) {
		add(len(values) > 0, func() string { return anyOf(a, column, "text", values) })
	}
	uuids := func(column string, values []string) {
		add(len(values) > 0, func() string { return anyUUID(a, column, values) })
	}
	add(!q.Since.IsZero(), func() string { return "e.time >= " + a.add(q.Since) + "::timestamptz" })
	add(!q.Until.IsZero(), func() string { return "e.time < " + a.add(q.Until) + "::timestamptz" })
	texts("e.kind", q.Kinds)
	texts("e.verdict", q.Verdicts)
	texts("e.mode", q.Modes)
	texts("e.reason", q.Reasons)
	add(len(q.Rules) > 0, func() string {
		rules := a.add(q.Rules) + `::text[] COLLATE "C"`
		return "(e.rule = ANY (" + rules + ") OR e.rules && " + rules + ")"
	})
	add(q.WouldDeny != nil, func() string { return "e.would_deny = " + a.add(*q.WouldDeny) + "::boolean" })
	add(len(q.Revisions) > 0, func() string { return revisions(a, q.Revisions) })
	uuids("e.decision_id", q.Decisions)
	texts("e.writer", q.Writers)
	if of := q.whereDecided(a); of != "" {
		conditions = append(conditions, q.orItsEnd(a, of))
	}
	conditions = append(conditions, q.whereDeliveries(a)...)
	add(q.ExcludeSelfTests, func() string { return notSelfTest })
	return strings.Join(conditions, "\n   AND ")
}

// notSelfTest holds for every event but decisions about probes and their ends. An
// end is found by its decision, which is minutes older at most: a probe bounds
// itself (package internal/selftest).
const notSelfTest = `e.credential_kind IS DISTINCT FROM 'self_test'
   AND (e.kind NOT IN ('tunnel_closed', 'request_closed') OR NOT EXISTS (
       SELECT FROM audit.events probe
        WHERE probe.decision_id = e.decision_id AND probe.kind = 'decision' AND probe.credential_kind = 'self_test'
          AND probe.time <= e.time AND probe.time > e.time - interval '1 hour'))`

// whereDecided is the condition on what a decision alone has: who asked for what.
// Columns are those of e.
func (q *Filter) whereDecided(a *arguments) string {
	var conditions []string
	add := func(given bool, condition func() string) {
		if given {
			conditions = append(conditions, condition())
		}
	}
	names := func(column string, values []string) {
		add(len(values) > 0, func() string { return namedOrUUID(a, column, values) })
	}
	names("workspace", q.Workspaces)
	names("repository", q.Repositories)
	names("deployment", q.Deployments)
	add(len(q.Hosts) > 0, func() string { return hosts(a, q.Hosts) })
	add(len(q.Ports) > 0, func() string { return anyOf(a, "e.port", "integer", q.Ports) })
	add(len(q.Clients) > 0, func() string {
		text := make([]string, len(q.Clients))
		for i, c := range q.Clients {
			text[i] = c.String()
		}
		return "e.client_address <<= ANY (" + a.add(text) + "::text[]::inet[])"
	})
	add(len(q.Steps) > 0, func() string { return anyUUID(a, "e.step_uuid", q.Steps) })
	add(len(q.Pipelines) > 0, func() string { return anyUUID(a, "e.pipeline_uuid", q.Pipelines) })
	add(len(q.Builds) > 0, func() string {
		return `EXISTS (SELECT FROM identity.pipelines b WHERE b.pipeline_uuid = e.pipeline_uuid AND b.repository_uuid = e.repository_uuid
			AND ` + anyOf(a, "b.build_number", "bigint", q.Builds) + ")"
	})
	return strings.Join(conditions, "\n   AND ")
}

// orItsEnd holds for the events that meet a condition, and for the ends of the
// decisions that do. Columns of an end that only a decision should have do not count.
func (q *Filter) orItsEnd(a *arguments, condition string) string {
	if q.few != nil {
		return "(e.decision_id = ANY (" + a.add(q.few) + "::text[]::uuid[]) AND (e.kind IN ('tunnel_closed', 'request_closed') OR " + condition +
			") OR e.kind NOT IN ('decision', 'tunnel_closed', 'request_closed') AND " + condition + ")"
	}
	if len(q.Kinds) > 0 && !slices.ContainsFunc(q.Kinds, func(k string) bool { return (&audit.Event{Kind: audit.Kind(k)}).IsClosing() }) {
		return condition
	}
	decisions := q.decisionsSQL(a, condition)
	decided := "e.decision_id IN (" + decisions + ")"
	if q.many {
		// A scan in the order of time reaches the limit soon, and looks up the decision of
		// each close event. IN would first collect all decisions.
		decided = "e.decision_id = (" + decisions + " AND w.decision_id = e.decision_id LIMIT 1)"
	}
	return "(e.kind NOT IN ('tunnel_closed', 'request_closed') AND " + condition + " OR e.kind IN ('tunnel_closed', 'request_closed') AND " + decided + ")"
}

// decisionsSQL selects the ids of the decisions that meet a condition, and whose end
// may be in the period.
func (q *Filter) decisionsSQL(a *arguments, condition string) string {
	var within string
	if !q.Since.IsZero() {
		within += " AND e.time >= " + a.add(q.Since.Add(-audit.MaxOpen)) + "::timestamptz"
	}
	if !q.Until.IsZero() {
		within += " AND e.time < " + a.add(q.Until.Add(clockSteps)) + "::timestamptz"
	}
	return "SELECT w.decision_id FROM audit.events w WHERE " + strings.ReplaceAll("e.kind = 'decision' AND "+condition+within, "e.", "w.")
}

// fewSQL selects the decisions of the question, so many at most, from an index that
// has most of what is asked for; empty: every decision is meant.
func (q *Filter) fewSQL(most int) (string, []any) {
	var a arguments
	condition := q.whereDecided(&a)
	if condition == "" {
		return "", nil
	}
	sql := q.decisionsSQL(&a, condition) + " AND w.decision_id IS NOT NULL LIMIT " + a.add(most) + "::bigint"
	return sql, a
}

// manySQL counts the decisions of the question, up to so many.
func (q *Filter) manySQL(most int) (string, []any) {
	sql, a := q.fewSQL(most)
	return "SELECT count(*) FROM (" + sql + ") matches", a
}

// clockSteps is how much earlier than its decision an end may be stamped.
const clockSteps = 24 * time.Hour

// namedOrUUID finds what is called so or has this UUID.
func namedOrUUID(a *arguments, column string, values []string) string {
	var names, uuids, alternatives []string
	for _, v := range values {
		if isUUIDText(v) {
			uuids = append(uuids, v)
		} else {
			names = append(names, v)
		}
	}
	if len(names) > 0 {
		alternatives = append(alternatives, anyOf(a, "e."+column, "text", names))
	}
	if len(uuids) > 0 {
		alternatives = append(alternatives, anyUUID(a, "e."+column+"_uuid", uuids))
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

func isUUIDText(s string) bool {
	for i := range len(s) {
		switch c := s[i]; i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return len(s) == 36
}

// hosts finds hosts by name, and by what follows their first labels. A suffix is
// compared as it is: no byte of it means anything but itself.
func hosts(a *arguments, patterns []string) string {
	var names, alternatives []string
	for _, p := range patterns {
		suffix, ok := strings.CutPrefix(p, "*")
		if !ok {
			names = append(names, p)
			continue
		}
		parameter := a.add(suffix)
		alternatives = append(alternatives, fmt.Sprintf("(length(e.host) > length(%[1]s::text) AND right(e.host, length(%[1]s::text)) = %[1]s::text)", parameter))
	}
	if len(names) > 0 {
		alternatives = append(alternatives, anyOf(a, "e.host", "text", names))
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

func revisions(a *arguments, begins []string) string {
	var alternatives []string
	for _, r := range begins {
		p := a.add(r)
		alternatives = append(alternatives, fmt.Sprintf("starts_with(e.revision, %[1]s::text) OR starts_with(e.commit, %[1]s::text) OR starts_with(e.repository_revision, %[1]s::text)", p))
		if !strings.Contains(r, ":") {
			alternatives = append(alternatives, "starts_with(e.revision, 'sha256:' || "+p+"::text)", "starts_with(e.repository_revision, 'sha256:' || "+p+"::text)")
		}
	}
	return "(" + strings.Join(alternatives, " OR ") + ")"
}

// sql is the statement of the question, about the events e of a FROM clause with
// these parameters; empty: about all.
func (q *Filter) sql(events string, parameters ...any) (string, []any) {
	a := arguments(slices.Clone(parameters))
	where := q.where(&a)
	if events == "" {
		events = "audit.events e"
	}
	var b strings.Builder
	b.WriteString("SELECT ")
	needed := map[from]bool{}
	for i, c := range q.columns() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.expression())
		needed[c.from] = true
	}
	b.WriteString("\n  FROM " + events)
	if needed[fromDecision] || needed[fromPipelines] {
		b.WriteString(ofDecisionSQL)
	}
	if needed[fromPipelines] {
		b.WriteString("\n  LEFT JOIN identity.pipelines p ON p.pipeline_uuid = coalesce(e.pipeline_uuid, d.pipeline_uuid) AND p.repository_uuid = coalesce(e.repository_uuid, d.repository_uuid)")
	}
	if needed[fromLeaves] {
		b.WriteString("\n  LEFT JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence")
	}
	b.WriteString("\n WHERE " + where)
	if q.Oldest {
		b.WriteString("\n ORDER BY e.time, e.writer, e.writer_sequence")
	} else {
		b.WriteString("\n ORDER BY e.time DESC, e.writer DESC, e.writer_sequence DESC")
	}
	if q.Limit > 0 {
		b.WriteString("\n LIMIT " + a.add(q.Limit) + "::bigint")
	}
	return b.String(), a
}
