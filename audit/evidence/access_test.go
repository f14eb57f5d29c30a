package evidence

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// TestAccessOfAPeriod: the access at the beginning is that of the latest attestation
// before the period, where there is one of the two days before, and nothing that came
// later; and each change in the period is listed.
func TestAccessOfAPeriod(t *testing.T) {
	period := Period{From: at(10, 0), To: at(20, 0)}
	event := func(when time.Time, name, value string) *loggedEvent {
		text := when.Format("2006-01-02T15:04:05.000000Z")
		return &loggedEvent{recordFields: &recordFields{Kind: string(audit.KindAccessAttested), Time: text, Attributes: map[string]string{name: value, "changes": "+ " + value}}, inPeriod: period.within(text)}
	}
	before := []*loggedEvent{event(at(8, 1), "access", "older"), event(at(9, 23), "access", "bob; ann"), event(at(9, 1), "access", "old")}
	within := []*loggedEvent{event(at(12, 0), "access", "mallory"), event(at(19, 0), "access", "ann")}
	for _, tt := range []struct {
		name   string
		events []*loggedEvent
		want   string
		later  bool
	}{
		{"one before", append(before, within...), "bob ann", false},
		{"none before", within, "mallory", true},
		{"none", nil, "", false},
	} {
		c := &accessSection{startsUser: startsUser{newStarts()}}
		for _, e := range tt.events {
			c.event(e)
		}
		tables := c.finish(&Facts{})
		var began []string
		for _, row := range tables[0].Rows {
			began = append(began, row[0])
		}
		if got := strings.Join(began, " "); got != tt.want || c.Later != tt.later || c.Known != (tt.want != "") {
			t.Errorf("%s: %q, %+v", tt.name, got, c)
		}
		if n := len(tables[1].Rows); tt.events != nil && n != 2 {
			t.Errorf("%s: %d changes", tt.name, n)
		}
	}
	for _, tt := range []struct {
		at   time.Time
		want bool
	}{{at(9, 23), true}, {at(8, 0), true}, {at(7, 23), false}, {at(10, 0), false}, {at(25, 0), false}} {
		if period.leads(tt.at.Format(time.RFC3339Nano), accessLead) != tt.want {
			t.Errorf("%s: not %v", tt.at, tt.want)
		}
	}
}
