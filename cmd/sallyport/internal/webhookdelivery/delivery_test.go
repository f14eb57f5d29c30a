package webhookdelivery

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"testing"
	"time"

	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// TestUpkeep: a running instance deletes bodies that are older than webhooks.body_max_age, and
// reads the state of the queue for its metrics.
func TestUpkeep(t *testing.T) {
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})
	log, url := slog.New(slog.DiscardHandler), db.URL(database.Writer)
	events, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: url, Version: "test", Deadline: time.Minute, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := events.Close(ctx); err != nil {
			t.Error(err)
		}
	}()
	d, err := Open(t.Context(), Config{
		Webhooks: &config.Webhooks{BodyMaxAge: 7 * 24 * time.Hour, Endpoints: []config.WebhookEndpoint{{Name: "jenkins", Agent: true, RetryFor: time.Hour}}},
		URL:      url, Recorder: events, Resolvers: []string{"127.0.0.1:1"}, Metrics: admin.NewMetrics("test"), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	accept := func(body string, received time.Time) {
		t.Helper()
		delivery := &webhook.Delivery{
			Receiver: "builds", Event: &webhook.Event{Kind: webhook.Cloud, Key: "repo:push"}, RequestID: uuid.NewV4(),
			Body: []byte(body), Digest: sha256.Sum256([]byte(body)), Received: received,
		}
		decision := webhook.Decision{Verdict: policy.Allow, Mode: policy.Enforce, Reason: webhook.Configured, Routes: []webhook.Route{{Action: webhook.Forward, Endpoint: "jenkins"}}}
		if outcome, err := d.Queue().Accept(t.Context(), delivery, decision); err != nil || outcome != webhook.Accepted {
			t.Fatal(outcome, err)
		}
	}
	accept("old", time.Now().Add(-8*24*time.Hour))
	tasks, err := d.Queue().Claim(t.Context(), "jenkins", 1, time.Minute)
	if err != nil || len(tasks) != 1 {
		t.Fatal(len(tasks), err)
	}
	if err := d.Queue().Dead(t.Context(), tasks[0], "status 410"); err != nil {
		t.Fatal(err)
	}
	accept("new", time.Now())

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); d.Run(ctx) }()
	conn := pgtest.Connect(t, db.URL(""))
	pgtest.Eventually(t, "the old body is deleted, and the new one is kept", func() bool {
		return pgtest.Value[string](t, conn, `SELECT string_agg(convert_from(body, 'UTF8'), ' ') FROM webhook.deliveries`) == "new"
	})
	pgtest.Eventually(t, "the state of the queue is read", func() bool {
		a := d.age("jenkins")
		return a.Open == 1 && a.Dead == 1 && !a.Oldest.IsZero()
	})
	shutdown, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d.Shutdown(shutdown)
	stop()
	<-ended
}
