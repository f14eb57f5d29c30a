package audit

import (
	"encoding/json"
	"time"
)

// AppliedException is an exception of a policy that applied to a decision.
type AppliedException struct {
	Path  string // where it stands in the policy's documents; empty: a rule made it
	Owner string
	// Ticket, Hosts and Until are empty where the exception does not have them.
	Ticket string
	Hosts  []string
	Until  time.Time
}

// Caps on what is kept of one exception, in bytes after escaping.
const (
	capException      = 160
	capExceptionHosts = 300
)

// exceptionJSON is an exception in the attribute, as SQL reads it.
type exceptionJSON struct {
	Path   string   `json:"path"`
	Owner  string   `json:"owner,omitempty"`
	Ticket string   `json:"ticket,omitempty"`
	Hosts  []string `json:"hosts,omitempty"`
	Until  string   `json:"until,omitempty"`
}

// AddExceptions notes the exceptions that applied: their places in the field, and
// what they are in the attribute exceptions, a JSON array. Each text is escaped and
// capped, and the array ends before it would be cut; the field names all.
func (e *Event) AddExceptions(list []AppliedException) {
	if len(list) == 0 {
		return
	}
	text, full := []byte{'['}, false
	for _, x := range list {
		e.Exceptions = append(e.Exceptions, Text(x.Path, capName))
		one := exceptionJSON{Path: Text(x.Path, capException), Owner: Text(x.Owner, capException), Ticket: Text(x.Ticket, capException)}
		if !x.Until.IsZero() {
			one.Until = x.Until.UTC().Format(time.RFC3339)
		}
		size := 0
		for _, h := range x.Hosts {
			h = Text(h, capException)
			if size += len(h); size > capExceptionHosts {
				one.Hosts = append(one.Hosts, "…")
				break
			}
			one.Hosts = append(one.Hosts, h)
		}
		member, err := json.Marshal(one)
		if err != nil { // texts cannot fail
			continue
		}
		if full = full || len(text)+len(member)+2 > capText; full {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		text = append(text, member...)
	}
	e.Attributes = append(e.Attributes, Attribute{Name: "exceptions", Value: string(append(text, ']'))})
}
