package reader

import (
	"time"

	"github.com/sallyport/sallyport/audit"
)

// maxDeliveryTime is how long after its delivery the last event about it may be recorded: the
// largest webhooks.endpoints[].retry_for, and a day.
const maxDeliveryTime = 91 * 24 * time.Hour

// webhookKinds are the kinds of events that name a delivery by their decision id. An index
// has them: they are constants of the statement.
const webhookKinds = `'` + string(audit.KindWebhookReceived) + `', '` + string(audit.KindWebhookDelivered) + `', '` + string(audit.KindWebhookFailed) +
	`', '` + string(audit.KindWebhookUnqueued) + `', '` + string(audit.KindAdmin) + `'`

// ofDeliveries reports whether only events about webhook deliveries are meant.
func (q *Filter) ofDeliveries() bool {
	return len(q.Receivers)+len(q.EventKeys)+len(q.Endpoints)+len(q.Deliveries) > 0
}

// whereDeliveries returns the conditions on webhook deliveries. An event meets the conditions
// on receiver and event key if its delivery does.
func (q *Filter) whereDeliveries(a *arguments) []string {
	if !q.ofDeliveries() {
		return nil
	}
	conditions := []string{"e.kind IN (" + webhookKinds + ")"}
	if len(q.Deliveries) > 0 {
		conditions = append(conditions, anyUUID(a, "e.decision_id", q.Deliveries))
	}
	if len(q.Receivers)+len(q.EventKeys) > 0 {
		received := "w.kind = '" + string(audit.KindWebhookReceived) + "'"
		if !q.Since.IsZero() {
			received += " AND w.time >= " + a.add(q.Since.Add(-maxDeliveryTime)) + "::timestamptz"
		}
		if !q.Until.IsZero() {
			received += " AND w.time < " + a.add(q.Until.Add(clockSteps)) + "::timestamptz"
		}
		if len(q.Receivers) > 0 {
			received += " AND " + anyOf(a, attribute("w", "receiver"), "text", q.Receivers)
		}
		if len(q.EventKeys) > 0 {
			received += " AND " + anyOf(a, attribute("w", "event"), "text", q.EventKeys)
		}
		conditions = append(conditions, "e.decision_id IN (SELECT w.decision_id FROM audit.events w WHERE "+received+")")
	}
	if len(q.Endpoints) > 0 {
		var routes []string
		for _, name := range q.Endpoints {
			routes = append(routes, "forward "+name, "refresh_resource "+name)
		}
		conditions = append(conditions, "("+anyOf(a, attribute("e", "endpoint"), "text", q.Endpoints)+
			" OR string_to_array("+attribute("e", "routes")+", '; ') && "+a.add(routes)+"::text[])")
	}
	return conditions
}

// attribute is the text of an attribute of an event about a delivery, whose values have no
// quotation mark; null: it has none. A record that is not JSON, in a log that its owner has
// changed, is not an error. Quotation marks within other texts of a record are escaped.
func attribute(event, name string) string {
	return `substring(encode(audit.record(` + event + `), 'escape') from '"attributes":\{.*"` + name + `":"([^"\\]*)"')`
}
