package policycmd

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// deliveryLog is a log on a real database that the queue of deliveries writes to.
type deliveryLog struct {
	t       *testing.T
	db      *pgtest.DB
	events  *auditwriter.Log
	queue   *webhookpg.Queue
	urlFile string // of an auditor
}

func newDeliveryLog(t *testing.T) *deliveryLog {
	t.Helper()
	l := &deliveryLog{t: t, db: pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})}
	log := slog.New(slog.DiscardHandler)
	var err error
	if l.events, err = auditwriter.Open(t.Context(), auditwriter.Config{URL: l.db.URL(database.Writer), Version: "test", Deadline: time.Minute, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.events.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if l.queue, err = webhookpg.Open(t.Context(), webhookpg.Config{URL: l.db.URL(database.Writer), Recorder: l.events, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.queue.Close)
	l.urlFile = filepath.Join(write(t, "url", l.db.URL(database.Auditor)), "url")
	return l
}

// receive decides a push by the policy in a directory, and commits it with its event as the
// server does. It returns the id of the delivery, which is the decision's.
func (l *deliveryLog) receive(dir, body string, change ...func(*webhook.Decision)) string {
	l.t.Helper()
	set, err := loadTree(l.t.Context(), dir, true)
	if err != nil {
		l.t.Fatal(err)
	}
	revision := set.Revision()
	if err := l.events.PutPolicy(l.t.Context(), revision.Digest, set.Snapshot().Content()); err != nil {
		l.t.Fatal(err)
	}
	event, err := webhook.Parse(webhook.Cloud, "repo:push", []byte(body))
	if err != nil {
		l.t.Fatal(err)
	}
	delivery := &webhook.Delivery{
		Receiver: "builds", Event: event, Received: time.Now(), RequestID: uuid.NewV4(),
		Body: []byte(body), Digest: sha256.Sum256([]byte(body)),
	}
	decision, err := set.DecideDelivery(l.t.Context(), delivery)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, c := range change {
		c(&decision)
	}
	if outcome, err := l.queue.Accept(l.t.Context(), delivery, decision); err != nil || outcome != webhook.Accepted {
		l.t.Fatal(outcome, err)
	}
	return pgtest.Value[string](l.t, pgtest.Connect(l.t, l.db.URL("")), `SELECT decision_id::text FROM audit.webhook_deliveries ORDER BY time DESC LIMIT 1`)
}

// TestDeliveriesOfADatabase: the decisions that a real receiver's queue committed are read by
// an auditor, found by their id, and reproduced by the policy that the log keeps.
func TestDeliveriesOfADatabase(t *testing.T) {
	t.Parallel()
	l := newDeliveryLog(t)
	dir := write(t, "webhook/a.rego", deliveryRules)
	denying := write(t, "webhook/a.rego", strings.Replace(deliveryRules, `== "tag"`, `== "branch"`, 1))
	allowed := l.receive(dir, pushBody)
	denied := l.receive(denying, strings.Replace(pushBody, `"main"`, `"other"`, 1))
	// A request's decision is read beside them.
	if err := l.events.Record(t.Context(), &audit.Event{Kind: audit.KindDecision, DecisionID: uuid.NewV4(), Action: "connect", Verdict: "deny", Reason: "unauthenticated", Host: "a.example", Port: 443}); err != nil {
		t.Fatal(err)
	}

	out, err := run(t, "replay", "--as-decided", "--since", "1h", "--database-url-file", l.urlFile)
	wantOutput(t, out, err, "0 of 2 decisions do not come out", "2 revisions")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = run(t, "replay", dir, "--since", "1h", "--database-url-file", l.urlFile, "--fail-on", "opened")
	wantOutput(t, out, err, "acme/app  -  builds repo:push", "deny -> allow, by no-tags -> pushes", "1 opened")
	if err == nil {
		t.Error("a delivery that another policy allows is not reported as different")
	}
	for id, verdict := range map[string]string{allowed: "allow", denied: "deny"} {
		out, err = run(t, "explain", id, "--database-url-file", l.urlFile)
		wantOutput(t, out, err, "delivery     repo:push to receiver builds", "reproduced", verdict)
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}

	// A decision that its policy does not make is found.
	l.receive(dir, strings.Replace(pushBody, `"main"`, `"third"`, 1), func(d *webhook.Decision) { d.Rule, d.Rules = "others", []string{"others"} })
	out, err = run(t, "replay", "--as-decided", "--since", "1h", "--database-url-file", l.urlFile)
	wantOutput(t, out, err, "1 of 3 decisions do not come out", "by others -> pushes")
	if err == nil {
		t.Errorf("a changed decision is reproduced:\n%s", out)
	}
}
