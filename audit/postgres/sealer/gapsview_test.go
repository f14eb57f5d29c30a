package sealer

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/internal/database"
)

// hole is a writer with a missing number, 3, which is sealed up to there.
func hole(t *testing.T, change func(insert func(number int64, at time.Time))) (holes, missing []string) {
	t.Helper()
	db := audittest.Migrated(t)
	const other = "01a1fdf4-0000-7000-8000-0000000000cc"
	owner := audittest.Connect(t, db.URL(""))
	begin := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	put := func(number int64, at time.Time) {
		audittest.InsertEvent(t, owner, other, number, audit.KindNameReassigned, at)
	}
	for _, n := range []int64{1, 2, 4, 5} {
		put(n, begin.Add(time.Duration(n)*time.Hour))
	}
	change(put)
	conn := audittest.Connect(t, db.URL(database.Auditor))
	holes = audittest.QueryStrings(t, conn, `SELECT first_sequence || '-' || last_sequence || ' ' || numbers || ' ' || to_char(after AT TIME ZONE 'UTC', 'HH24:MI') || ' ' || to_char(before AT TIME ZONE 'UTC', 'HH24:MI') || ' ' || coalesce(explained_by, 'not explained')
		FROM audit.gaps ORDER BY writer, first_sequence`)
	missing = audittest.QueryStrings(t, conn, `SELECT missing::text FROM audit.writers WHERE writer = '`+other+`'`)
	// The function lists the same of a period, and of an hour what lies before its events.
	of := func(from string) []string {
		return audittest.QueryStrings(t, conn, `SELECT writer || ' ' || first_sequence || '-' || last_sequence || ' ' || missing || ' ' || coalesce(explained_by, 'not explained') FROM `+from+` ORDER BY writer, first_sequence`)
	}
	all := of("(SELECT writer, first_sequence, last_sequence, numbers AS missing, explained_by FROM audit.gaps) g")
	if got := of("audit.absent_between('2026-10-01Z', '2027-01-01Z')"); !slices.Equal(got, all) {
		t.Errorf("of the period %q, and of the log %q", got, all)
	}
	if got := of("audit.absent_between('2026-11-01T04:00Z', '2026-11-01T05:00Z')"); !slices.Equal(got, []string{other + " 3-3 1 not explained"}) {
		t.Errorf("of the hour %q", got)
	}
	if got := of("audit.absent_between('2026-11-01T05:00Z', '2026-11-01T06:00Z')"); len(got) != 0 {
		t.Errorf("of the hour behind it %q", got)
	}
	return holes, missing
}

// TestGapsCannotBeMasked: a missing number is listed, whatever rows are put in beside
// it; the difference of the highest number and the count of rows hides it.
func TestGapsCannotBeMasked(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		attack  func(insert func(number int64, at time.Time))
		more    string // listed beside it
		missing string
	}{
		"alone":                  {attack: func(func(int64, time.Time)) {}, missing: "1"},
		"a number twice":         {attack: func(insert func(int64, time.Time)) { insert(4, at) }, missing: "1"},
		"many numbers twice":     {attack: func(insert func(int64, time.Time)) { insert(1, at); insert(5, at); insert(5, at.Add(1e9)) }, missing: "1"},
		"a number out of range":  {attack: func(insert func(int64, time.Time)) { insert(100, at) }, more: "6-99 94 05:00 00:00 not explained", missing: "95"},
		"numbers of an old time": {attack: func(insert func(int64, time.Time)) { insert(2, at.AddDate(0, 0, -1)) }, missing: "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			holes, missing := hole(t, c.attack)
			want := []string{"3-3 1 02:00 04:00 not explained"}
			if c.more != "" {
				want = append(want, c.more)
			}
			if len(holes) != len(want) || holes[0] != want[0] || holes[len(holes)-1] != want[len(want)-1] || len(missing) != 1 || missing[0] != c.missing {
				t.Errorf("%q, missing %q", holes, missing)
			}
		})
	}
}

// TestGapWindowsAreNeeded: counted as it was, a hole beside a number that is there
// twice is not missing.
func TestGapWindowsAreNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for i, n := range []int64{1, 2, 4, 5, 5} {
		audittest.InsertEvent(t, conn, "01a1fdf4-0000-7000-8000-0000000000cc", n, audit.KindNameReassigned, at.Add(time.Duration(i)*time.Hour))
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT max(writer_sequence) - count(*) FROM audit.events"); n != 0 {
		t.Errorf("the count is not masked: %d", n)
	}
	if n := audittest.QueryValue[int](t, conn, "SELECT sum(numbers) FROM audit.gaps"); n != 1 {
		t.Errorf("%d numbers are missing", n)
	}
}

