package docs_test

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/migrations"
)

var (
	monthOfDecisions = flag.Int("month", 0, "time every question on a month of so many decisions, in TestQuestionTimes")
	otherMonths      = flag.Int("other-months", 0, "decisions in each of the six months before it, in TestQuestionTimes; by default a sixth of -month")
)

// growLog copies the decisions of the seeded log and their ends, until October has the
// given number of decisions, and each of the months before it has the given number.
// Only columns differ: it is for plans, and proves nothing.
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
			c = "row_number() OVER (ORDER BY g, m.kind)"
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
		SELECT (SELECT max(index) FROM audit.leaves) + row_number() OVER (ORDER BY e.time, e.writer, e.writer_sequence), e.writer_sequence, e.writer, sha256('\x00' || audit.record(e))
		FROM audit.events e WHERE NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`)
	if _, err := conn.Exec(t.Context(), `VACUUM ANALYZE`); err != nil {
		t.Fatal(err)
	}
}

// scan is a node of a plan that reads a table, with what it read, and how many times.
type scan struct {
	node, table string
	rows, times float64
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
			scans = append(scans, scan{p.Node, p.Table, read, p.Loops})
		}
		for _, c := range p.Plans {
			walk(c)
		}
	}
	walk(list[0].Plan)
	return scans
}

// foreign returns what a question about October has read of other months. A day
// before it belongs to it, for ends, and so does one row for each destination or rule.
func foreign(scans []scan) (found []scan) {
	for _, s := range scans {
		switch {
		case s.table == "events_2026_10", s.table == "events_2026_11":
		case s.table == "leaves" && s.node == "Seq Scan",
			strings.HasPrefix(s.table, "events_") && (s.rows > 120 && s.rows > 2*s.times || s.times > 1000):
			found = append(found, s)
		}
	}
	return found
}

const egress = `SELECT count(*), sum(bytes_sent) FROM audit.deployment_egress_between('2026-10-01Z', '2026-11-01Z')`

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
	all := questions(t, string(page))
	if len(all) < 25 {
		t.Errorf("%d questions were asked", len(all))
	}
	for _, q := range append(all, auditQuestion{sql: egress}) {
		if found := foreign(scansOf(t, conn, q.sql)); len(found) > 0 {
			t.Errorf("%s\nreads other months: %v", q.sql, found)
		}
	}
	const repository = `SELECT count(*), sum(bytes_sent) FROM audit.deployment_egress WHERE repository_uuid = '11111111-0000-4000-8000-000000000009'`
	if found := foreign(scansOf(t, conn, repository)); len(found) > 0 {
		t.Errorf("%s\nreads other repositories: %v", repository, found)
	}
}

// TestPeriodIsNeeded asks what the functions of a period answer without their bounds:
// each of these reads other months, and the test of the questions finds it.
func TestPeriodIsNeeded(t *testing.T) {
	t.Parallel()
	db := seedMonth(t)
	conn := ownerOf(t, db)
	growLog(t, conn, 1500, 1500)
	for _, sql := range []string{
		`SELECT d.host, sum(c.bytes_sent) FROM audit.events d
			LEFT JOIN audit.events c ON c.decision_id = d.decision_id AND c.kind IN ('tunnel_closed', 'request_closed')
			WHERE d.kind = 'decision' AND d.time >= '2026-10-01Z' AND d.time < '2026-11-01Z' GROUP BY d.host`,
		`SELECT host, port, min(time) FROM audit.decisions WHERE verdict = 'allow' AND time < '2026-11-01Z'
			GROUP BY repository_uuid, host, port HAVING min(time) >= '2026-10-01Z'`,
		`SELECT rule, max(time) FROM audit.decisions WHERE verdict = 'allow' AND time < '2026-11-01Z' GROUP BY rule HAVING max(time) < '2026-08-01Z'`,
		`SELECT sum(missing) FROM audit.writers`,
	} {
		if found := foreign(scansOf(t, conn, sql)); len(found) == 0 {
			t.Errorf("%s\nreads no other month", sql)
		}
	}
	// The same by the function, whose ends have no bound.
	file, err := migrations.Files.ReadFile("00010_periods.sql")
	if err != nil {
		t.Fatal(err)
	}
	_, function, _ := strings.Cut(string(file), "CREATE FUNCTION audit.all_decisions_between")
	function, _, _ = strings.Cut(function, "-- +goose StatementEnd")
	const bound = "AND e.time > all_decisions_between.since - interval '1 day' AND e.time < all_decisions_between.until + interval '8 days'"
	if strings.Count(function, bound) != 1 {
		t.Fatal("the function has another bound")
	}
	if _, err := conn.Exec(t.Context(), "CREATE OR REPLACE FUNCTION audit.all_decisions_between"+strings.Replace(function, bound, "", 1)); err != nil {
		t.Fatal(err)
	}
	if found := foreign(scansOf(t, conn, egress)); len(found) == 0 {
		t.Error("without a bound of the ends no other month is read")
	}
}

// TestEndsFollowWithinMaxOpen: the configuration lets no tunnel live for longer than
// what the view, the function and the commands look its end up in, with a day to spare.
func TestEndsFollowWithinMaxOpen(t *testing.T) {
	t.Parallel()
	conn := ownerOf(t, seedMonth(t))
	var view, function string
	if err := conn.QueryRow(t.Context(), `SELECT pg_get_viewdef('audit.all_decisions'::regclass), pg_get_functiondef('audit.all_decisions_between'::regproc)`).Scan(&view, &function); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("'%d days'::interval", audit.MaxOpen/(24*time.Hour))
	for what, text := range map[string]string{"audit.all_decisions": view, "audit.all_decisions_between": function} {
		if strings.Count(text, want) != 1 || strings.Count(text, "days'::interval") != 1 {
			t.Errorf("%s has another bound than %s:\n%s", what, want, text)
		}
	}
	allows := func(lifetime time.Duration) bool {
		text := fmt.Sprintf("egress:\n  tunnel:\n    max_lifetime: %s\n", lifetime)
		_, err := config.Parse("sallyport.yaml", []byte(text)) // other keys are missing
		return err != nil && !strings.Contains(err.Error(), "max_lifetime")
	}
	most := audit.MaxOpen - 24*time.Hour
	if !allows(most) || allows(most+time.Second) {
		t.Errorf("egress.tunnel.max_lifetime has another maximum than %s", most)
	}
}

// TestCommandsReadTheirMonth: audit stats and audit query with each filter read the
// events of their period, and a few days of decisions before it. What they read is
// counted by the database, for tables and indexes.
func TestCommandsReadTheirMonth(t *testing.T) {
	t.Parallel()
	db := seedMonth(t)
	conn := ownerOf(t, db)
	growLog(t, conn, 1500, 1500)
	since, until := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	const most = 700 // of 2,350 events of a month: nine days
	if n := readOfOthers(t, conn, db, func(a *auditreader.Querier) error { _, err := a.Totals(t.Context(), since, until, 20); return err }); n > most {
		t.Errorf("audit stats reads %d rows of another month, or of the leaves", n)
	}
	ask := func(q auditreader.Filter) int64 {
		return readOfOthers(t, conn, db, func(a *auditreader.Querier) error {
			_, err := a.Query(t.Context(), &q, func(auditreader.Row) error { return nil })
			return err
		})
	}
	wouldDeny := true
	for what, q := range map[string]auditreader.Filter{
		"kind": {Kinds: []string{"decision"}}, "verdict": {Verdicts: []string{"deny"}}, "mode": {Modes: []string{"report"}}, "reason": {Reasons: []string{"none"}},
		"rule": {Rules: []string{"none"}}, "would deny": {WouldDeny: &wouldDeny}, "workspace": {Workspaces: []string{"none"}}, "repository": {Repositories: []string{"none"}},
		"repository UUID": {Repositories: []string{"11111111-0000-4000-8000-000000000001"}}, "deployment": {Deployments: []string{"none"}}, "host": {Hosts: []string{"none.example"}},
		"host pattern": {Hosts: []string{"*.none.example"}}, "port": {Ports: []int32{1}}, "client": {Clients: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		"revision": {Revisions: []string{"none"}}, "step": {Steps: []string{"33333333-0000-4000-9000-ffffffffffff"}}, "pipeline": {Pipelines: []string{"33333333-0000-4000-9000-ffffffffffff"}},
		"build": {Builds: []int64{1}}, "decision": {Decisions: []string{"019a0000-0000-7000-8000-000000000003"}}, "writer": {Writers: []string{"none"}},
		"receiver": {Receivers: []string{"none"}}, "event key": {EventKeys: []string{"repo:push"}}, "endpoint": {Endpoints: []string{"none"}}, "delivery": {Deliveries: []string{"019a0000-0000-7000-8000-000000000003"}},
		"no self-tests": {ExcludeSelfTests: true}, "nothing": {},
	} {
		q.Since, q.Until, q.Limit = since, until, 100
		if n := ask(q); n > most {
			t.Errorf("audit query by %s reads %d rows of another month, or of the leaves", what, n)
		}
	}
	if n := ask(auditreader.Filter{Hosts: []string{"*.none.example"}}); n <= most {
		t.Errorf("a query without a period has read %d rows of another month: what the commands read is not found", n)
	}
}

// readOfOthers returns how many rows a session of the auditor has read of the month
// that it has read most of, of those before October, or of the leaves by a scan.
func readOfOthers(t *testing.T, conn *pgx.Conn, db *pgtest.DB, use func(*auditreader.Querier) error) (most int64) {
	t.Helper()
	count := func() map[string]int64 {
		rows, err := conn.Query(t.Context(), `SELECT s.relname::text, CASE WHEN s.relname = 'leaves' THEN s.seq_tup_read ELSE
				s.seq_tup_read + coalesce((SELECT sum(i.idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = s.relid), 0) END::bigint
			FROM pg_stat_user_tables s WHERE s.schemaname = 'audit' AND (s.relname = 'leaves' OR s.relname ~ '^events_2026_0')`)
		if err != nil {
			t.Fatal(err)
		}
		counts := map[string]int64{}
		var table string
		var n int64
		if _, err := pgx.ForEachRow(rows, []any{&table, &n}, func() error { counts[table] = n; return nil }); err != nil {
			t.Fatal(err)
		}
		return counts
	}
	// What this session has read itself is reported with its next statement.
	if _, err := conn.Exec(t.Context(), "SELECT pg_stat_force_next_flush()"); err != nil {
		t.Fatal(err)
	}
	before := count()
	querier, err := auditreader.OpenQuerier(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	err = use(querier)
	querier.Close()
	if err != nil {
		t.Fatal(err)
	}
	for gone := false; !gone; { // a session reports what it has read when it ends
		if err := conn.QueryRow(t.Context(), `SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND usename = $1)`, database.Auditor).Scan(&gone); err != nil {
			t.Fatal(err)
		}
	}
	for table, n := range count() {
		most = max(most, n-before[table])
	}
	return most
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

// TestQuestionTimes times every question: go test ./docs
// -run '^TestQuestionTimes$' -month 600000 -other-months 740000 -v -timeout 2h.
func TestQuestionTimes(t *testing.T) {
	if *monthOfDecisions == 0 {
		t.Skip("-month says how many decisions")
	}
	db := seedMonth(t)
	conn := ownerOf(t, db)
	begun := time.Now()
	growLog(t, conn, cmp.Or(*otherMonths, *monthOfDecisions/6), *monthOfDecisions)
	var events int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM audit.events`).Scan(&events); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %d events in %s", events, time.Since(begun).Round(time.Second))
	page, err := os.ReadFile("audit-questions.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SET jit = off; SET work_mem = '64MB'; SET random_page_cost = 1.1"); err != nil { // as a migration sets it; a clone has not its template's settings
		t.Fatal(err)
	}
	for _, q := range append(questions(t, string(page)), auditQuestion{sql: egress}) {
		best := time.Hour
		for range 2 {
			begun := time.Now()
			if _, err := conn.PgConn().Exec(t.Context(), q.sql).ReadAll(); err != nil {
				t.Fatalf("%s: %v", q.sql, err)
			}
			best = min(best, time.Since(begun))
		}
		t.Logf("%8.3f s  %.110s", best.Seconds(), strings.Join(strings.Fields(q.sql), " "))
	}
	since, until := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	querier, err := auditreader.OpenQuerier(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer querier.Close()
	timed := func(what string, f func() error) {
		begun := time.Now()
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%8.3f s  %s", time.Since(begun).Seconds(), what)
	}
	timed("audit stats", func() error { _, err := querier.Totals(t.Context(), since, until, 20); return err })
	for what, q := range map[string]auditreader.Filter{
		"audit query --repository":        {Repositories: []string{"11111111-0000-4000-8000-000000000001"}},
		"audit query --verdict deny":      {Verdicts: []string{"deny"}},
		"audit query --host of one":       {Hosts: []string{"host-7.partner.example"}},
		"audit query --host of none":      {Hosts: []string{"nobody.example"}},
		"audit query --step of none":      {Steps: []string{"33333333-0000-4000-9000-ffffffffffff"}},
		"audit query --reason of none":    {Reasons: []string{"none"}},
		"audit query --rule of none":      {Rules: []string{"none"}},
		"audit query --revision of none":  {Revisions: []string{"none"}},
		"audit query --mode of none":      {Modes: []string{"none"}},
		"audit query --workspace of none": {Workspaces: []string{"none"}},
		"audit query --pipeline of none":  {Pipelines: []string{"33333333-0000-4000-9000-ffffffffffff"}},
		"audit query --decision":          {Decisions: []string{"019a0000-0000-7000-8000-000000000003"}},
	} {
		q.Since, q.Until, q.Limit = since, until, 100
		timed(what+", 100 rows at most", func() error {
			_, err := querier.Query(t.Context(), &q, func(auditreader.Row) error { return nil })
			return err
		})
	}
}
