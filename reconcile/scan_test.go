package reconcile

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/database"
	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// until is up to when every run of a repository was checked.
func (h *env) until(r *bitbuckettest.Repository) time.Time {
	h.t.Helper()
	at := ask[*time.Time](h, "SELECT complete_until FROM audit.reconciliations WHERE repository_uuid = $1", r.UUID)
	if at == nil {
		return time.Time{}
	}
	return *at
}

// TestPageFails: a list that fails in the middle is gone on with, and the mark is
// not moved over what was not read.
func TestPageFails(t *testing.T) {
	h := build(t)
	for range 250 {
		h.deploy()
	}
	h.pass(time.Hour)
	h.api.fail = func(what, _ string) error {
		if what == "page" && h.api.pages == 2 {
			return errAway
		}
		return nil
	}
	h.runOnce()
	if h.outcome(h.payments) != "partial" || !h.until(h.payments).IsZero() {
		t.Errorf("%s until %v", h.outcome(h.payments), h.until(h.payments))
	}
	if n := ask[int](h, "SELECT count(*) FROM audit.deployment_reconciliation WHERE class = 'unobserved'"); n != 100 {
		t.Errorf("%d runs of the first page", n)
	}
	if all, different := h.events(audit.KindDeploymentUnobserved); all != 100 || different != 100 {
		t.Errorf("%d events of %d", all, different)
	}
	first := ask[time.Time](h, "SELECT scanned_at FROM audit.reconciliation_scans")
	late := h.deploy() // after the first page was read
	h.runOnce()
	if h.api.pages != 4 {
		t.Errorf("%d pages were asked for, not 1, the failed one, and the two that were left", h.api.pages)
	}
	if h.outcome(h.payments) != "complete" || !h.until(h.payments).Equal(first) {
		t.Errorf("%s until %v, not %v", h.outcome(h.payments), h.until(h.payments), first)
	}
	h.runOnce()
	if n := ask[int](h, "SELECT count(*) FROM audit.deployment_reconciliation WHERE class = 'unobserved'"); n != 251 || h.class(late) != "unobserved" {
		t.Errorf("%d runs", n)
	}
}

// TestPageForgotten: a page that Bitbucket does not know any more means to begin
// again.
func TestPageForgotten(t *testing.T) {
	h := build(t)
	for range 150 {
		h.deploy()
	}
	failure := errAway
	h.api.fail = func(what, _ string) error {
		if what == "page" && h.api.pages == 2 {
			return failure
		}
		return nil
	}
	h.runOnce()
	h.api.pages, failure = 1, identity.ErrCursor
	h.runOnce()
	if h.outcome(h.payments) != "complete" || h.api.pages != 4 {
		t.Errorf("%s after %d pages", h.outcome(h.payments), h.api.pages)
	}
}

// TestMark: a list in order is read no further than it has to be, what comes late
// within the overlap is found, a run that waits holds the horizon back, and a list
// out of order is always read whole.
func TestMark(t *testing.T) {
	h := build(t)
	for range 350 {
		h.deploy()
	}
	h.pass(12 * time.Hour)
	h.runOnce()
	if h.api.pages != 4 {
		t.Errorf("%d pages the first time", h.api.pages)
	}
	read := func() int {
		before := h.api.pages
		h.runOnce()
		return h.api.pages - before
	}
	if n := read(); n != 1 {
		t.Errorf("%d pages the second time", n)
	}
	// One that happened before the mark and is shown only now. A page with anything
	// new on it is followed by another.
	h.pass(-90 * time.Minute)
	late := h.deploy()
	h.pass(90 * time.Minute)
	if n := read(); n != 2 || h.class(late) != "unobserved" {
		t.Errorf("%d pages, %s", n, h.class(late))
	}
	// Manual, of long ago and begun now: in the order of creation it is at the end.
	manual := h.payments.Run("main").ManualStep(h.eu)
	read()
	h.pass(24 * time.Hour)
	for range 150 {
		h.deploy()
	}
	manual.Start()
	manual.Complete("SUCCESSFUL")
	h.pass(time.Hour)
	read()
	if h.class(manual) != "unobserved" {
		t.Error(h.class(manual))
	}
	h.server.SetDeployments(bitbuckettest.Deployments{IgnoreSort: true})
	h.pass(fullScanInterval)
	for range 2 {
		if n := read(); n != 6 {
			t.Errorf("%d pages of a list out of order", n)
		}
	}
}

