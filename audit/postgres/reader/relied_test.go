package reader

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditsealer "github.com/sallyport/sallyport/audit/postgres/sealer"
	"github.com/sallyport/sallyport/internal/database"
)

// TestReliedTables changes each table beside the events that evidence relies on, as the
// owner, and requires the change to be found. Without a change nothing is found.
func TestReliedTables(t *testing.T) {
	t.Parallel()
	db, young, now := audittest.Migrated(t), audittest.FirstOfMonth(time.Now().AddDate(0, -6, 0)), time.Now
	admin := audittest.Connect(t, db.URL(""))
	audittest.Backdate(t, admin)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, func(c *auditsealer.Config) {
		c.Signer, c.Now = audittest.NewKey(t, ""), func() time.Time { return now() }
	})
	now = func() time.Time { return audittest.OldMonth().AddDate(0, 1, 0) }
	audittest.SealMonth(t, l, s, audittest.OldMonth(), 30)
	now = time.Now
	audittest.Record(t, l, audittest.Decision("deny", 1))
	if err := l.PutPolicy(t.Context(), audittest.DigestOf("content"), []byte("content")); err != nil {
		t.Fatal(err)
	}
	const reconciliation, other = "01a1fdf4-2222-7000-8000-000000000001", "01a1fdf4-2222-7000-8000-000000000002"
	writer := audittest.Connect(t, db.URL(database.Writer))
	const look = `INSERT INTO audit.reconciliation_scans VALUES ($1, $1, gen_random_uuid(), now(), now(), 1, 1, true, true, 'acme/payments', 'complete', '')`
	const finding = `INSERT INTO audit.deployment_findings (deployment_run_uuid, repository_uuid, workspace_uuid, reconciliation, found_at, state, class, detail)
		VALUES (gen_random_uuid(), $1, $1, $1, now(), 'successful', 'unobserved', '')`
	for _, sql := range []string{look, look, finding} {
		if _, err := writer.Exec(t.Context(), sql, reconciliation); err != nil {
			t.Fatal(err)
		}
	}
	audittest.Record(t, l, &audit.Event{Kind: audit.KindReconciled, Time: young, Attributes: []audit.Attribute{{Name: "reconciliation", Value: reconciliation},
		{Name: "digest", Value: audittest.QueryValue[string](t, admin, `SELECT encode(audit.reconciliation_digest($1), 'hex')`, reconciliation)}}})
	if n := audittest.QueryValue[int64](t, admin, `SELECT audit.expire($1)`, audittest.OldMonth()); n == 0 {
		t.Fatal("nothing was expired")
	}
	audittest.Seal(t, s)

	// A login that may record reports another digest of the reconciliation, or one that
	// fits rows that it added.
	forge := func(digest string) string {
		return `INSERT INTO audit.events (time, kind, writer, writer_sequence, record) SELECT t, 'reconciled', 'forger', 1, convert_to(format(
			'{"version":1,"time":"%s","kind":"reconciled","writer":"forger","writer_sequence":1,"attributes":{"reconciliation":"` + reconciliation + `","digest":"%s"}}',
			to_char(t AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), ` + digest + `), 'UTF8') FROM now() t; `
	}
	const present = `encode(audit.reconciliation_digest('` + reconciliation + `'), 'hex')`
	const unguarded = `ALTER TABLE audit.policies DISABLE TRIGGER ALL; ALTER TABLE audit.policies DROP CONSTRAINT IF EXISTS policies_digest; ALTER TABLE audit.expired DISABLE TRIGGER ALL;
		ALTER TABLE audit.deployment_findings DISABLE TRIGGER ALL; ALTER TABLE audit.reconciliation_scans DISABLE TRIGGER ALL; `
	for _, tt := range []struct {
		name, sql string
		want      audit.Damage
		warning   string
	}{
		{"nothing", "", "", ""},
		{"the content of a policy", `UPDATE audit.policies SET content = 'x'`, audit.DamagePolicy, ""},
		{"a policy is gone", `DELETE FROM audit.policies`, audit.DamagePolicy, ""},
		{"a finding is another", `UPDATE audit.deployment_findings SET class = 'observed'`, audit.DamageReconciliation, ""},
		{"a finding is gone", `DELETE FROM audit.deployment_findings`, audit.DamageReconciliation, ""},
		{"a look is gone", `DELETE FROM audit.reconciliation_scans WHERE ctid = (SELECT min(ctid) FROM audit.reconciliation_scans)`, audit.DamageReconciliation, ""},
		{"a look is another", `UPDATE audit.reconciliation_scans SET complete_until = complete_until + interval '1 microsecond'`, audit.DamageReconciliation, ""},
		{"a finding was added", strings.ReplaceAll(finding, "$1", "'"+reconciliation+"'"), audit.DamageReconciliation, ""},
		{"a forged event", forge(`'00'`), "", "event 1 of writer forger, which shows no key of the log: "},
		{"a forged event of rows that were added", strings.ReplaceAll(finding, "$1", "'"+reconciliation+"'") + "; " + forge(present), audit.DamageReconciliation, ""},
		{"a forged event of rows before they were changed", forge(present) + `UPDATE audit.deployment_findings SET class = 'observed'`, audit.DamageReconciliation, "event 1 of writer forger"},
		{"a forged event of no reconciliation", strings.ReplaceAll(forge(`'00'`), reconciliation, other), "", "event 1 of writer forger, which shows no key of the log: "},
		{"a finding of no event", strings.ReplaceAll(finding, "$1", "'"+other+"'"), "", "no event names the rows of 1 reconciliations, the first " + other},
		{"a count of retention", `UPDATE audit.expired SET events = events + 1`, audit.DamageExpired, ""},
		{"the counts of a retention are gone", `DELETE FROM audit.expired`, audit.DamageExpired, ""},
		{"a count of no retention", `INSERT INTO audit.expired VALUES ('2020-01-01', 7777, 1, 1, 'w')`, audit.DamageExpired, ""},
	} {
		tx, err := admin.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), unguarded+tt.sql); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		v, err := audit.NewVerification(audit.Trust{})
		if err != nil {
			t.Fatal(err)
		}
		r := &Reader{connect: admin.Config(), conn: admin, tx: tx, alone: true}
		relied := NewRelied(v)
		if err := r.Walk(t.Context(), relied, nil); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		report := v.Report()
		if !report.Sound() {
			t.Errorf("%s: without these tables it is not sound: %v", tt.name, report.Findings)
		}
		found, warnings, err := r.CheckRelied(t.Context(), relied, v.ShowsKey)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		report.Add(found...)
		if ok := report.Counts[tt.want] > 0; tt.want != "" && (!ok || len(report.Counts) != 1) || tt.want == "" && !report.Sound() {
			t.Errorf("%s: %v", tt.name, report.Findings)
		}
		if tt.warning == "" && len(warnings) > 0 || tt.warning != "" && !slices.ContainsFunc(warnings, func(w string) bool { return strings.HasPrefix(w, tt.warning) }) {
			t.Errorf("%s: %q", tt.name, warnings)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{leavesName, rowsName, rangeName, tailName} {
			if err := admin.Deallocate(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}
