package report

import (
	"cmp"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var webhooksSpec = sectionSpec{
	name: "webhooks", title: "Webhook deliveries", criteria: []string{"CC6.6", "CC7.2", "A1.2"},
	kinds: []audit.Kind{audit.KindWebhookReceived, audit.KindWebhookDelivered, audit.KindWebhookFailed, audit.KindWebhookUnqueued},
	begin: func() section { return new(webhooksSection) },
	text: `{{if .Received}}<p>{{n .Received "verified delivery" "verified deliveries"}} in the period, {{.Denied}} of them denied. A delivery is committed together with its event. Bodies are not in the log.</p>
{{if .Dead}}<p class="result damaged">{{n .Dead "task was" "tasks were"}} given up: the endpoint did not accept the delivery in time.</p>{{end}}
{{if .Unqueued}}<p>{{n .Unqueued "event was" "events were"}} recorded without the change of the queue that belongs to it; the table names the causes. The sender of such a delivery did not get the answer that it was accepted, except for a repetition.</p>{{end}}
{{else}}<p>No verified delivery is recorded in the period.</p>{{end}}
<p>Requests that are not verified deliveries have no event of their own.</p>`,
}

type webhooksSection struct {
	nothing
	Received, Denied, Dead, Unqueued int64
	received, outcomes               groups[int64]
}

func (c *webhooksSection) event(e *loggedEvent) {
	if !e.inPeriod {
		return
	}
	switch audit.Kind(e.Kind) {
	case audit.KindWebhookReceived:
		c.Received++
		if e.Verdict != "allow" {
			c.Denied++
		}
		count(&c.received, e.Attributes["receiver"], e.Attributes["event"], e.Repository, e.Verdict, e.Reason, e.Rule)
	case audit.KindWebhookDelivered, audit.KindWebhookFailed, audit.KindWebhookUnqueued:
		if e.Kind == string(audit.KindWebhookUnqueued) {
			c.Unqueued++
		} else if e.Attributes["final"] == "true" {
			c.Dead++
		}
		count(&c.outcomes, e.Kind, e.Attributes["endpoint"], cmp.Or(e.Attributes["cause"], e.Attributes["status"], e.Message), e.Attributes["final"])
	}
}

func (c *webhooksSection) finish(*pack.Facts) []pack.Table {
	received := counted("webhook_deliveries", "Deliveries", &c.received, "receiver", "event", "repository", "verdict", "reason", "rule")
	outcomes := counted("webhook_outcomes", "Outcomes", &c.outcomes, "kind", "endpoint", "detail", "final")
	outcomes.Note = "detail: the HTTP status of the endpoint, the cause, or the error. final: whether the delivery became a dead letter."
	return []pack.Table{received, outcomes}
}
