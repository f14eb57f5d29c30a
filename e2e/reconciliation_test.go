package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The total number of API requests is bounded too: too many would be late.
const reconcileOften = "  reconciliation: {interval: 2s, grace_period: 0s, requests_per_hour: 10000}\n"

// TestUnobservedDeployment: of three deployments one bypasses the proxy, and the
// view, the command, the event and the metric show exactly that one.
func TestUnobservedDeployment(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{audit: reconcileOften})
	key := filepath.Join(t.TempDir(), "key")
	newKeyFile(t, key)
	w.seals(t, fmt.Sprintf("  signing_key_file: %q\n  checkpoints: {interval: 200ms}\n", key))
	w.start()
	from := time.Now().Add(-time.Minute)
	allowed, denied, around := w.production(), w.production(), w.production()
	if resp, err := w.client(t, allowed).Get(w.https("api.partner.example", "/")); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	if _, err := w.client(t, denied).Get(w.https("elsewhere.example", "/")); err == nil {
		t.Fatal("what policy does not name was let out")
	}
	for _, c := range []caller{allowed, denied, around} {
		c.step.Complete("SUCCESSFUL")
	}

	const missing = "SELECT step_uuid::text AS step FROM audit.deployment_reconciliation WHERE class = 'unobserved'"
	eventually(t, "the three are judged", func() bool {
		return len(w.query(t, "SELECT FROM audit.deployment_reconciliation WHERE class IN ('observed', 'unobserved')")) == 3 &&
			len(w.query(t, "SELECT FROM audit.events WHERE kind = 'deployment_unobserved'")) > 0
	})
	if rows := w.query(t, missing); len(rows) != 1 || rows[0]["step"] != around.step.UUID {
		t.Errorf("not seen: %v, want %s", rows, around.step.UUID)
	}
	if rows := w.query(t, "SELECT step_uuid::text AS step, repository FROM audit.events WHERE kind = 'deployment_unobserved'"); len(rows) != 1 ||
		rows[0]["step"] != around.step.UUID || rows[0]["repository"] != "acme/payments" {
		t.Errorf("events: %v", rows)
	}
	eventually(t, "the figure", func() bool {
		_, metrics := w.get("/metrics")
		return strings.Contains(metrics, `sallyport_deployments{class="unobserved"} 1`) && strings.Contains(metrics, `sallyport_deployments{class="observed"} 2`)
	})
	if ready, answer := w.readyz(); ready != 200 || answer["detail"].(map[string]any)["reconciliation"] == nil {
		t.Errorf("%d, %v", ready, answer["detail"])
	}

	status, out, errOut := command(t, "audit", "reconciliation", "-c", w.config, "--format", "json")
	if status != 1 {
		t.Errorf("the command ended with %d: %s", status, errOut)
	}
	var report struct {
		Deployments map[string]int
		Runs        []struct {
			Class  string
			Step   string `json:"step_uuid"`
			Number int    `json:"build_number"`
		} `json:"unobserved_or_unknown"`
		Changed []string
		Result  string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if report.Result != "missing" || report.Deployments["observed"] != 2 || len(report.Runs) != 1 || report.Runs[0].Step != around.step.UUID ||
		report.Runs[0].Number != around.step.Pipeline.BuildNumber || len(report.Changed) != 0 {
		t.Errorf("%s", out)
	}

	// An evidence pack has it, and one that is made after a change of it reports that.
	w.sealed(t)
	to := time.Now()
	pack := func(status int) map[string]string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "pack")
		w.operatorCommand(t, status, "audit", "evidence", "--since", from.Format(time.RFC3339Nano), "--until", to.Format(time.RFC3339Nano), "--out", dir, "--unanchored")
		return contents(t, dir)
	}
	eventually(t, "what was found is sealed", func() bool {
		return len(w.query(t, "SELECT FROM audit.checkpoints WHERE time > $1", to)) > 0
	})
	files := pack(0)
	if list := files["tables/deployments_missing.csv"]; strings.Count(list, "\n") != 2 || !strings.Contains(list, around.step.UUID) ||
		!strings.Contains(files["tables/deployments.csv"], `"observed","2"`) || !strings.Contains(files["tables/reconciled_repositories.csv"], `"acme/payments","yes"`) {
		t.Errorf("the pack has\n%s%s%s", list, files["tables/deployments.csv"], files["tables/reconciled_repositories.csv"])
	}

	// The finding is changed to a better class.
	w.alter(t, "ALTER TABLE audit.deployment_findings DISABLE TRIGGER ALL; UPDATE audit.deployment_findings SET class = 'observed' WHERE class = 'unobserved'")
	status, out, _ = command(t, "audit", "reconciliation", "-c", w.config)
	if status != 1 || !strings.Contains(out, "CHANGED: ") {
		t.Errorf("a finding that was changed: %d\n%s", status, out)
	}
	if files := pack(1); !strings.Contains(files["report.html"], "findings_changed") || !strings.Contains(files["tables/deployments_missing.csv"], "by its event alone") {
		t.Errorf("the pack does not say that a finding was changed:\n%s%s%s", files["tables/deployments_missing.csv"], files["tables/reconciliations.csv"], files["reconciliations.jsonl"])
	}
}
