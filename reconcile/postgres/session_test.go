package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

func reconciliation(t testing.TB, url string) *Session {
	t.Helper()
	r, err := Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func finding(n int, class identity.DeploymentClass, at time.Time) identity.DeploymentFinding {
	return identity.DeploymentFinding{
		DeploymentRun: identity.DeploymentRun{UUID: uuidOf(n), WorkspaceUUID: acme, RepositoryUUID: payments, DeploymentUUID: uuidOf(100), PipelineUUID: uuidOf(200 + n),
			StepUUID: uuidOf(300 + n), BuildNumber: int64(n), State: identity.DeploymentSuccessful, Created: database.Timestamp(at), Started: database.Timestamp(at), Completed: database.Timestamp(at.Add(time.Minute))},
		Class: class, Found: database.Timestamp(at.Add(time.Hour)), Detail: "why",
	}
}

// What is saved comes back, the latest of each, with names and numbers in the view.
func TestReconciliation(t *testing.T) {
	db := migrated(t)
	conn := pgtest.Connect(t, db.URL(""))
	saveNames(t, db.URL(database.Writer),
		identity.KnownName{Kind: identity.NameOfRepository, WorkspaceUUID: acme, RepositoryUUID: payments, WorkspaceSlug: "acme", FullName: "acme/payments", Project: "PAY", FetchedAt: minutes(0)},
		identity.KnownName{Kind: identity.NameOfDeployment, WorkspaceUUID: acme, RepositoryUUID: payments, DeploymentUUID: uuidOf(100), Name: "Production EU", Slug: "production-eu", Type: "production", FetchedAt: minutes(0)})
	r := reconciliation(t, db.URL(database.Writer))
	if id, err := r.Latest(t.Context(), acme); id != "" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	first, second := "01930000-0000-7000-8000-000000000001", "01930000-0000-7000-8000-000000000002"
	look := identity.RepositoryScan{WorkspaceUUID: acme, RepositoryUUID: payments, Repository: "acme/payments", Outcome: identity.ScanComplete,
		Began: database.Timestamp(minutes(0)), Until: database.Timestamp(minutes(0)), InOrder: true, Whole: true, Requests: 1, Runs: 2}
	partial := look
	partial.Outcome, partial.Until, partial.Began, partial.Whole, partial.InOrder = identity.ScanPartial, time.Time{}, database.Timestamp(minutes(60)), false, false
	one, two, later := finding(1, identity.ClassPending, minutes(0)), finding(2, identity.ClassUnobserved, minutes(1)), finding(1, identity.ClassObserved, minutes(0))
	later.Found = later.Found.Add(time.Hour)
	for id, do := range map[string]func() error{
		first: func() error {
			return r.Save(t.Context(), first, []identity.DeploymentFinding{one, two}, []identity.RepositoryScan{look})
		},
		second: func() error {
			return r.Save(t.Context(), second, []identity.DeploymentFinding{later}, []identity.RepositoryScan{partial})
		},
	} {
		if err := do(); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
	}
	if id, err := r.Latest(t.Context(), acme); id != second || err != nil {
		t.Errorf("%q, %v", id, err)
	}
	scanned, err := r.ScanStates(t.Context(), acme)
	if err != nil || len(scanned) != 1 {
		t.Fatalf("%+v, %v", scanned, err)
	}
	if l := scanned[0]; l.Latest != identity.ScanPartial || !l.At.Equal(partial.Began) || l.Deployments != 1 {
		t.Errorf("%+v", l)
	}
	list, err := r.Findings(t.Context(), payments, minutes(-1))
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, f := range list {
		want := two
		if f.UUID == later.UUID {
			want = later
		}
		want.Reconciliation = f.Reconciliation
		f.Created, f.Started, f.Completed, f.Found = f.Created.UTC(), f.Started.UTC(), f.Completed.UTC(), f.Found.UTC()
		if f != want {
			t.Errorf("%+v, want %+v", f, want)
		}
	}
	counts, err := r.Counts(t.Context(), acme, minutes(-1))
	if err != nil || counts[identity.ClassObserved] != 1 || counts[identity.ClassUnobserved] != 1 || counts[identity.ClassPending] != 0 {
		t.Errorf("%v, %v", counts, err)
	}
	left, missing, err := r.Unrecorded(t.Context(), minutes(-60))
	if err != nil || len(left) != 2 || left[first] != acme || len(missing) != 1 || missing[0].UUID != two.UUID {
		t.Errorf("%v, %+v, %v", left, missing, err)
	}
	shown := pgtest.Value[string](t, conn, "SELECT concat_ws(' ', class, repository, deployment, deployment_type, build_number, state) FROM audit.deployment_reconciliation WHERE class = 'unobserved'")
	if want := "unobserved acme/payments Production EU production 2 successful"; shown != want {
		t.Errorf("%s, want %s", shown, want)
	}
	shown = pgtest.Value[string](t, conn, "SELECT concat_ws(' ', outcome, repository, deployments, never_scanned, complete_until IS NULL) FROM audit.reconciliations")
	if want := "partial acme/payments 1 f f"; shown != want {
		t.Errorf("%s, want %s", shown, want)
	}
	report, err := ReadReport(t.Context(), db.URL(database.Auditor), minutes(-1))
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Foreign) != 2 || !report.Missing() || !report.Unclear() || report.Counts[identity.ClassObserved] != 1 || len(report.Runs) != 1 ||
		report.Runs[0].BuildNumber != 2 || len(report.Repositories) != 1 || !report.Repositories[0].Unclear() {
		t.Errorf("rows that no event names: %+v", report)
	}
	way := takeDown(t, "00007_reconciliation.sql")
	if _, err := conn.PgConn().Exec(t.Context(), "BEGIN; SET LOCAL ROLE sallyport_owner; "+way+"; COMMIT").ReadAll(); pgtest.SQLState(err) != "23001" {
		t.Errorf("findings were taken down: %v", err)
	}
	pgtest.Exec(t, conn, "ROLLBACK")
}

