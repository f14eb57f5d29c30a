package reader

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/stepapi"
)

func openSteps(t *testing.T, url string) *Steps {
	t.Helper()
	d, err := OpenSteps(t.Context(), url, []string{"hello_encrypted", "policy_changed"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

const (
	repositoryA = "11112222-3333-4444-5555-000000000001"
	repositoryB = "11112222-3333-4444-5555-000000000002"
	stepA       = "5f0c1d2e-0000-4000-8000-00000000000a"
	stepB       = "5f0c1d2e-0000-4000-8000-00000000000b"
)

// TestSteps reads back what one step was refused, the newest first, and
// nothing of other steps: not another step's of the same repository, not an
// allow, not an end, nothing old.
func TestSteps(t *testing.T) {
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL("sallyport_writer"), nil)
	d := openSteps(t, db.URL("sallyport_writer"))
	a, now := audittest.StepOf(repositoryA, stepA), time.Now()
	first := audittest.RecordDenial(t, l, a, 1, now.Add(-2*time.Second))
	second := audittest.RecordDenial(t, l, a, 2, now.Add(-time.Second))
	audittest.RecordDenial(t, l, a, 3, now.Add(-stepAge-time.Hour))
	audittest.RecordDenial(t, l, audittest.StepOf(repositoryA, stepB), 4, now)
	allowed := audittest.Decision("allow", 5)
	allowed.StepUUID, allowed.RepositoryUUID, allowed.Issuer = stepA, repositoryA, a.Issuer
	audittest.Record(t, l, allowed)

	// Ends: of this step, forced and not; and a forced one of another step.
	end := func(of *audit.Event, reason string, at time.Time) {
		audittest.Record(t, l, &audit.Event{Kind: audit.KindTunnelClosed, Time: at, DecisionID: of.DecisionID, CloseReason: reason})
	}
	finished, cut := audittest.Decision("allow", 6), audittest.Decision("allow", 7)
	others := audittest.Decision("allow", 8)
	for _, e := range []*audit.Event{finished, cut, others} {
		e.Time, e.StepUUID, e.RepositoryUUID, e.Issuer = now.Add(-time.Minute), stepA, repositoryA, a.Issuer
	}
	others.StepUUID = stepB
	cutID, finishedID := cut.DecisionID, finished.DecisionID
	for _, e := range []*audit.Event{finished, cut, others} {
		kept := *e
		audittest.Record(t, l, e)
		reason := "hello_encrypted"
		if kept.DecisionID == finished.DecisionID {
			reason = "finished"
		}
		end(&kept, reason, now)
	}
	// Counts with one beginning include each other; another step's do not count.
	for n, count := range []string{"7", "40", "2"} {
		for _, step := range []string{stepA, stepB} {
			c := &audit.Event{Time: now, Kind: audit.KindRefusalsRepeated, DecisionID: second.DecisionID, Verdict: "deny", StepUUID: step, RepositoryUUID: repositoryA,
				WorkspaceUUID: a.Workspace.UUID, Issuer: a.Issuer, Attributes: []audit.Attribute{{Name: "from", Value: []string{"t1", "t1", "t2"}[n]}, {Name: "count", Value: count}}}
			audittest.Record(t, l, c)
		}
	}

	// What report mode let continue: of this step, and of another.
	for _, step := range []string{stepA, stepB} {
		e := &audit.Event{Time: now.Add(time.Second), Kind: audit.KindWouldClose, DecisionID: finishedID, StepUUID: step, RepositoryUUID: repositoryA,
			WorkspaceUUID: a.Workspace.UUID, Issuer: a.Issuer, Action: "connect", Host: "chromium.example", Port: 443, CloseReason: "hello_encrypted"}
		audittest.Record(t, l, e)
	}

	list, counts, err := d.Step(t.Context(), a, 10)
	if err != nil {
		t.Fatal(err)
	}
	if want := (stepapi.Requests{Allowed: 3, Denied: 2 + 42, Closed: 1, WouldClose: 1}); counts != want {
		t.Errorf("counts are %+v, want %+v", counts, want)
	}
	if len(list) < 4 || list[0].Kind != stepapi.KindWouldClose || list[0].Target != "chromium.example:443" || list[0].CloseReason != "hello_encrypted" {
		t.Fatalf("got %+v", list)
	}
	if cut := list[1]; cut.Kind != stepapi.KindClosed || cut.DecisionID != cutID || cut.CloseReason != "hello_encrypted" || !strings.HasSuffix(cut.Target, ":443") || cut.Reason != "" {
		t.Fatalf("got %+v", cut)
	}
	allowedList := list[4:]
	list = list[2:4]
	var requests int64
	for _, e := range allowedList {
		requests += e.Repeats + 1
		if e.Kind != stepapi.KindAllowed || e.Reason == "" || e.Target == "" {
			t.Errorf("got %+v", e)
		}
	}
	if requests != 3 {
		t.Errorf("%d allowed requests in %+v", requests, allowedList)
	}
	if list[0].Repeats != 42 || list[1].Repeats != 0 {
		t.Errorf("repeats: %d, %d", list[0].Repeats, list[1].Repeats)
	}
	if len(list) != 2 || list[0].DecisionID != second.DecisionID || list[1].DecisionID != first.DecisionID {
		t.Fatalf("got %+v", list)
	}
	got := list[0]
	if got.Target != second.Host+":443" || got.Reason != "policy_denied" || got.Rule != "payments-partner" ||
		got.Message != "ask them" || got.Status != 403 || got.Action != "connect" || !got.Time.Equal(second.Time.Truncate(time.Microsecond)) {
		t.Errorf("got %+v", got)
	}
	if list, _, err := d.Step(t.Context(), a, 1); err != nil || len(list) != 2 || list[0].Kind != stepapi.KindWouldClose || list[1].Kind != stepapi.KindAllowed {
		t.Errorf("with a limit of one: %+v, %v", list, err)
	}
	for name, other := range map[string]*identity.Principal{
		"same step UUID, another repository": audittest.StepOf(repositoryB, stepA),
		"same step UUID, another workspace": {Issuer: a.Issuer, Workspace: identity.Workspace{UUID: repositoryB},
			Repository: a.Repository, Step: a.Step},
		"same step UUID, another issuer": {Issuer: "https://other.test", Workspace: a.Workspace, Repository: a.Repository, Step: a.Step},
	} {
		if list, counts, err := d.Step(t.Context(), other, 10); err != nil || len(list) != 0 || counts != (stepapi.Requests{}) {
			t.Errorf("%s: %+v, %+v, %v", name, list, counts, err)
		}
	}
}

// TestStepsUseTheirIndex: a step's question costs what the step was refused,
// and not what the log holds.
func TestStepsUseTheirIndex(t *testing.T) {
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL("sallyport_writer"), nil)
	audittest.RecordDenial(t, l, audittest.StepOf(repositoryA, stepA), 1, time.Now())
	conn := audittest.Connect(t, db.URL("sallyport_writer"))
	if _, err := conn.Exec(t.Context(), `SET enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(audittest.QueryStrings(t, conn, "EXPLAIN "+stepSQL, stepA, time.Now(), repositoryA, repositoryA, "i", []string{"hello_encrypted"}, 10), "\n")
	if !strings.Contains(plan, "step_uuid") || !strings.Contains(plan, "using events_") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("the plan is\n%s", plan)
	}
}

func TestStepsWithoutDatabase(t *testing.T) {
	db := audittest.Migrated(t)
	d := openSteps(t, db.URL("sallyport_writer"))
	if _, err := OpenSteps(t.Context(), "", nil); err == nil {
		t.Error("no URL is accepted")
	}
	d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, _, err := d.Step(ctx, audittest.StepOf(repositoryA, stepA), 10); err == nil || ctx.Err() != nil {
		t.Errorf("without a database: %v", err)
	}
}

// TestStepsFilterIsNeeded takes the step out of each part of the query and sees
// what another step of the same repository was refused, and what was closed.
func TestStepsFilterIsNeeded(t *testing.T) {
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL("sallyport_writer"), nil)
	other := audittest.RecordDenial(t, l, audittest.StepOf(repositoryA, stepB), 1, time.Now())
	opened := audittest.Decision("allow", 2)
	opened.Time, opened.StepUUID, opened.RepositoryUUID, opened.Issuer = time.Now(), stepB, repositoryA, audittest.StepOf("", "").Issuer
	id := opened.DecisionID
	audittest.Record(t, l, opened)
	audittest.Record(t, l, &audit.Event{Kind: audit.KindTunnelClosed, Time: time.Now(), DecisionID: id, CloseReason: "policy_changed"})
	a := audittest.StepOf(repositoryA, stepA)
	for filter, want := range map[string]string{" d.step_uuid = $1": id, " step_uuid = $1 AND verdict": other.DecisionID} {
		open := strings.Replace(stepSQL, filter, strings.NewReplacer("d.step_uuid = $1", "$1::uuid IS NOT NULL", "step_uuid = $1", "$1::uuid IS NOT NULL").Replace(filter), 1)
		rows, err := audittest.Connect(t, db.URL("sallyport_writer")).Query(t.Context(), open,
			a.Step.UUID, time.Now().Add(-stepAge), a.Workspace.UUID, a.Repository.UUID, a.Issuer, []string{"policy_changed"}, 10)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, scanStepEntry)
		if err != nil || len(found) != 1 || found[0].DecisionID != want {
			t.Errorf("without %s: %+v, %v", filter, found, err)
		}
	}
}
