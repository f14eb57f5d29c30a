package reader

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// TestQueryDeliveries: the filters of deliveries find a delivery with the events about it,
// whatever other text contains the names, and in spite of a record that is not JSON.
func TestQueryDeliveries(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	at := time.Now().Add(-time.Hour)
	id := func(n int) string { return fmt.Sprintf("019a0000-0000-7000-8000-00000000000%d", n) }
	record := func(kind audit.Kind, delivery int, after time.Duration, attributes ...string) {
		t.Helper()
		e := &audit.Event{Time: at.Add(after), Kind: kind, DecisionID: id(delivery), Message: `"receiver":"policy" "endpoint":"jenkins"`}
		for i := 0; i < len(attributes); i += 2 {
			e.Attributes = append(e.Attributes, audit.Attribute{Name: attributes[i], Value: attributes[i+1]})
		}
		audittest.Record(t, l, e)
	}
	received := func(delivery int, receiver, key, routes string) {
		record(audit.KindWebhookReceived, delivery, time.Duration(delivery)*time.Minute, "receiver", receiver, "kind", "cloud", "event", key,
			"refs", `branch "event":"repo:fork","receiver":"policy" created`, "routes", routes)
	}
	received(1, "builds", "repo:push", "forward jenkins; refresh_resource app")                     // 2
	record(audit.KindWebhookDelivered, 1, time.Minute+time.Second, "endpoint", "jenkins")           // 3
	record(audit.KindWebhookFailed, 1, time.Minute+2*time.Second, "endpoint", "app", "final", "no") // 4
	received(2, "policy", "pullrequest:fulfilled", "refresh_policy")                                // 5
	received(3, "builds-2", "repo:push", "forward jenkins-2")                                       // 6
	record(audit.KindAdmin, 1, 5*time.Minute, "endpoint", "jenkins")                                // 7: a replay
	audittest.Record(t, l, &audit.Event{Time: at.Add(6 * time.Minute), Kind: audit.KindDecision, DecisionID: id(9), Verdict: "allow"})

	// The database refuses such a record, unless its owner disables the triggers.
	owner := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, owner, `ALTER TABLE audit.events DISABLE TRIGGER USER`)
	pgtest.Exec(t, owner, `INSERT INTO audit.events (time, kind, writer, writer_sequence, decision_id, record)
		SELECT now() - interval '30 minutes', 'webhook_received', writer, 90, gen_random_uuid(), '\xff007b'::bytea FROM audit.events LIMIT 1`)

	a := askerFor(t, db.URL(database.Auditor))
	for name, c := range map[string]struct {
		filter Filter
		want   []string
	}{
		"receiver":           {Filter{Receivers: []string{"builds"}}, []string{"2", "3", "4", "7"}},
		"two receivers":      {Filter{Receivers: []string{"builds-2", "policy"}}, []string{"5", "6"}},
		"event":              {Filter{EventKeys: []string{"repo:push"}}, []string{"2", "3", "4", "6", "7"}},
		"receiver and event": {Filter{Receivers: []string{"builds"}, EventKeys: []string{"pullrequest:fulfilled"}}, nil},
		"endpoint":           {Filter{Endpoints: []string{"jenkins"}}, []string{"2", "3", "7"}},
		"resource":           {Filter{Endpoints: []string{"app"}}, []string{"2", "4"}},
		"part of a name":     {Filter{Endpoints: []string{"jenkin"}}, nil},
		"delivery":           {Filter{Deliveries: []string{id(1)}}, []string{"2", "3", "4", "7"}},
		"a decision's id":    {Filter{Deliveries: []string{id(9)}}, nil},
		"delivery and kind":  {Filter{Deliveries: []string{id(1)}, Kinds: []string{"webhook_failed"}}, []string{"4"}},
		"after the delivery": {Filter{Receivers: []string{"builds"}, Since: at.Add(2 * time.Minute)}, []string{"7"}},
		"before the end":     {Filter{Receivers: []string{"builds"}, Until: at.Add(2 * time.Minute)}, []string{"2", "3", "4"}},
	} {
		c.filter.Oldest = true
		if got := answers(t, a, c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