// What the database would refuse is refused before, and nothing of it is written.
func TestReconciliationRefuses(t *testing.T) {
	db := migrated(t)
	conn := pgtest.Connect(t, db.URL(""))
	r := reconciliation(t, db.URL(database.Writer))
	good := finding(1, identity.ClassObserved, minutes(0))
	for name, change := range map[string]func(*identity.DeploymentFinding){
		"braces":    func(f *identity.DeploymentFinding) { f.UUID = "{" + f.UUID + "}" },
		"step":      func(f *identity.DeploymentFinding) { f.StepUUID = "x" },
		"NUL":       func(f *identity.DeploymentFinding) { f.Detail = "a\x00" },
		"long":      func(f *identity.DeploymentFinding) { f.Detail = string(make([]byte, 1001)) },
		"number":    func(f *identity.DeploymentFinding) { f.BuildNumber = -1 },
		"class":     func(f *identity.DeploymentFinding) { f.Class = "fine" },
		"state":     func(f *identity.DeploymentFinding) { f.State = "" },
		"no moment": func(f *identity.DeploymentFinding) { f.Found = time.Time{} },
	} {
		bad := finding(2, identity.ClassObserved, minutes(0))
		change(&bad)
		if err := r.Save(t.Context(), uuidOf(9), []identity.DeploymentFinding{good, bad}, nil); err == nil {
			t.Errorf("%s: saved", name)
		}
	}
	look := identity.RepositoryScan{WorkspaceUUID: acme, RepositoryUUID: payments, Outcome: identity.ScanPartial, Began: minutes(0), Until: minutes(0)}
	if err := r.Save(t.Context(), uuidOf(9), nil, []identity.RepositoryScan{look}); err == nil {
		t.Error("a partial look moved the mark")
	}
	if err := r.Save(t.Context(), "x", []identity.DeploymentFinding{good}, nil); err == nil {
		t.Error("saved under no UUID")
	}
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM audit.deployment_findings"); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// One session reconciles at a time, and a session that lost its lock cannot write.
func TestReconcileOneAtATime(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	r, err := Open(t.Context(), db.URL(database.Writer))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), db.URL(database.Writer)); !isBusy(err, "of sallyport_writer has held it since") {
		t.Errorf("got %v", err)
	}
	r.Close()
	pgtest.Eventually(t, "the right is free", func() bool {
		r, err := Open(t.Context(), db.URL(database.Writer))
		if err == nil {
			r.Close()
		}
		return err == nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, db.URL(database.Writer)); err == nil {
		t.Error("after the end")
	}
}

