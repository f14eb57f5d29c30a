package postgres

import (
	"bytes"
	"context"
	crand "crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func attributesOf(t *testing.T, record []byte) map[string]string {
	t.Helper()
	var said struct{ Attributes map[string]string }
	if err := json.Unmarshal(record, &said); err != nil {
		t.Fatal(err)
	}
	return said.Attributes
}

// insert writes an event as anybody can who has the writer's login.
func insert(t testing.TB, conn *pgx.Conn, writer string, number int64, kind audit.Kind, at time.Time) {
	t.Helper()
	e := &audit.Event{Time: at, Kind: kind, Writer: writer, WriterSequence: number}
	e.Normalise()
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, writer, writer_sequence, kind, record) VALUES ($1, $2, $3, $4, $5)`,
		e.Time, writer, number, string(kind), e.AppendRecord(nil)); err != nil {
		t.Fatal(err)
	}
}

// digestOf is what policies are named by.
func digestOf(content string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(content))) }

func migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

// migrated returns a migrated database of the shared server.
func migrated(t testing.TB) *pgtest.DB {
	t.Helper()
	return pgtest.NewFrom(t, "sallyport", migrate)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// shut closes a log, and may be called again.
func shut(t testing.TB, l interface{ Close(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func record(t testing.TB, l recorder, e *audit.Event) {
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
	_, _ = crand.Read(b[6:])
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

// backdate lets checkpoints have any time, as if the log had been sealed then.
func backdate(t testing.TB, admin *pgx.Conn) {
	t.Helper()
	if _, err := admin.Exec(t.Context(), `CREATE OR REPLACE FUNCTION audit.check_checkpoint_time(at timestamptz) RETURNS void LANGUAGE sql AS ''`); err != nil {
		t.Fatal(err)
	}
}

// shelf is a place of publication in memory, with switches for faults.
type shelf struct {
	mu     sync.Mutex
	notes  [][]byte
	failed error
}

func (s *shelf) Name() string { return "shelf" }

func (s *shelf) Recent(context.Context) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes), nil
}

func (s *shelf) Publish(_ context.Context, note []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.notes = append(s.notes, bytes.Clone(note))
	}
	return s.failed
}

func (s *shelf) all() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

func newKey(t testing.TB, origin string) *audit.Signer {
	t.Helper()
	private, err := audit.GenerateKey(origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

func seal(t testing.TB, s sealing) {
	t.Helper()
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// proven expects a log without damage, so much of it sealed and so much not.
func proven(t testing.TB, r *audit.Report, leaves, unsealed int64) {
	t.Helper()
	for _, f := range r.Findings {
		t.Errorf("a sound log is accused: %s", f)
	}
	if r.Leaves != leaves || r.Unsealed != unsealed {
		t.Errorf("%d leaves and %d not sealed, want %d and %d", r.Leaves, r.Unsealed, leaves, unsealed)
	}
}

func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

func mustExec(t testing.TB, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// addWriter adds the events of a writer with these numbers, as SQL lists them.
func addWriter(t testing.TB, db *pgtest.DB, name, numbers string) {
	t.Helper()
	if _, err := connection(t, db.URL("")).Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), CASE n WHEN 1 THEN 'writer_started' ELSE 'admin' END, $1, n,
			convert_to('{"version":1,"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","kind":"'
				|| CASE n WHEN 1 THEN 'writer_started' ELSE 'admin' END || '","writer":"' || $1 || '","writer_sequence":' || n || '}', 'UTF8')
		FROM (`+numbers+`) AS s(n)`, name); err != nil {
		t.Fatal(err)
	}
}

// pair is a primary with a migrated database, and its standby "second".
type pair struct {
	primary, standby *pgtest.Server
	db               *pgtest.DB
}

func startPair(t testing.TB) pair {
	t.Helper()
	options := pgtest.Options{NoSync: true}
	p := pair{primary: pgtest.Start(t, options)}
	p.db = p.primary.NewFrom(t, "sallyport", migrate)
	p.standby = p.primary.Standby(t, "second", options)
	return p
}

