package docs_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	auditlog "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/postgres"
)

var monthOfDecisions = flag.Int("month", 0, "time every question on a month of so many decisions, in TestQuestionTimes")

// growLog copies the decisions of the seeded log and their ends until each of the
// months before October has so many decisions, and October as many as it says. Only
// columns differ: it is for plans, and proves nothing.
func growLog(t testing.TB, conn *pgx.Conn, each, october int) {
	t.Helper()
	run := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	var columns []string
	rows, err := conn.Query(t.Context(), `SELECT attname::text FROM pg_attribute WHERE attrelid = 'audit.events'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`)
	if err == nil {
		columns, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, c := range columns {
		switch c {
		case "time":
			c = "$1::timestamptz + g * ($2::timestamptz - $1) / $3 + CASE WHEN m.kind = 'decision' THEN interval '0' ELSE interval '1 minute' END"
		case "decision_id":
			c = "(lpad(to_hex((extract(epoch FROM $1::timestamptz + g * ($2::timestamptz - $1) / $3) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(g), 12, '0'))::uuid"
		case "writer":
			c = "'01900000-0000-7000-8000-' || to_char($1::timestamptz, 'YYYYMM') || '000000'"
		case "writer_sequence":
			c = "2 * g + CASE WHEN m.kind = 'decision' THEN 1 ELSE 2 END"
		case "step_uuid":
			c = "('33333333-0000-4000-9000-' || lpad(to_hex(g / 12), 12, '0'))::uuid"
		case "host":
			c = "CASE WHEN m.host IS NULL THEN NULL WHEN g % 4 = 0 THEN m.host ELSE 'host-' || g % 300 || '.partner.example' END"
		default:
			c = "m." + c
		}
		values = append(values, c)
	}
	run(`CREATE TEMP TABLE models AS SELECT d.n, e.* FROM (
		SELECT row_number() OVER (ORDER BY time, decision_id) - 1 AS n, decision_id FROM audit.events WHERE kind = 'decision' AND time < '2026-11-01Z') d
		JOIN audit.events e ON e.decision_id = d.decision_id`)
	grow := `INSERT INTO audit.events (` + strings.Join(columns, ", ") + `) SELECT ` + strings.Join(values, ", ") + `
		FROM generate_series(0, $3::integer - 1) g JOIN models m ON m.n = g % (SELECT max(n) + 1 FROM models)`
	for month := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC); month.Month() <= time.October; month = month.AddDate(0, 1, 0) {
		n := each
		if month.Month() == time.October {
			n = october
		}
		run(`SELECT audit.ensure_partition($1::date), audit.ensure_partition(($1::date + interval '1 month')::date)`, month)
		run(grow, month, month.AddDate(0, 1, 0), n)
	}
	run(`INSERT INTO audit.leaves (index, writer_sequence, writer, hash)
		SELECT (SELECT max(index) FROM audit.leaves) + row_number() OVER (ORDER BY e.time, e.writer, e.writer_sequence), e.writer_sequence, e.writer, sha256('\x00' || e.record)
		FROM audit.events e WHERE NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`)
	if _, err := conn.Exec(t.Context(), `VACUUM ANALYZE`); err != nil {
		t.Fatal(err)
	}
}

// scan is a node of a plan that reads a table, with what it read.
type scan struct {
	node, table string
	rows        float64
}

// scansOf runs a statement and returns what its plan has read.
func scansOf(t testing.TB, conn *pgx.Conn, sql string) []scan {
	t.Helper()
	var raw []byte
	if err := conn.QueryRow(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+strings.TrimRight(strings.TrimSpace(sql), ";")).Scan(&raw); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	type plan struct {
		Node    string  `json:"Node Type"`
		Table   string  `json:"Relation Name"`
		Rows    float64 `json:"Actual Rows"`
		Loops   float64 `json:"Actual Loops"`
		Removed float64 `json:"Rows Removed by Filter"`
		Recheck float64 `json:"Rows Removed by Index Recheck"`
		Plans   []json.RawMessage
	}
	var list []struct{ Plan json.RawMessage }
	if err := json.Unmarshal(raw, &list); err != nil {
		t.Fatal(err)
	}
	var scans []scan
	var walk func(json.RawMessage)
	walk = func(raw json.RawMessage) {
		var p plan
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		if read := (p.Rows + p.Removed + p.Recheck) * p.Loops; p.Table != "" && p.Loops > 0 {
			scans = append(scans, scan{p.Node, p.Table, read})
		}
		for _, c := range p.Plans {
			walk(c)
		}
	}
	walk(list[0].Plan)
	return scans
}

// historical are questions about more than their month, by what they compare it
// with or count.
var historical = map[string]string{
	"FROM audit.writers": "every number that a writer ever gave is counted",
	"GROUP BY rule\n":    "when a rule was last used is not known from one month",
	"HAVING min(time)":   "what is new is what no month before had",
}

