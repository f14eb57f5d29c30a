package report

import (
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/recorded"
)

// The section counts the deliveries of the period, and the outcomes at each endpoint.
func TestWebhookDeliveries(t *testing.T) {
	c := webhooksSpec.begin().(*webhooksSection)
	add := func(kind audit.Kind, verdict string, inPeriod bool, attributes map[string]string) {
		c.event(&loggedEvent{Event: &recorded.Event{Kind: string(kind), Verdict: verdict, Repository: "acme/payments", Attributes: attributes}, inPeriod: inPeriod})
	}
	push := map[string]string{"receiver": "cloud", "event": "repo:push"}
	add(audit.KindWebhookReceived, "allow", true, push)
	add(audit.KindWebhookReceived, "allow", true, push)
	add(audit.KindWebhookReceived, "deny", true, push)
	add(audit.KindWebhookReceived, "allow", false, push)
	add(audit.KindWebhookDelivered, "", true, map[string]string{"endpoint": "jenkins", "status": "204"})
	add(audit.KindWebhookFailed, "", true, map[string]string{"endpoint": "jenkins", "final": "false"})
	add(audit.KindWebhookFailed, "", true, map[string]string{"endpoint": "jenkins", "final": "true"})
	add(audit.KindWebhookUnqueued, "", true, map[string]string{"event": "webhook_received", "cause": "repeated"})
	tables := c.finish(nil)
	if c.Received != 3 || c.Denied != 1 || c.Dead != 1 || c.Unqueued != 1 {
		t.Errorf("%+v", c)
	}
	var rows []string
	for _, table := range tables {
		for _, row := range table.Rows {
			rows = append(rows, strings.Join(row, " "))
		}
	}
	for _, want := range []string{"cloud repo:push acme/payments allow   2", "cloud repo:push acme/payments deny   1", "webhook_delivered jenkins 204  1", "webhook_failed jenkins  true 1", "webhook_unqueued  repeated  1"} {
		if !slices.Contains(rows, want) {
			t.Errorf("there is no row %q in %q", want, rows)
		}
	}
}
