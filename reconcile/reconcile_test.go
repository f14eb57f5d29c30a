package reconcile

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestClasses: each class, each missing run once recorded, and a late event.
func TestClasses(t *testing.T) {
	h := build(t)
	want := map[*bitbuckettest.Step]string{}

	own := h.deploy()
	h.decided(own)
	want[own] = "observed"

	other := h.deploy()
	h.decided(other.Pipeline.Step(nil))
	want[other] = "pipeline_only"

	bypassed, failed := h.deploy(), h.payments.Run("main").Step(h.eu)
	failed.Complete("FAILED")
	want[bypassed], want[failed] = "unobserved", "unobserved"

	neverRan := h.payments.Run("main").ManualStep(h.eu)
	neverRan.Complete("STOPPED")
	want[neverRan] = "not_run"
	want[h.payments.Run("main").ManualStep(h.eu)] = "pending"
	h.payments.Run("main").Step(nil) // deploys nothing

	h.pass(time.Hour)
	going, fresh := h.payments.Run("main").Step(h.eu), h.payments.Run("main").Step(h.eu)
	h.pass(-time.Hour)
	want[going], want[fresh] = "pending", "pending"

	check := func() {
		t.Helper()
		for s, class := range want {
			if got := h.class(s); got != class {
				t.Errorf("%s is %s, want %s", s.DeploymentUUID(), got, class)
			}
		}
	}
	h.runOnce()
	check()
	if all, different := h.events(audit.KindDeploymentUnobserved); all != 3 || different != 3 {
		t.Errorf("%d events of %d", all, different)
	}
	if n := ask[int](h, "SELECT count(*) FROM audit.deployment_reconciliation"); n != len(want) {
		t.Errorf("%d runs, want %d", n, len(want))
	}
	status := h.Status()
	if status.Deployments[identity.ClassUnobserved] != 2 || status.Repositories[identity.ScanComplete] != 1 || status.Err != nil || status.Requests == 0 {
		t.Errorf("%+v", status)
	}
	rows := ask[int](h, "SELECT count(*) FROM audit.deployment_findings")

	fresh.Complete("SUCCESSFUL")
	h.decided(bypassed) // the journal of an outage brought it late
	want[bypassed], want[fresh] = "observed", "unobserved"
	h.runOnce()
	check()
	if n := ask[int](h, "SELECT count(*) FROM audit.deployment_findings"); n != rows+2 {
		t.Errorf("%d rows were added, not 2", n-rows)
	}
	want[going] = "unobserved" // no step continues for so long
	h.pass(2 * maxRunDuration)
	h.runOnce()
	h.runOnce()
	check()
	if all, different := h.events(audit.KindDeploymentUnobserved); all != 5 || different != 5 {
		t.Errorf("%d events of %d", all, different)
	}
	if all, different := h.events(audit.KindReconciled); all != 4 || different != 4 {
		t.Errorf("%d reconciliations of %d", all, different)
	}
}

// TestAdmittedToken: an admitted token is enough to be seen.
func TestAdmittedToken(t *testing.T) {
	h := build(t)
	s := h.deploy()
	if _, err := h.conn.Exec(t.Context(), `INSERT INTO identity.admitted_tokens (digest, step_uuid, repository_uuid, admitted_at, expires, until, issuer, principal)
		VALUES (sha256(''), $1, $2, now(), now() + interval '1 h', now() + interval '1 h', 'x', '{}')`, s.UUID, h.payments.UUID); err != nil {
		t.Fatal(err)
	}
	h.runOnce()
	if got := h.class(s); got != "observed" {
		t.Error(got)
	}
}

