package report

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

// day is an hour of a day of October.
func day(d, hour int) time.Time { return time.Date(2026, 10, d, hour, 0, 0, 0, time.UTC) }

// TestAccessOfAPeriod: the access at the beginning is that of the latest attestation
// before the period, where there is one of the two days before, and nothing that came
// later; and each change in the period is listed.
func TestAccessOfAPeriod(t *testing.T) {
	period := pack.Period{From: day(10, 0), To: day(20, 0)}
	event := func(when time.Time, name, value string) *loggedEvent {
		text := when.Format("2006-01-02T15:04:05.000000Z")
		return &loggedEvent{Event: &recorded.Event{Kind: string(audit.KindAccessAttested), Time: text, Attributes: map[string]string{name: value, "changes": "+ " + value}}, inPeriod: period.Contains(text)}
	}
	before := []*loggedEvent{event(day(8, 1), "access", "older"), event(day(9, 23), "access", "bob; ann"), event(day(9, 1), "access", "old")}
	within := []*loggedEvent{event(day(12, 0), "access", "mallory"), event(day(19, 0), "access", "ann")}
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
		tables := c.finish(&pack.Facts{})
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
	}{{day(9, 23), true}, {day(8, 0), true}, {day(7, 23), false}, {day(10, 0), false}, {day(25, 0), false}} {
		if period.Leads(tt.at.Format(time.RFC3339Nano), AccessLead) != tt.want {
			t.Errorf("%s: not %v", tt.at, tt.want)
		}
	}
}