// explain writes an event of that kind about numbers of a writer.
func explainGap(t testing.TB, conn *pgx.Conn, writer string, number int64, kind audit.Kind, at time.Time, attributes ...string) {
	t.Helper()
	e := &audit.Event{Time: at, Kind: kind, Writer: writer, WriterSequence: number}
	for i := 0; i < len(attributes); i += 2 {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: attributes[i], Value: attributes[i+1]})
	}
	e.Normalise()
	if _, err := conn.Exec(t.Context(), `INSERT INTO audit.events (time, writer, writer_sequence, kind, record) VALUES ($1, $2, $3, $4, $5)`,
		e.Time, writer, number, string(kind), e.AppendRecord(nil)); err != nil {
		t.Fatal(err)
	}
}

// TestGapsAreExplained: an event that has all numbers of a gap explains it; a lost tail
// is a gap by the report alone.
func TestGapsAreExplained(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, n := range []int64{1, 4, 9} {
		audittest.InsertEvent(t, conn, "w", n, audit.KindNameReassigned, at.Add(time.Duration(n)*time.Hour))
	}
	lost := func(number int64, attributes ...string) {
		explainGap(t, conn, "v", number, audit.KindEventsLost, at.Add(20*time.Hour), attributes...)
	}
	explainGap(t, conn, "v", 1, audit.KindWriterStarted, at, "previous_writer", "u w")
	lost(2, "writer", "w", "first", "2", "last", "3", "reason", "failover")
	lost(3, "writer", "w", "first", "5", "last", "7") // not all of it
	lost(4, "writer", "w", "first", "10", "last", "12", "reason", "a lost tail")
	got := audittest.QueryStrings(t, audittest.Connect(t, db.URL(database.Auditor)), `SELECT writer || ' ' || first_sequence || '-' || last_sequence || ' ' || coalesce(explained_by || ' ' || reason, 'not explained') FROM audit.gaps ORDER BY writer, first_sequence`)
	want := []string{"w 2-3 events_lost failover", "w 5-8 not explained", "w 10-12 events_lost a lost tail"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestExplainsIsNeeded: a writer that is neither the gap's nor its successor
// reports numbers as lost; the gap stays unexplained, with the claim beside it.
func TestExplainsIsNeeded(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for _, n := range []int64{1, 3, 5} {
		audittest.InsertEvent(t, conn, "w", n, audit.KindNameReassigned, at.Add(time.Duration(n)*time.Hour))
	}
	claim := func(by string, number int64, first, last string) {
		explainGap(t, conn, by, number, audit.KindEventsLost, at.Add(20*time.Hour), "writer", "w", "first", first, "last", last, "reason", by+" says so")
	}
	explainGap(t, conn, "x", 1, audit.KindWriterStarted, at, "previous_writer", "u")
	explainGap(t, conn, "x", 2, audit.KindWriterStarted, at, "previous_writer", "w") // too late: it is not the first
	claim("x", 3, "1", "9")
	claim("w", 6, "4", "4")
	const gaps = `SELECT first_sequence || '-' || last_sequence || ' ' || coalesce(explained_by, 'not explained') || ', ' || reason || ', ' || reported_by FROM audit.gaps ORDER BY first_sequence`
	const between = `SELECT first_sequence || '-' || last_sequence || ' ' || coalesce(explained_by, 'not explained') FROM audit.absent_between('2026-11-01', '2026-12-01') ORDER BY first_sequence`
	auditor := audittest.Connect(t, db.URL(database.Auditor))
	if got, want := audittest.QueryStrings(t, auditor, gaps), []string{"2-2 not explained, x says so, x", "4-4 events_lost, w says so, w", "7-9 not explained, x says so, x"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := audittest.QueryStrings(t, auditor, between), []string{"2-2 not explained", "4-4 events_lost", "7-9 not explained"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}

	// Without the condition, every login that may write explains what is missing.
	const condition = "((e.kind = 'gap_declared'::text) OR (e.writer ="
	view := audittest.QueryValue[string](t, conn, `SELECT pg_get_viewdef('audit.explanations'::regclass)`)
	if !strings.Contains(view, condition) {
		t.Fatalf("the condition is not there: %s", view)
	}
	if _, err := conn.Exec(t.Context(), "CREATE OR REPLACE VIEW audit.explanations AS "+strings.Replace(view, condition, "(true OR"+strings.TrimPrefix(condition, "((e.kind = 'gap_declared'::text) OR"), 1)); err != nil {
		t.Fatal(err)
	}
	if got, want := audittest.QueryStrings(t, auditor, between), []string{"2-2 events_lost", "4-4 events_lost", "7-9 events_lost"}; !slices.Equal(got, want) {
		t.Errorf("something else prevents it: %q, want %q", got, want)
	}
}

// TestReportsAreReadOnce: a login that records adds any number of gaps of its own and
// of reports. What explains gaps is read once and not for each gap; of many reports
// about one writer those that explain its gaps are not displaced by claims.
func TestReportsAreReadOnce(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	conn := audittest.Connect(t, db.URL(""))
	at := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	const gaps, claims = 200, 1200
	audittest.MustExec(t, conn, `INSERT INTO audit.events (time, writer, writer_sequence, kind, record)
		SELECT $1::timestamptz + n * interval '1 s', 'w', 2 * n, 'name_reassigned', convert_to('{"attributes":{}}', 'UTF8') FROM generate_series(1, $2) n`, at, gaps)
	audittest.MustExec(t, conn, `INSERT INTO audit.events (time, writer, writer_sequence, kind, record)
		SELECT $1::timestamptz, 'stranger', n, 'events_lost', convert_to('{"attributes":{"writer":"w","first":"1","last":"100000","reason":"a claim"}}', 'UTF8') FROM generate_series(1, $2) n`, at, claims)
	explainGap(t, conn, "w", 2*gaps+2, audit.KindEventsLost, at.Add(time.Hour), "writer", "w", "first", "1", "last", "1", "reason", "the writer itself")
	for _, sql := range []string{
		`SELECT first_sequence || ' ' || coalesce(explained_by, 'not explained') FROM audit.gaps WHERE last_sequence < 5 ORDER BY first_sequence`,
		`SELECT first_sequence || ' ' || coalesce(explained_by, 'not explained') FROM audit.absent_between('2026-11-01', '2026-12-01') WHERE last_sequence < 5 ORDER BY first_sequence`,
	} {
		if got := audittest.QueryStrings(t, conn, sql); !slices.Equal(got, []string{"1 events_lost", "3 not explained"}) {
			t.Errorf("%s: %q", sql, got)
		}
		if n := readingsOf(t, conn, sql, "_kind_time_idx"); n == 0 || n > 7*claims {
			t.Errorf("%s: the index of events by kind is read %d times for %d gaps and %d reports", sql, n, gaps, claims)
		}
	}
	// The control removed: the reports are looked up for each gap.
	lookup := `SELECT (SELECT e.explains FROM audit.explanations e WHERE e.about = g.writer AND e.first_sequence <= g.n AND e.last_sequence >= g.n ORDER BY e.explains DESC, e.time LIMIT 1)
		FROM (SELECT writer, writer_sequence - 1 AS n FROM audit.events WHERE writer = 'w' ORDER BY writer_sequence LIMIT 20) g`
	if n := readingsOf(t, conn, lookup, "_kind_time_idx"); n < 10*claims {
		t.Errorf("the index is read %d times for 20 gaps", n)
	}
}

// readingsOf is how often a statement reads indexes whose names end so.
func readingsOf(t testing.TB, conn *pgx.Conn, sql, index string) (loops int) {
	t.Helper()
	var plans []struct{ Plan plan }
	raw := audittest.QueryValue[[]byte](t, conn, `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) `+sql)
	if err := json.Unmarshal(raw, &plans); err != nil {
		t.Fatal(err)
	}
	for _, p := range plans {
		loops += p.Plan.readings(index)
	}
	return loops
}

type plan struct {
	Index string `json:"Index Name"`
	Loops int    `json:"Actual Loops"`
	Plans []plan
}

func (p plan) readings(index string) (loops int) {
	if strings.HasSuffix(p.Index, index) {
		loops = p.Loops
	}
	for _, child := range p.Plans {
		loops += child.readings(index)
	}
	return loops
}
