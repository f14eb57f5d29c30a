package audittest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// InsertEvent writes an event as any user of the writer's login can.
func InsertEvent(t testing.TB, conn *pgx.Conn, writer string, number int64, kind audit.Kind, at time.Time) {
	t.Helper()
	e := &audit.Event{Time: at, Kind: kind, Writer: writer, WriterSequence: number}
	e.Normalise()
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, writer, writer_sequence, kind, record) VALUES ($1, $2, $3, $4, $5)`,
		e.Time, writer, number, string(kind), e.AppendRecord(nil)); err != nil {
		t.Fatal(err)
	}
}

// Close closes a log, and may be called again.
func Close(t testing.TB, l interface{ Close(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func Record(t testing.TB, l Recorder, e *audit.Event) {
	t.Helper()
	if err := l.Record(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// ColumnDifferences lists the columns that differ from the record, and the records
// whose leaf differs from its definition.
const ColumnDifferences = `
	SELECT e.writer || ' ' || e.writer_sequence || ': ' || d.difference
	FROM audit.events e, LATERAL (
		SELECT coalesce(jsonb_object_agg(key, value::jsonb) FILTER (WHERE key NOT IN ('version', 'attributes', 'input', 'input_parts')), '{}') AS fields
		FROM json_each(convert_from(audit.record(e), 'UTF8')::json)
	) r, LATERAL (
		SELECT jsonb_strip_nulls(to_jsonb(e) - 'record' - 'record_rest' || jsonb_build_object(
			'time', to_char(e.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
			'duration', (extract(epoch FROM e.duration) * 1000000)::bigint)) AS held
	) c, LATERAL (
		SELECT coalesce(k.key, h.key) || ': record ' || coalesce(k.value::text, '-') || ', column ' || coalesce(h.value::text, '-') AS difference
		FROM jsonb_each(r.fields) k FULL JOIN jsonb_each(c.held) h ON h.key = k.key
		WHERE k.value IS DISTINCT FROM h.value
	) d`

// Sound checks what must hold of every log: numbers without gaps, each once,
// columns and records in agreement.
func Sound(t testing.TB, conn *pgx.Conn) {
	t.Helper()
	for _, broken := range QueryStrings(t, conn, `SELECT writer || ': ' || count(*) || ' events, ' || count(DISTINCT writer_sequence) || ' numbers up to ' || max(writer_sequence)
		FROM audit.events GROUP BY writer
		HAVING count(*) <> max(writer_sequence) OR count(DISTINCT writer_sequence) <> max(writer_sequence) OR min(writer_sequence) <> 1`) {
		t.Errorf("gaps: %s", broken)
	}
	for _, d := range QueryStrings(t, conn, ColumnDifferences+" LIMIT 20") {
		t.Errorf("disagreement: %s", d)
	}
	SameRecords(t, conn, "")
}

// SameRecords checks that the database and the programs make the same record of each
// row that meets a condition; empty: of all. It returns these records.
func SameRecords(t testing.TB, conn *pgx.Conn, where string, args ...any) [][]byte {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT audit.record(e), "+auditpg.StoredColumns("e.")+" FROM audit.events e "+where,
		append([]any{pgx.QueryResultFormats{pgx.BinaryFormatCode}}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var records [][]byte
	for rows.Next() {
		values := rows.RawValues()
		if ours, _ := auditpg.RecordIn(nil, values[1:]); !bytes.Equal(values[0], ours) {
			t.Errorf("a record is in the database\n%s\nand here\n%s", values[0], ours)
		}
		records = append(records, bytes.Clone(values[0]))
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return records
}

func Seal(t testing.TB, s Sealer) {
	t.Helper()
	if err := s.Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// CheckReport expects a log without damage, so much of it sealed and so much not.
func CheckReport(t testing.TB, r *audit.Report, leaves, unsealed int64) {
	t.Helper()
	for _, f := range r.Findings {
		t.Errorf("a sound log is accused: %s", f)
	}
	if r.Leaves != leaves || r.Unsealed != unsealed {
		t.Errorf("%d leaves and %d not sealed, want %d and %d", r.Leaves, r.Unsealed, leaves, unsealed)
	}
}

// AddWriter adds the events of a writer with these numbers, as SQL lists them.
func AddWriter(t testing.TB, db *pgtest.DB, name, numbers string) {
	t.Helper()
	if _, err := Connect(t, db.URL("")).Exec(t.Context(), `INSERT INTO audit.events (time, kind, writer, writer_sequence, record)
		SELECT now(), CASE n WHEN 1 THEN 'writer_started' ELSE 'admin' END, $1, n,
			convert_to('{"version":1,"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '","kind":"'
				|| CASE n WHEN 1 THEN 'writer_started' ELSE 'admin' END || '","writer":"' || $1 || '","writer_sequence":' || n || '}', 'UTF8')
		FROM (`+numbers+`) AS s(n)`, name); err != nil {
		t.Fatal(err)
	}
}

// Recorder is the part of a log that adds events.
type Recorder interface {
	Record(context.Context, *audit.Event) error
}

// Sealer is the part of a sealer that tests call by hand.
type Sealer interface {
	Seal(context.Context) error
}

// Log is a log of one writer.
type Log interface {
	Recorder
	Writer() string
	Close(context.Context) error
}

// ReportOf verifies what a function reads.
func ReportOf(t testing.TB, trust audit.Trust, walk func(context.Context, *audit.Verification) error) *audit.Report {
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
