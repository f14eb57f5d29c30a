package reader

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// Where a column of an answer comes from, besides audit.events.
type from int

const (
	fromEvents   from = iota
	fromDecision      // of an end: from its decision
	fromPipelines
	fromLeaves
)

// queryColumn is a column that a query may select.
type queryColumn struct {
	name  string
	sql   string // empty: the column of audit.events by this name
	from  from
	value func(b, value []byte) []byte // appends JSON that may be shown
	extra bool                         // only where it is named
}

func (c *queryColumn) expression() string {
	if c.sql != "" {
		return c.sql
	}
	return "e." + c.name
}

// allColumns are the columns of an answer. Their names are those of
// audit.events, and what is known besides.
var allColumns = func() []queryColumn {
	var all []queryColumn
	for _, c := range auditpg.RecordColumns {
		one := queryColumn{name: c.Name, value: shown(c)}
		if slices.Contains(decidedColumns, c.Name) {
			one.sql, one.from = "coalesce(e."+c.Name+", d."+c.Name+")", fromDecision
		}
		all = append(all, one)
	}
	return append(all,
		queryColumn{name: "build_number", sql: "p.build_number", from: fromPipelines, value: auditpg.AppendInteger},
		queryColumn{name: "creator", sql: "p.creator", from: fromPipelines, value: appendShownText},
		queryColumn{name: "leaf", sql: "l.index", from: fromLeaves, value: auditpg.AppendInteger, extra: true},
		queryColumn{name: "attributes", sql: "audit.record(e)", value: appendAttributes, extra: true},
		queryColumn{name: "record", value: audit.AppendShown, extra: true},
	)
}()

// decidedColumns are what an end has from its decision: who asked for what, and
// the way that it took.
var decidedColumns = []string{
	"issuer", "credential_kind", "workspace_uuid", "repository_uuid", "deployment_uuid", "pipeline_uuid", "step_uuid",
	"workspace", "repository", "project", "deployment", "deployment_type", "branch", "client_address", "listener",
	"action", "scheme", "host", "port", "method", "path", "upstream_proxy",
}

// ofDecisionSQL joins an end e with its decision d. That is in the partition of the
// end or the one before, whatever the length of the log (audit.MaxOpen).
var ofDecisionSQL = `
  LEFT JOIN LATERAL (SELECT ` + strings.Join(decidedColumns, ", ") + `
	FROM audit.events v
	WHERE e.kind IN ('tunnel_closed', 'request_closed') AND v.decision_id = e.decision_id AND v.kind = 'decision'
	  AND v.time <= e.time + interval '1 day' AND v.time > e.time - interval '8 days' LIMIT 1) d ON true`

// shown makes what the columns of an event have into JSON that may be shown.
// What the log wrote itself already may; what else is in the table need not.
func shown(c auditpg.Column) func(b, value []byte) []byte {
	return func(b, value []byte) []byte {
		begin := len(b)
		b = c.Append(b, value)
		if plainASCII(b[begin:]) {
			return b
		}
		if b[begin] == '"' {
			return audit.AppendString(b[:begin], string(value))
		}
		return audit.AppendShown(b[:begin], slices.Clone(b[begin:]))
	}
}

func plainASCII(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c >= 0x7f {
			return false
		}
	}
	return true
}

// appendAttributes appends the attributes of a record. The record of a decision or
// of an end may be anything: one that is not a JSON object has a text that states that,
// and does not end the answer, as a cast in SQL would.
func appendAttributes(b, record []byte) []byte {
	var fields struct {
		Attributes json.RawMessage `json:"attributes"`
	}
	switch err := json.Unmarshal(record, &fields); {
	case err != nil:
		return audit.AppendString(b, "not readable: the record is not a JSON object")
	case fields.Attributes == nil:
		return append(b, "null"...)
	}
	return audit.AppendShown(b, fields.Attributes)
}

func appendShownText(b, value []byte) []byte { return audit.AppendString(b, string(value)) }

// Columns are the names of the columns of an answer, in their order; all has those
// too that are only given where they are named.
func Columns(all bool) []string {
	var names []string
	for _, c := range allColumns {
		if all || !c.extra {
			names = append(names, c.name)
		}
	}
	return names
}

func (q *Filter) columns() []queryColumn {
	names := q.Columns
	if len(names) == 0 {
		names = Columns(false)
	}
	list := make([]queryColumn, 0, len(names))
	for _, name := range names {
		if i := slices.IndexFunc(allColumns, func(c queryColumn) bool { return c.name == name }); i >= 0 {
			list = append(list, allColumns[i])
		}
	}
	return list
}

// Row is one event of an answer.
type Row struct {
	columns []queryColumn
	values  [][]byte
}

// Len is how many columns it has.
func (r Row) Len() int { return len(r.columns) }

// Name is the name of a column.
func (r Row) Name(i int) string { return r.columns[i].name }

// JSON appends the value of a column: null where it has none. Times are UTC in
// RFC 3339, a duration is in microseconds. No byte of it moves a terminal's cursor.
func (r Row) JSON(b []byte, i int) []byte {
	if r.values[i] == nil {
		return append(b, "null"...)
	}
	return r.columns[i].value(b, r.values[i])
}

// Text is the value of a column as text: that of its JSON, without quotation marks
// where it is a string, and empty where there is none. What is in it may be
// anything that the table holds: it has to be escaped before it is shown.
func (r Row) Text(i int) string {
	if r.values[i] == nil {
		return ""
	}
	raw := r.columns[i].value(nil, r.values[i])
	if string(raw) == "null" {
		return ""
	}
	if len(raw) < 2 || raw[0] != '"' {
		return string(raw)
	}
	if text := string(raw[1 : len(raw)-1]); !strings.Contains(text, `\`) {
		return text
	}
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return string(raw)
	}
	return text
}

// time is the value of a column that is a time.
func (r Row) time(i int) time.Time {
	if len(r.values[i]) != 8 {
		return time.Time{}
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64(r.values[i])) + auditpg.Epoch).UTC()
}
