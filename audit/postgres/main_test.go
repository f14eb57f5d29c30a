package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

// migrated returns a migrated database of the shared server.
func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", migrate)
}

// logFor opens a log on a database, with a patience that a slow machine needs.
func logFor(t testing.TB, url string, change func(*Config)) *Log {
	t.Helper()
	config := Config{URL: url, Version: "test", Deadline: time.Minute, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	if change != nil {
		change(&config)
	}
	l, err := Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-l.done: // the test has closed it, or meant it to stop
		default:
			shut(t, l)
		}
	})
	return l
}

// kill stops a log as the end of its process would: nothing is written any more,
// and nobody is told.
func kill(l *Log) {
	l.cancel()
	<-l.done
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// shut closes a log, and may be called again.
func shut(t testing.TB, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func record(t testing.TB, l *Log, e *audit.Event) {
	t.Helper()
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func connection(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func ask[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func list(t testing.TB, conn *pgx.Conn, sql string, args ...any) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// eventually waits until a condition of another goroutine or process holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// disagreements lists the columns that differ from the record, and the records
// whose leaf differs from its definition.
const disagreements = `
	SELECT e.writer || ' ' || e.writer_sequence || ': ' || d.difference
	FROM audit.events e, LATERAL (
		SELECT coalesce(jsonb_object_agg(key, value::jsonb) FILTER (WHERE key NOT IN ('version', 'attributes', 'input', 'input_parts')), '{}') AS said
		FROM json_each(convert_from(audit.record(e), 'UTF8')::json)
	) r, LATERAL (
		SELECT jsonb_strip_nulls(to_jsonb(e) - 'record' - 'record_rest' || jsonb_build_object(
			'time', to_char(e.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
			'duration', (extract(epoch FROM e.duration) * 1000000)::bigint)) AS held
	) c, LATERAL (
		SELECT coalesce(k.key, h.key) || ': record ' || coalesce(k.value::text, '-') || ', column ' || coalesce(h.value::text, '-') AS difference
		FROM jsonb_each(r.said) k FULL JOIN jsonb_each(c.held) h ON h.key = k.key
		WHERE k.value IS DISTINCT FROM h.value
	) d`

// sound checks what must hold of every log: numbers without gaps, each once,
// columns and records in agreement.
func sound(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	for _, broken := range list(t, conn, `SELECT writer || ': ' || count(*) || ' events, ' || count(DISTINCT writer_sequence) || ' numbers up to ' || max(writer_sequence)
		FROM audit.events GROUP BY writer
		HAVING count(*) <> max(writer_sequence) OR count(DISTINCT writer_sequence) <> max(writer_sequence) OR min(writer_sequence) <> 1`) {
		t.Errorf("gaps: %s", broken)
	}
	for _, d := range list(t, conn, disagreements+" LIMIT 20") {
		t.Errorf("disagreement: %s", d)
	}
	sameRecords(t, conn, "")
}

// sameRecords checks that the database and the programs make the same record of each
// row that meets a condition; empty: of all. It returns these records.
func sameRecords(t testing.TB, conn *pgx.Conn, where string, args ...any) [][]byte {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT audit.record(e), "+storedColumns("e.")+" FROM audit.events e "+where,
		append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var records [][]byte
	for rows.Next() {
		values := rows.RawValues()
		if ours := recordOf(values[1:]); !bytes.Equal(values[0], ours) {
			t.Errorf("a record is in the database\n%s\nand here\n%s", values[0], ours)
		}
		records = append(records, bytes.Clone(values[0]))
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return records
}

// newUUID is a UUIDv7, for the ids of decisions, pipelines and steps.
func newUUID(now time.Time) string {
	var b [16]byte
	_, _ = rand.Read(b[6:])
	ms := uint64(now.UnixMilli())
	for i := range 6 {
		b[i] = byte(ms >> (40 - 8*i))
	}
	b[6], b[8] = b[6]&0x0f|0x70, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}

// actAs lets a session of the writer's login add events, under the name that it
// returns.
func actAs(t testing.TB, conn *pgx.Conn) string {
	t.Helper()
	name, secret := newWriter(time.Now())
	if _, err := conn.Exec(t.Context(), `SELECT set_config('sallyport.writer_secret', $1, false)`, secret); err != nil {
		t.Fatal(err)
	}
	return name
}

// decision is an event like those that a gate records.
func decision(verdict string, n int) *audit.Event {
	now := time.Now()
	return &audit.Event{
		Time: now, Kind: audit.KindDecision, DecisionID: newUUID(now),
		Issuer: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc", CredentialKind: "bitbucket_oidc",
		WorkspaceUUID: "922e118c-f34f-4226-a897-0e0afbec553d", RepositoryUUID: fmt.Sprintf("11112222-3333-4444-5555-%012x", n%500),
		DeploymentUUID: "aaaabbbb-cccc-4ddd-8eee-ffff00001111", PipelineUUID: newUUID(now), StepUUID: newUUID(now),
		Workspace: "acme", Repository: fmt.Sprintf("acme/payments-%d", n%500), Project: "PAY",
		Deployment: "production-eu", DeploymentType: "production", Branch: "main",
		ClientAddress: netip.MustParseAddr("10.1.2.3"), Listener: "127.0.0.1:3128",
		Action: "connect", Scheme: "https", Host: fmt.Sprintf("api-%d.partner.example", n%200), Port: 443,
		Verdict: verdict, Mode: "enforce", Reason: "policy_allowed", Rule: "payments-partner", Rules: []string{"payments-partner"},
		Revision: digestOf("content"), Status: 200,
		DialedAddress: netip.MustParseAddr("203.0.113.7"), Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("2001:db8::7")},
		Input: []byte(`{"principal":{"kind":"bitbucket_step","workspace":{"uuid":"922e118c-f34f-4226-a897-0e0afbec553d","slug":"acme"},` +
			`"repository":{"uuid":"11112222-3333-4444-5555-666677778888","full_name":"acme/payments","project":"PAY"},` +
			`"deployment":{"uuid":"aaaabbbb-cccc-4ddd-8eee-ffff00001111","name":"Production EU","slug":"production-eu","type":"production"},` +
			`"pipeline":{"uuid":"5f0c1d2e-0000-4000-8000-000000000001"},"step":{"uuid":"5f0c1d2e-0000-4000-8000-000000000002"},"branch":"main"},` +
			`"action":"connect","target":{"host":"api.partner.example","port":443},"client":{"address":"10.1.2.3"},"time":"2026-11-21T08:40:00Z"}`),
	}
}