// foreign returns what a question about October has read of other months.
func foreign(scans []scan) (found []scan) {
	for _, s := range scans {
		switch {
		case s.table == "events_2026_10", s.table == "events_2026_11":
		case s.table == "leaves" && s.node == "Seq Scan", strings.HasPrefix(s.table, "events_") && s.rows > 60:
			found = append(found, s)
		}
	}
	return found
}

// TestQuestionsReadTheirMonth: the plan of each question about October reads nothing
// of the months before, so that its time does not grow with the log.
func TestQuestionsReadTheirMonth(t *testing.T) {
	t.Parallel()
	db := seedMonth(t)
	conn := ownerOf(t, db)
	growLog(t, conn, 1500, 1500)
	page, err := os.ReadFile("audit-questions.md")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, q := range questions(t, string(page)) {
		if why := exempt(q.sql); why != "" {
			continue
		}
		asked++
		if found := foreign(scansOf(t, conn, q.sql)); len(found) > 0 {
			t.Errorf("%s\nreads other months: %v", q.sql, found)
		}
	}
	if asked < 15 {
		t.Errorf("%d questions were asked", asked)
	}
	const egress = `SELECT count(*), sum(bytes_sent) FROM audit.deployment_egress WHERE repository_uuid = '11111111-0000-4000-8000-000000000009'`
	if found := foreign(scansOf(t, conn, egress)); len(found) > 0 {
		t.Errorf("%s\nreads other repositories: %v", egress, found)
	}
}

// TestBoundOfEndsIsNeeded: joined with every end that has its id, a decision of
// October is looked for in the ends of all months.
func TestBoundOfEndsIsNeeded(t *testing.T) {
	t.Parallel()
	db := seedMonth(t)
	conn := ownerOf(t, db)
	growLog(t, conn, 1500, 1500)
	const unbounded = `SELECT d.host, sum(c.bytes_sent) FROM audit.events d
		LEFT JOIN audit.events c ON c.decision_id = d.decision_id AND c.kind IN ('tunnel_closed', 'request_closed')
		WHERE d.kind = 'decision' AND d.time >= '2026-10-01Z' AND d.time < '2026-11-01Z' GROUP BY d.host`
	if found := foreign(scansOf(t, conn, unbounded)); len(found) == 0 {
		t.Error("without a bound no other month is read: the test of the questions finds nothing")
	}
}

func exempt(sql string) string {
	for part, why := range historical {
		if strings.Contains(sql, part) {
			return why
		}
	}
	return ""
}

func ownerOf(t testing.TB, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestQuestionTimes times every question: go test -run '^TestQuestionTimes$'
// -month 600000 -v -timeout 2h ./docs.
func TestQuestionTimes(t *testing.T) {
	if *monthOfDecisions == 0 {
		t.Skip("-month says how many decisions")
	}
	db := seedMonth(t)
	conn := ownerOf(t, db)
	begun := time.Now()
	growLog(t, conn, *monthOfDecisions/6, *monthOfDecisions)
	t.Logf("made in %s", time.Since(begun).Round(time.Second))
	page, err := os.ReadFile("audit-questions.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SET jit = off"); err != nil { // as a migration sets it; a clone has not its template's settings
		t.Fatal(err)
	}
	for _, q := range append(questions(t, string(page)), auditQuestion{sql: `SELECT * FROM audit.deployment_egress WHERE repository_uuid = '11111111-0000-4000-8000-000000000001'`}) {
		best := time.Hour
		for range 2 {
			begun := time.Now()
			if _, err := conn.PgConn().Exec(t.Context(), q.sql).ReadAll(); err != nil {
				t.Fatalf("%s: %v", q.sql, err)
			}
			best = min(best, time.Since(begun))
		}
		t.Log(fmt.Sprintf("%8.3f s  %.110s", best.Seconds(), strings.Join(strings.Fields(q.sql), " ")))
	}
	since, until := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	asker, err := auditlog.OpenAsker(t.Context(), db.URL(postgres.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	timed := func(what string, f func() error) {
		begun := time.Now()
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%8.3f s  %s", time.Since(begun).Seconds(), what)
	}
	timed("audit stats", func() error { _, err := asker.Totals(t.Context(), since, until, 20); return err })
	for what, q := range map[string]auditlog.Question{
		"audit query --repository":   {Repositories: []string{"11111111-0000-4000-8000-000000000001"}},
		"audit query --verdict deny": {Verdicts: []string{"deny"}},
		"audit query --host of one":  {Hosts: []string{"host-7.partner.example"}},
		"audit query --host of none": {Hosts: []string{"nobody.example"}},
		"audit query --step of none": {Steps: []string{"33333333-0000-4000-9000-ffffffffffff"}},
		"audit query --decision":     {Decisions: []string{"019a0000-0000-7000-8000-000000000003"}},
	} {
		q.Since, q.Until, q.Limit = since, until, 100
		timed(what+", 100 rows at most", func() error {
			_, err := asker.Ask(t.Context(), &q, func(auditlog.Row) error { return nil })
			return err
		})
	}
}