// Findings are append-only for every login.
func TestFindingsAreAppendOnly(t *testing.T) {
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	r := reconciliation(t, db.URL(database.Writer))
	if err := r.Save(t.Context(), uuidOf(9), []identity.DeploymentFinding{finding(1, identity.ClassUnobserved, minutes(0))}, nil); err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{
		"UPDATE audit.deployment_findings SET class = 'observed'", "DELETE FROM audit.deployment_findings", "TRUNCATE audit.deployment_findings",
		"UPDATE audit.reconciliation_scans SET outcome = 'complete'", "DELETE FROM audit.reconciliation_scans", "TRUNCATE audit.reconciliation_scans",
	} {
		if _, err := admin.Exec(t.Context(), statement); pgtest.SQLState(err) != "23001" {
			t.Errorf("%s as a superuser: %v", statement, err)
		}
		if _, err := admin.Exec(t.Context(), "SET session_replication_role = replica; "+statement); pgtest.SQLState(err) != "23001" {
			t.Errorf("%s as a replica: %v", statement, err)
		}
		pgtest.Exec(t, admin, "RESET session_replication_role")
		for _, role := range []string{database.Writer, database.Auditor} {
			conn := pgtest.Connect(t, db.URL(role))
			if _, err := conn.Exec(t.Context(), statement); pgtest.SQLState(err) != "42501" {
				t.Errorf("%s as %s: %v", statement, role, err)
			}
		}
	}
	for role, may := range map[string]bool{database.Writer: true, database.Auditor: true} {
		conn := pgtest.Connect(t, db.URL(role))
		for _, statement := range []string{"SELECT FROM audit.deployment_reconciliation", "SELECT FROM audit.reconciliations", "SELECT FROM audit.self_tests",
			"SELECT audit.reconciliation_digest(gen_random_uuid())"} {
			if _, err := conn.Exec(t.Context(), statement); (err == nil) != may {
				t.Errorf("%s as %s: %v", statement, role, err)
			}
		}
	}
	conn := pgtest.Connect(t, db.URL(database.Auditor))
	if _, err := conn.Exec(t.Context(), "INSERT INTO audit.reconciliation_scans SELECT * FROM audit.reconciliation_scans"); pgtest.SQLState(err) != "42501" {
		t.Errorf("an auditor adds: %v", err)
	}
}

// TestReconciliationLockEnds: the lock ends with its session, also where another
// session has its process number, and who lost the lock writes nothing more.
func TestReconciliationLockEnds(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	admin := pgtest.Connect(t, db.URL(""))
	r := reconciliation(t, db.URL(database.Writer))
	other := pgtest.Connect(t, db.URL("")) // a session with the number, of another login and name
	for _, change := range []string{
		"server_start = server_start - interval '1 s'",
		fmt.Sprintf("pid = %d", other.PgConn().PID()),
		"application = 'x'",
	} {
		pgtest.Exec(t, admin, "UPDATE sallyport.session_locks SET "+change)
		next, err := Open(t.Context(), db.URL(database.Writer))
		if err != nil {
			t.Fatalf("%s: %v", change, err)
		}
		if err := r.Save(t.Context(), uuidOf(9), []identity.DeploymentFinding{finding(1, identity.ClassUnobserved, minutes(0))}, nil); !errors.Is(err, errLockLost) {
			t.Errorf("%s: saved without the lock: %v", change, err)
		}
		r.Close()
		r = next
		defer next.Close()
	}
	if err := r.Save(t.Context(), uuidOf(9), []identity.DeploymentFinding{finding(1, identity.ClassUnobserved, minutes(0))}, nil); err != nil {
		t.Error(err)
	}
}