// TestRepositories: which were checked, in which order, and the outcome of the
// others.
func TestRepositories(t *testing.T) {
	h := build(t)
	bare := h.acme.AddRepository("bare", "PAY")
	absent, forbidden, moved := h.acme.AddRepository("absent", "PAY"), h.acme.AddRepository("forbidden", "PAY"), h.acme.AddRepository("moved", "PAY")
	env := moved.AddEnvironment("Test", bitbuckettest.Test)
	going, over := moved.Run("main").Step(env), moved.Run("main").Step(env)
	if _, err := h.conn.Exec(t.Context(), `INSERT INTO identity.deployments (deployment_uuid, repository_uuid, workspace_uuid, valid_from, fetched_at, deployment_name, deployment, deployment_type)
		VALUES ($1, $2, $3, now(), now(), 'Test', 'test', 'test')`, env.UUID, moved.UUID, h.acme.UUID); err != nil {
		t.Fatal(err)
	}
	var order []string
	h.api.after = func(repository string) { order = append(order, repository) }
	h.api.fail = func(what, repository string) error {
		switch {
		case what == "page" && repository == absent.UUID:
			return identity.ErrAbsent
		case what == "page" && repository == forbidden.UUID:
			return identity.ErrForbidden
		}
		return nil
	}
	h.runOnce()
	if len(order) != 3 || order[0] != moved.UUID {
		t.Errorf("looked at %v, and not first at the one with an environment", order)
	}
	for r, want := range map[*bitbuckettest.Repository]string{h.payments: "complete", bare: "complete", absent: "absent", forbidden: "forbidden", moved: "complete"} {
		if got := h.outcome(r); got != want {
			t.Errorf("%s: %s, want %s", r.FullName(), got, want)
		}
	}
	if h.Status().Err != nil {
		t.Error(h.Status().Err)
	}

	over.Complete("SUCCESSFUL")
	moved.Delete()
	bare.Rename("barely")
	h.runOnce()
	if h.outcome(moved) != "gone" || h.class(going) != "pending" {
		t.Errorf("%s, %s", h.outcome(moved), h.class(going))
	}
	h.pass(2 * maxRunDuration)
	for range 2 {
		h.runOnce()
	}
	if n := ask[int](h, "SELECT count(*) FROM audit.reconciliation_scans WHERE outcome = 'gone'"); n != 1 {
		t.Errorf("it is gone %d times", n)
	}
	if name := ask[string](h, "SELECT repository FROM audit.reconciliations WHERE repository_uuid = $1", bare.UUID); name != "acme/barely" {
		t.Error(name)
	}
}

// TestUnavailableAPI: while the API is unavailable no repository counts as gone, and the
// reconciliation ends soon; a repository that was not scanned is first the next time,
// and the view shows one that never was.
func TestUnavailableAPI(t *testing.T) {
	h := build(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		h.acme.AddRepository(name, "PAY")
	}
	h.api.fail = func(what, _ string) error {
		if what == "page" {
			return errAway
		}
		return nil
	}
	h.runOnce()
	if h.api.pages != maxFailures || h.Status().Err == nil {
		t.Errorf("%d pages, %v", h.api.pages, h.Status().Err)
	}
	if n := ask[int](h, "SELECT count(*) FROM audit.reconciliations WHERE never_scanned"); n != 2 {
		t.Errorf("%d were never looked at", n)
	}
	never := ask[string](h, "SELECT repository_uuid::text FROM audit.reconciliations WHERE never_scanned LIMIT 1")
	var first string
	h.api.fail = nil
	h.api.after = func(repository string) {
		if first == "" {
			first = repository
		}
	}
	h.runOnce()
	if ask[bool](h, "SELECT bool_or(never_scanned) FROM audit.reconciliations") || first == "" || h.Status().Err != nil {
		t.Errorf("first %s, and never before was %s: %v", first, never, h.Status().Err)
	}
	h.api.fail = func(string, string) error { return errAway }
	h.runOnce()
	if n := ask[int](h, "SELECT count(*) FROM audit.reconciliations WHERE outcome = 'not_scanned'"); n != 5 || h.Status().Err == nil {
		t.Errorf("%d were not looked at, %v", n, h.Status().Err)
	}
	if all, _ := h.events(audit.KindReconciled); all != 3 {
		t.Errorf("%d on record", all)
	}
}

// TestNoTime: what there was no time for is noted.
func TestNoTime(t *testing.T) {
	h := build(t)
	h.acme.AddRepository("a", "PAY")
	h.api.after = func(string) { h.pass(2 * time.Hour) }
	h.runOnce()
	if n := ask[int](h, "SELECT count(*) FROM audit.reconciliations WHERE never_scanned AND detail = 'there was no time'"); n != 1 {
		t.Errorf("%d", n)
	}
}

// TestOneAtATime: of two instances one reconciles, and as often as one would.
func TestOneAtATime(t *testing.T) {
	h := build(t)
	other := h.instance(slog.New(slog.DiscardHandler))
	other.due = map[string]time.Time{}
	entered, leave := make(chan struct{}), make(chan struct{})
	api := h.config.Workspaces[0].API.(*flaky)
	api.after = func(string) {
		close(entered)
		<-leave
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.runOnce()
	}()
	<-entered
	if err := other.round(t.Context()); err != nil || other.Status().Busy == nil {
		t.Errorf("%v, %+v", err, other.Status())
	}
	close(leave)
	<-done
	if err := other.round(t.Context()); err != nil || other.Status().Busy != nil {
		t.Errorf("%v, %+v", err, other.Status())
	}
	if all, _ := h.events(audit.KindReconciled); all != 1 {
		t.Errorf("%d reconciliations", all)
	}
	if s := other.Status(); s.At.IsZero() {
		t.Errorf("what another found is not known: %+v", s)
	}
	if due := other.due[h.acme.UUID]; due.Before(h.clock().Add(30 * time.Minute)) {
		t.Errorf("due %v", due)
	}
}