// url names both servers, and connects to the one that can be written to.
func (p pair) url(role string) string {
	q := url.Values{
		"host": {p.primary.SocketDirectory() + "," + p.standby.SocketDirectory()}, "port": {"5432,5432"},
		"user": {role}, "target_session_attrs": {"read-write"},
	}
	return "postgres:///" + p.db.Name + "?" + q.Encode()
}

// second is the database on the standby.
func (p pair) second() *pgtest.DB { return &pgtest.DB{Name: p.db.Name, Server: p.standby} }

// unprotect is what a superuser can do about triggers and constraints.
func unprotect(t testing.TB, admin *pgx.Conn) {
	t.Helper()
	tables := append(list(t, admin, `SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.events'::regclass`), "audit.leaves", "audit.checkpoints", "audit.events")
	for _, table := range tables {
		if _, err := admin.Exec(t.Context(), "ALTER TABLE "+table+" DISABLE TRIGGER ALL"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.Exec(t.Context(), `ALTER TABLE audit.events DROP CONSTRAINT events_writer_sequence_positive, DROP CONSTRAINT events_record_follows;
		ALTER TABLE audit.leaves DROP CONSTRAINT leaves_index`); err != nil {
		t.Fatal(err)
	}
}

// recorder is the part of a log that adds events.
type recorder interface {
	Record(context.Context, *audit.Event) error
}

// sealing is the part of a sealer that tests call by hand.
type sealing interface {
	Seal(context.Context) error
}

// firstOfMonth is the beginning of a month, in UTC.
func firstOfMonth(at time.Time) time.Time {
	year, month, _ := at.UTC().Date()
	return time.Date(year, month, 1, 0, 0, 0, 0, time.UTC)
}

// oldMonth is a month that retention may remove.
func oldMonth() time.Time { return firstOfMonth(time.Now().AddDate(0, -18, 0)) }

// endOf is the event of the end of a decision.
func endOf(e *audit.Event, at time.Time) *audit.Event {
	end := &audit.Event{Time: at, Kind: audit.KindTunnelClosed, DecisionID: e.DecisionID, Status: 503, CloseReason: "audit_unavailable"}
	end.Normalise()
	return end
}

// sealMonth records decisions of a month, and an event that retention keeps, and seals
// them. A sealer with the clock of its caller seals them at any time.
func sealMonth(t testing.TB, l recorder, s sealing, first time.Time, decisions int64) {
	t.Helper()
	for n := range decisions {
		e := decision([]string{"allow", "deny"}[n%2], int(n))
		e.Time = first.Add(time.Duration(n) * 22 * time.Hour)
		record(t, l, e)
	}
	record(t, l, &audit.Event{Time: first.Add(time.Hour), Kind: audit.KindAdmin, Action: "noted"})
	seal(t, s)
}

// writerLog is a log of one writer.
type writerLog interface {
	recorder
	Writer() string
	Close(context.Context) error
}

// parts opens the parts of a log for variedLog.
type parts struct {
	log    func() writerLog
	sealer func(l writerLog, key *audit.Signer, now func() time.Time) sealing
}

// variedLog fills a database with the events of several writers, of which some
// have ended, in several months, and seals them in pieces.
//
// One with a history has months of events that were sealed long ago.
func variedLog(t testing.TB, db *pgtest.DB, open parts, events int, history bool) *audit.Signer {
	t.Helper()
	key := newKey(t, "")
	logs := []writerLog{open.log(), open.log(), open.log()}
	now := time.Now
	s := open.sealer(logs[0], key, func() time.Time { return now() })
	if history {
		backdate(t, connection(t, db.URL("")))
		// Two months that were sealed in their time, in their order.
		for n := range 2 {
			first := oldMonth().AddDate(0, n, 0)
			for i := range 20 + events%40 {
				e := decision([]string{"allow", "deny"}[rand.IntN(2)], i)
				if i%9 == 8 {
					e = &audit.Event{Kind: audit.KindAdmin, Action: "noted"}
				}
				e.Time = first.Add(time.Duration(1+i) * 10 * time.Hour)
				record(t, logs[0], e)
				if i%7 == 0 {
					now = func() time.Time { return first.Add(time.Duration(1+i) * 10 * time.Hour) }
					seal(t, s)
				}
			}
			now = func() time.Time { return first.AddDate(0, 1, 0) }
			seal(t, s)
		}
		now = time.Now
	}
	for n := range events {
		l := logs[rand.IntN(len(logs))]
		e := decision([]string{"allow", "deny"}[rand.IntN(2)], n)
		if rand.IntN(3) == 0 {
			e.Time = e.Time.AddDate(0, -1-rand.IntN(2), 0)
		}
		end := endOf(e, e.Time)
		record(t, l, e)
		if rand.IntN(2) == 0 {
			record(t, l, end)
		}
		if rand.IntN(20) == 0 {
			seal(t, s)
		}
	}
	shut(t, logs[1])
	shut(t, logs[2])
	seal(t, s)
	seal(t, s)
	return key
}

// reportOf verifies what a function reads.
func reportOf(t testing.TB, trust audit.Trust, walk func(context.Context, *audit.Verification) error) *audit.Report {
	t.Helper()
	v, err := audit.NewVerification(trust)
	if err != nil {
		t.Fatal(err)
	}
	if err := walk(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	return v.Report()
}

// addCheckpoint seals the next events of a writer as a login that may seal, with whatever
// key.
func addCheckpoint(t testing.TB, conn *pgx.Conn, writer string, signer *audit.Signer, last int64, change func(*audit.Checkpoint)) error {
	t.Helper()
	size := ask[int64](t, conn, `SELECT max(index) + 1 FROM audit.leaves`)
	sealed := ask[int64](t, conn, `SELECT max(writer_sequence) FROM audit.leaves WHERE writer = $1`, writer)
	tree, err := audit.RestoreTree(size, ask[[]byte](t, conn, `SELECT frontier FROM audit.checkpoints ORDER BY number DESC LIMIT 1`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list(t, conn, `SELECT convert_from(audit.record(e), 'UTF8') FROM audit.events e WHERE writer = $1 AND writer_sequence > $2 AND writer_sequence <= $3 ORDER BY writer_sequence`, writer, sealed, last) {
		tree.Append(audit.Leaf([]byte(r)))
	}
	c := audit.Checkpoint{Size: tree.Size(), Root: tree.Root(), Time: time.Now()}
	if change != nil {
		change(&c)
	}
	note, err := signer.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	if last == sealed {
		_, err = conn.Exec(t.Context(), `SELECT audit.add_checkpoint('{}', '{}', '{}', $1)`, string(note))
	} else {
		_, err = conn.Exec(t.Context(), `SELECT audit.add_checkpoint(ARRAY[$1], ARRAY[$2::bigint], ARRAY[$3::bigint], $4)`, writer, sealed+1, last, string(note))
	}
	return err
}

// refused records a refusal of that step.
func refused(t *testing.T, l recorder, p *identity.Principal, n int, at time.Time) *audit.Event {
	t.Helper()
	e := decision("deny", n)
	e.Time, e.Reason, e.Status, e.Message = at, "policy_denied", 403, "ask them"
	e.Issuer, e.WorkspaceUUID, e.RepositoryUUID, e.StepUUID = p.Issuer, p.Workspace.UUID, p.Repository.UUID, p.Step.UUID
	kept := *e
	record(t, l, e)
	return &kept
}

func stepOf(repository, step string) *identity.Principal {
	return &identity.Principal{Issuer: "https://issuer.test", Workspace: identity.Workspace{UUID: "922e118c-f34f-4226-a897-0e0afbec553d"},
		Repository: identity.Repository{UUID: repository}, Step: identity.Run{UUID: step}}
}
