package docs_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/internal/database"
)

const questionsPage = "audit-questions.md"

var answerAnew = flag.Bool("answers", false, "write the answers into audit-questions.md; read them before you commit them")

// auditQuestion is a block of SQL and the answer that the page gives under it.
type auditQuestion struct {
	sql, answer string
	at, end     int // where the answer is, or goes
}

var questionBlock = regexp.MustCompile("(?s)```sql\n(.*?)```\n(?:\n```text\n(.*?)```\n)?")

func questions(t *testing.T, text string) []auditQuestion {
	t.Helper()
	var all []auditQuestion
	for _, m := range questionBlock.FindAllStringSubmatchIndex(text, -1) {
		q := auditQuestion{sql: text[m[2]:m[3]], at: m[3] + len("```\n"), end: m[1]}
		if m[4] >= 0 {
			q.answer = text[m[4]:m[5]]
		}
		all = append(all, q)
	}
	return all
}

// answer runs a statement and writes its rows as the page has them.
func answer(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range results {
		for i, f := range r.FieldDescriptions {
			if i > 0 {
				b.WriteString(" | ")
			}
			b.WriteString(f.Name)
		}
		b.WriteByte('\n')
		for _, row := range r.Rows {
			cells := make([]string, len(row))
			for i, value := range row {
				cells[i] = string(value)
			}
			b.WriteString(strings.TrimRight(strings.Join(cells, " | "), " ") + "\n")
		}
	}
	return b.String(), nil
}

// TestAuditQuestions asks every question of the page as an auditor, of a log that
// the real writer has written, and compares the answer. Then it takes each
// condition out of each question in turn: a question that answers the same without
// one asks for nothing by it.
func TestAuditQuestions(t *testing.T) {
	db := seedMonth(t)
	conn, err := pgx.Connect(t.Context(), db.URL(database.Auditor))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), "SET timezone = 'America/New_York'"); err != nil { // a session need not be in UTC
		t.Fatal(err)
	}
	text := read(t, questionsPage)
	all := questions(t, text)
	if len(all) < 20 || strings.Count(text, "\n### ") != len(all) {
		t.Fatalf("the page was read as %d questions under %d headings", len(all), strings.Count(text, "\n### "))
	}
	mutants := 0
	var page strings.Builder
	last := 0
	for _, q := range all {
		got, err := answer(t.Context(), conn.PgConn(), q.sql)
		if err != nil {
			t.Errorf("%v\n%s", err, q.sql)
			continue
		}
		page.WriteString(text[last:q.at] + "\n```text\n" + got + "```\n")
		last = q.end
		if *answerAnew {
			continue
		}
		if got != q.answer {
			t.Errorf("%sthe answer is\n%s\nand the page says\n%s", q.sql, got, q.answer)
		}
		if strings.Count(got, "\n") < 2 {
			t.Errorf("%snobody can tell this answer from that of a wrong question: it is empty", q.sql)
		}
		for _, mutant := range mutate(q.sql) {
			mutants++
			if wrong, err := answer(t.Context(), conn.PgConn(), mutant); err == nil && wrong == got {
				t.Errorf("%shas the same answer: the condition that is not there asks for nothing that the log of the test has", mutant)
			}
		}
	}
	if *answerAnew {
		if err := os.WriteFile(questionsPage, []byte(page.String()+text[last:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if mutants < 50 {
		t.Errorf("only %d conditions were taken out", mutants)
	}
}

// TestSelfTestExclusionIsNeeded takes the condition out of the views, as their owner, and
// sees the probes in the answers about clients.
func TestSelfTestExclusionIsNeeded(t *testing.T) {
	db := seedMonth(t)
	admin, err := pgx.Connect(t.Context(), db.URL(""))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.Background())
	count := func() (answers []string) {
		for _, sql := range []string{
			questions(t, read(t, questionsPage))[0].sql,
			"SELECT count(*) FROM audit.decisions WHERE credential_kind = 'self_test'",
			"SELECT count(*) FROM audit.denials WHERE credential_kind = 'self_test'",
		} {
			got, err := answer(t.Context(), admin.PgConn(), sql)
			if err != nil {
				t.Fatal(err)
			}
			answers = append(answers, got)
		}
		return answers
	}
	without := count()
	for _, got := range without[1:] {
		if got != "count\n0\n" {
			t.Errorf("a view about clients has probes: %s", got)
		}
	}
	for _, view := range []string{"decisions", "denials"} {
		var definition string
		if err := admin.QueryRow(t.Context(), "SELECT pg_get_viewdef(('audit.' || $1)::regclass)", view).Scan(&definition); err != nil {
			t.Fatal(err)
		}
		open := strings.Replace(definition, "IS DISTINCT FROM 'self_test'", "IS DISTINCT FROM 'nothing'", 1)
		if open == definition {
			t.Fatalf("audit.%s has no condition on probes:\n%s", view, definition)
		}
		if _, err := admin.Exec(t.Context(), "CREATE OR REPLACE VIEW audit."+view+" AS "+open); err != nil {
			t.Fatal(err)
		}
	}
	with := count()
	for i := range with {
		if with[i] == without[i] {
			t.Errorf("without the condition the answer is the same: %s", with[i])
		}
	}
}

// mutate returns a statement without one of its conditions, for each of them.
func mutate(sql string) []string {
	var all []string
	lines := strings.SplitAfter(sql, "\n")
	for i, line := range lines {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "AND" && words[0] != "WHERE" && words[0] != "HAVING" {
			continue
		}
		without := ""
		if words[0] != "AND" {
			without = words[0] + " true\n"
		}
		if strings.HasSuffix(strings.TrimSpace(line), ";") {
			without += ";"
		}
		all = append(all, strings.Join(lines[:i], "")+without+strings.Join(lines[i+1:], ""))
	}
	return all
}

// TestSeedIsCounted computes the answers about the population and the bytes from
// the text of the seed, and not from what the log makes of it.
func TestSeedIsCounted(t *testing.T) {
	outcomes, sent := map[string]int{}, map[string]int{}
	for line := range strings.Lines(strings.TrimSpace(october)) {
		f := strings.Fields(line)
		if !strings.HasPrefix(f[0], "10-") {
			continue
		}
		key := "allow | policy_allowed | f"
		switch f[4] {
		case "deny":
			key = "deny | " + f[5] + " | f"
		case "report":
			key = "allow | " + f[5] + " | t"
		}
		outcomes[key]++
		if n, err := strconv.Atoi(f[len(f)-2]); err == nil {
			host, _, _ := strings.Cut(f[3], ":")
			sent[host] += n
		}
	}
	all := questions(t, read(t, questionsPage))
	for key, n := range outcomes {
		if row := fmt.Sprintf("\n%s | %d\n", key, n); !strings.Contains(all[0].answer, row) {
			t.Errorf("the seed has %s, and the page says\n%s", row, all[0].answer)
		}
	}
	if rows := strings.Count(all[0].answer, "\n") - 1; rows != len(outcomes) || rows < 5 {
		t.Errorf("%d outcomes, and %d rows", len(outcomes), rows)
	}
	for host, n := range sent {
		if row := fmt.Sprintf("\n%s | %d | ", host, n); !strings.Contains(all[8].answer, row) {
			t.Errorf("the seed has%s, and the page says\n%s", row, all[8].answer)
		}
	}
}
