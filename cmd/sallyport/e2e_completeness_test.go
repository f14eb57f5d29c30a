package main_test

import (
	"encoding/json"
	"strings"
	"testing"
)

const reconcileOften = "  completeness: {interval: 1s, settle: 0s}\n"

// TestDeploymentThatWentAround: of three deployments one bypasses the proxy, and the
// view, the command, the event and the metric show exactly that one.
func TestDeploymentThatWentAround(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{audit: reconcileOften})
	w.start()
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

	const missing = "SELECT step_uuid::text AS step FROM audit.deployment_coverage WHERE class = 'not_seen'"
	eventually(t, "the three are judged", func() bool {
		return len(w.query(t, "SELECT FROM audit.deployment_coverage WHERE class IN ('seen', 'not_seen')")) == 3 &&
			len(w.query(t, "SELECT FROM audit.events WHERE kind = 'deployment_not_seen'")) > 0
	})
	if rows := w.query(t, missing); len(rows) != 1 || rows[0]["step"] != around.step.UUID {
		t.Errorf("not seen: %v, want %s", rows, around.step.UUID)
	}
	if rows := w.query(t, "SELECT step_uuid::text AS step, repository FROM audit.events WHERE kind = 'deployment_not_seen'"); len(rows) != 1 ||
		rows[0]["step"] != around.step.UUID || rows[0]["repository"] != "acme/payments" {
		t.Errorf("events: %v", rows)
	}
	eventually(t, "the figure", func() bool {
		_, metrics := w.get("/metrics")
		return strings.Contains(metrics, `sallyport_deployments{class="not_seen"} 1`) && strings.Contains(metrics, `sallyport_deployments{class="seen"} 2`)
	})
	if ready, answer := w.readyz(); ready != 200 || answer["detail"].(map[string]any)["completeness"] == nil {
		t.Errorf("%d, %v", ready, answer["detail"])
	}

	status, out, errOut := command(t, "audit", "completeness", "-c", w.config, "--json")
	if status != 1 {
		t.Errorf("the command ended with %d: %s", status, errOut)
	}
	var report struct {
		Deployments map[string]int
		Runs        []struct {
			Class  string
			Step   string `json:"step_uuid"`
			Number int    `json:"build_number"`
		} `json:"not_seen_or_unclear"`
		Changed []string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if report.Deployments["seen"] != 2 || len(report.Runs) != 1 || report.Runs[0].Step != around.step.UUID ||
		report.Runs[0].Number != around.step.Pipeline.BuildNumber || len(report.Changed) != 0 {
		t.Errorf("%s", out)
	}

	// Somebody makes the finding look better than it was.
	w.alter(t, "ALTER TABLE audit.deployment_findings DISABLE TRIGGER ALL; UPDATE audit.deployment_findings SET class = 'seen' WHERE class = 'not_seen'")
	status, out, _ = command(t, "audit", "completeness", "-c", w.config)
	if status != 2 || !strings.Contains(out, "CHANGED: ") {
		t.Errorf("a finding that was changed: %d\n%s", status, out)
	}
}
