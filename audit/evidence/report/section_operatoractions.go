package report

import (
	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var operatorActionsSpec = sectionSpec{
	name: "operator-actions", title: "Operator actions", criteria: []string{"CC6.2", "CC6.3", "CC7.3", "CC7.4"},
	kinds: []audit.Kind{audit.KindAdmin},
	begin: func() section { return new(operatorActionsSection) },
	text:  `<p>Actions over the control socket: revocations and their end, closed tunnels, the emergency stop. The operator is the system user of the socket's client. {{.Stops}} of these began an emergency stop.</p>`,
}

type operatorActionsSection struct {
	nothing
	startsUser
	Stops   int
	actions []*recorded.Event
}

func (c *operatorActionsSection) event(e *loggedEvent) {
	if e.inPeriod && e.Kind == "admin" && e.Action != "journal_replayed" {
		c.actions = append(c.actions, e.Event)
		if e.Action == "emergency_stop" {
			c.Stops++
		}
	}
}

func (c *operatorActionsSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{Name: "operator_actions", Title: "Operator actions", Columns: []string{"time", "operation", "operator", "reason", "about", "writer", "writer_sequence", "writer_start"}}
	for _, e := range c.actions {
		t.Rows = append(t.Rows, []string{e.Time, e.Action, e.Attributes["operator"], e.Message, about(e, "operator", "operator_uid", "operator_pid"), e.Writer, whole(e.WriterSequence), c.starts.of(e.Writer, f)})
	}
	sortRows(&t, 0, 5, 6)
	return []pack.Table{t}
}
