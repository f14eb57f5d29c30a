package postgres

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

func migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", migrate)
}

// instance is a queue with the log of its process.
type instance struct {
	*Queue
	audit *auditwriter.Log
}

// newInstance opens a log and a queue on a database, as one process of the server does.
func newInstance(t testing.TB, url string) *instance {
	t.Helper()
	log := slog.New(slog.NewTextHandler(pgtest.LogWriter{T: t}, nil))
	l, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: url, Version: "test", Deadline: time.Minute, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	q, err := Open(t.Context(), Config{URL: url, Recorder: l, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		q.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return &instance{q, l}
}

const repoUUID = "11112222-3333-4444-5555-000000000001"

// delivery is a push to a repository.
func delivery(repository string, n int) *webhook.Delivery {
	body := fmt.Appendf(nil, `{"push":%d,"repository":"%s"}`, n, repository)
	return &webhook.Delivery{
		Receiver: "cloud", Listener: "127.0.0.1:8443", Body: body, Digest: sha256.Sum256(body), Received: time.Now(),
		Event: &webhook.Event{
			Kind: webhook.Cloud, Key: "repo:push", Repository: &webhook.Repository{UUID: repository, FullName: "acme/payments", Project: "PAY"},
			Refs:  []webhook.Ref{{Type: webhook.Branch, Name: "main", Change: webhook.Updated, Old: "aaaa", New: "bbbb"}, {Type: webhook.Tag, Name: "v1", Change: webhook.Deleted, Old: "cccc"}},
			Actor: webhook.Actor{UUID: "22223333-3333-4444-5555-000000000001", Kind: "user"},
		},
		Header: http.Header{"X-Hub-Signature": {"sha256=0123"}, "X-Event-Key": {"repo:push"}, "Content-Type": {"application/json"}},
		Client: netip.MustParseAddr("104.192.136.7"), RequestID: uuid.NewV4(), HookUUID: "33334444-3333-4444-5555-000000000001", Attempt: 1,
	}
}

func repository(n int) string { return fmt.Sprintf("11112222-3333-4444-5555-%012x", n) }

// allowed allows a delivery with a task for each endpoint.
func allowed(endpoints ...string) webhook.Decision {
	d := webhook.Decision{Verdict: policy.Allow, Mode: policy.Enforce, Reason: webhook.Configured}
	for _, e := range endpoints {
		d.Routes = append(d.Routes, webhook.Route{Action: webhook.Forward, Endpoint: e})
	}
	return d
}

func accept(t testing.TB, q webhook.Queue, d *webhook.Delivery, decision webhook.Decision) {
	t.Helper()
	outcome, err := q.Accept(t.Context(), d, decision)
	if err != nil || outcome != webhook.Accepted {
		t.Fatalf("%v, %v", outcome, err)
	}
}

// claim claims one task of an endpoint, nil where there is none.
func claim(t testing.TB, q webhook.Store, endpoint string, lease time.Duration) *webhook.Task {
	t.Helper()
	tasks, err := q.Claim(t.Context(), endpoint, 1, lease)
	if err != nil {
		t.Fatal(err)
	}
	if len(tasks) == 0 {
		return nil
	}
	return &tasks[0]
}

func admin(t testing.TB, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	return pgtest.Connect(t, db.URL(""))
}

// expire ends all leases and all waiting times of tasks.
func expire(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	pgtest.Exec(t, conn, `UPDATE webhook.streams SET lease_until = now() - interval '1 second' WHERE lease_until > '-infinity'`)
	pgtest.Exec(t, conn, `UPDATE webhook.tasks SET not_before = '-infinity' WHERE not_before > '-infinity'`)
}

// replaced returns a text with a part of it replaced, which has to be there.
func replaced(t testing.TB, text, part, by string) string {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Fatalf("there is no %q in %s", part, text)
	}
	return strings.Replace(text, part, by, 1)
}