// TestForms: whichever way Bitbucket answers, what was seen is seen, and what was
// not is at least not called seen.
func TestForms(t *testing.T) {
	for name, c := range map[string]struct {
		form                  bitbuckettest.Deployments
		seen, other, bypassed string
	}{
		"sort ignored":  {bitbuckettest.Deployments{IgnoreSort: true}, "observed", "pipeline_only", "unobserved"},
		"sort refused":  {bitbuckettest.Deployments{RefuseSort: true}, "observed", "pipeline_only", "unobserved"},
		"as documented": {bitbuckettest.Deployments{NoStep: true}, "observed", "pipeline_only", "unobserved"},
		"no pipeline":   {bitbuckettest.Deployments{NoPipeline: true}, "unknown", "unknown", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			h := build(t)
			h.server.SetDeployments(c.form)
			seen, other, bypassed := h.deploy(), h.deploy(), h.deploy()
			h.decided(seen)
			h.decided(other.Pipeline.Step(nil))
			for range 2 {
				h.runOnce()
				if h.class(seen) != c.seen || h.class(other) != c.other || h.class(bypassed) != c.bypassed {
					t.Errorf("%s, %s, %s", h.class(seen), h.class(other), h.class(bypassed))
				}
			}
			if h.outcome(h.payments) != "complete" {
				t.Error(h.outcome(h.payments))
			}
		})
	}
}

// TestBeforeTheLog: what was deployed before the log began cannot be in it.
func TestBeforeTheLog(t *testing.T) {
	h := build(t)
	h.pass(-48 * time.Hour)
	s := h.deploy()
	h.pass(48 * time.Hour)
	h.runOnce()
	if got := h.class(s); got != "" || h.outcome(h.payments) != "complete" {
		t.Errorf("%q", got)
	}
}

// TestStepAway: a step that cannot be asked for is not judged before it can.
func TestStepAway(t *testing.T) {
	h := build(t)
	s, gone := h.deploy(), h.deploy()
	h.api.fail = func(what, _ string) error {
		if what == "step" {
			return errAway
		}
		return nil
	}
	h.runOnce()
	if h.class(s) != "unknown" || h.class(gone) != "unknown" {
		t.Errorf("%s %s", h.class(s), h.class(gone))
	}
	h.api.fail = func(what, _ string) error {
		if what == "step" {
			return identity.ErrAbsent
		}
		return nil
	}
	h.runOnce()
	if h.class(s) != "unobserved" || h.class(gone) != "unobserved" { // it was successful, so it ran
		t.Errorf("%s %s", h.class(s), h.class(gone))
	}
}

// TestDigest: the event holds what was added, and a change shows.
func TestDigest(t *testing.T) {
	h := build(t)
	s := h.deploy()
	h.runOnce()
	recorded := ask[string](h, `SELECT convert_from(record, 'UTF8')::json -> 'attributes' ->> 'digest' FROM audit.events WHERE kind = 'reconciled'`)
	digest := func() string {
		return hex.EncodeToString(ask[[]byte](h, "SELECT audit.reconciliation_digest(reconciliation) FROM audit.reconciliation_scans"))
	}
	if digest() != recorded || len(recorded) != 64 {
		t.Errorf("%s, recorded %s", digest(), recorded)
	}
	const change = "UPDATE audit.deployment_findings SET class = 'observed'"
	if _, err := h.conn.Exec(t.Context(), change); err == nil {
		t.Error("a finding was changed")
	}
	if _, err := h.conn.Exec(t.Context(), "ALTER TABLE audit.deployment_findings DISABLE TRIGGER ALL; "+change); err != nil {
		t.Fatal(err)
	}
	if h.class(s) != "observed" || digest() == recorded {
		t.Error("the change does not show")
	}
}

// TestNotReady: while the log has events that wait, nothing is judged.
func TestNotReady(t *testing.T) {
	h := build(t)
	h.deploy()
	h.config.Ready = func() error { return NotReady("events wait") }
	h.due = map[string]time.Time{}
	if err := h.round(t.Context()); !errors.Is(err, errNotReady) {
		t.Error(err)
	}
	if all, _ := h.events(audit.KindReconciled); all != 0 || h.api.pages != 0 {
		t.Error("it was reconciled all the same")
	}
}