// TestLastSuccess: only a whole reconciliation is a success. One that another
// session keeps from beginning, that fails or that is partial changes nothing.
func TestLastSuccess(t *testing.T) {
	h := build(t)
	if at := h.Status().LastSuccess; !at.IsZero() {
		t.Errorf("before the first: %v", at)
	}
	selfish, err := reconcilepg.Open(t.Context(), h.db.URL(database.Writer)) // keeps the lock
	if err != nil {
		t.Fatal(err)
	}
	h.runOnce()
	if st := h.Status(); !st.LastSuccess.IsZero() || st.Busy == nil || st.Busy.Since.IsZero() {
		t.Errorf("a run that was skipped: %+v", st)
	}
	selfish.Close()
	h.runOnce()
	first := h.clock()
	if at := h.Status().LastSuccess; !at.Equal(first) {
		t.Errorf("the latest success was at %v, want %v", at, first)
	}
	api := h.config.Workspaces[0].API.(*flaky)
	api.fail = func(what, _ string) error { return errAway }
	h.runOnce()
	if st := h.Status(); !st.LastSuccess.Equal(first) || st.Err == nil {
		t.Errorf("after a partial one: %+v", st)
	}
	other := h.instance(slog.New(slog.DiscardHandler)) // knows it from the log alone
	other.due = map[string]time.Time{}
	if err := other.round(t.Context()); err != nil || !other.Status().LastSuccess.Equal(first) {
		t.Errorf("another instance: %v, %+v", err, other.Status())
	}
}

// TestDatabaseRestarts: a session that is cut leaves what was saved, and the next
// round records that it was interrupted, and continues.
func TestDatabaseRestarts(t *testing.T) {
	h := build(t)
	s := h.deploy()
	h.acme.AddRepository("later", "PAY")
	cut := true
	h.api.after = func(repository string) {
		// The first repository is saved.
		if cut && ask[int](h, "SELECT count(*) FROM audit.reconciliation_scans") == 1 {
			ask[int](h, "SELECT count(*) FROM (SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'sallyport reconciliation') x")
			cut = false
		}
	}
	h.pass(time.Hour)
	h.due = map[string]time.Time{}
	if err := h.round(t.Context()); err == nil {
		t.Fatal("a session that was cut was not missed")
	}
	if n := ask[int](h, "SELECT count(*) FROM audit.reconciliation_scans"); n != 1 {
		t.Errorf("%d looks", n)
	}
	h.runOnce()
	if n := ask[int](h, `SELECT count(*) FROM audit.events WHERE kind = 'reconciled' AND convert_from(record, 'UTF8')::json -> 'attributes' ->> 'outcome' = 'interrupted'`); n != 1 {
		t.Errorf("%d interrupted", n)
	}
	if all, different := h.events(audit.KindReconciled); all != 2 || different != 2 {
		t.Errorf("%d of %d", all, different)
	}
	if all, _ := h.events(audit.KindDeploymentUnobserved); all != 1 || h.class(s) != "unobserved" {
		t.Errorf("%d, %s", all, h.class(s))
	}
}

// TestRun: Run ends with its context, whatever it is doing.
func TestRun(t *testing.T) {
	h := build(t)
	h.deploy()
	h.pass(time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.api.after = func(string) { cancel() }
	h.Run(ctx)
	h.api.after = nil
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	h.config.Record = func(c context.Context, e *audit.Event) error {
		err := h.log.Record(c, e)
		if e.Kind == audit.KindDeploymentUnobserved {
			cancel()
		}
		return err
	}
	h.pass(2 * time.Hour)
	h.Run(ctx)
	if all, _ := h.events(audit.KindDeploymentUnobserved); all != 1 {
		t.Errorf("%d", all)
	}
}

// TestInOrder: repositories with environments are first, and none is left out forever.
func TestInOrder(t *testing.T) {
	now := time.Now()
	known := map[string]identity.ScanState{"env-today": {At: now}, "env-week": {At: now.Add(-7 * 24 * time.Hour)}, "bare-hours": {At: now.Add(-5 * time.Hour)}, "bare-days": {At: now.Add(-48 * time.Hour)}}
	var listed []identity.KnownName
	for _, uuid := range []string{"bare-hours", "env-today", "bare-new", "bare-days", "env-week", "env-new"} {
		listed = append(listed, identity.KnownName{RepositoryUUID: uuid})
	}
	var got []string
	for _, n := range inOrder(listed, known, map[string]int{"env-today": 1, "env-week": 2, "env-new": 1}) {
		got = append(got, n.RepositoryUUID)
	}
	if want := []string{"env-new", "bare-new", "env-week", "bare-days", "env-today", "bare-hours"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
