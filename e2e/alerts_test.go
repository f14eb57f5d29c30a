package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An alertCase brings a server into the state that alerts are for. The engine of
// Prometheus then evaluates the rules: first on the /metrics of a healthy server, and
// then, for the duration of hold, on those of this server. The clock of the evaluation
// is not the server's: the test does not wait for the duration of a rule.
type alertCase struct {
	alerts []string
	hold   time.Duration // default 20 minutes
	// state returns scrapes of instances from the state on.
	state func(*testing.T) []alertScrape
}

// alertScrape is the body of /metrics of an instance; after is its time since the
// beginning of the state.
type alertScrape struct {
	Instance string `json:"instance"`
	At       int64  `json:"at"`
	Body     string `json:"body"`
	after    time.Duration
}

// alertCases has a case for every alert of deploy/alerts.example.yaml.
var alertCases = map[string]alertCase{
	"not reachable": {alerts: []string{"SallyportDown"}, state: func(t *testing.T) []alertScrape {
		w := newFixture(t, options{})
		w.start()
		w.stop()
		return []alertScrape{{Body: w.scrape()}}
	}},
	"database unavailable": {alerts: []string{"SallyportAuditDatabaseUnavailable", "SallyportAuditSealingStopped", "SallyportAuditUnsealed"}, state: stateDatabaseUnavailable},
	"connection lost":      {alerts: []string{"SallyportAuditDatabaseUnsteady"}, state: stateConnectionLost},
	"journal full":         {alerts: []string{"SallyportJournalFull"}, state: stateJournalFull},
	"queue full":           {alerts: []string{"SallyportEventsRejected"}, hold: 5 * time.Minute, state: stateQueueFull},
	"log cut off":          {alerts: []string{"SallyportAuditLogMismatch", "SallyportAuditSealingStopped", "SallyportAuditUnsealed"}, state: stateLogCutOff},
	"sealer hangs":         {alerts: []string{"SallyportAuditSealingStopped", "SallyportCheckpointOld"}, hold: 3 * time.Hour, state: stateSealerHangs},
	"number missing":       {alerts: []string{"SallyportWriterStuck", "SallyportAuditUnsealed"}, state: stateNumberMissing},
	"publishing fails":     {alerts: []string{"SallyportCheckpointsNotPublished"}, state: statePublishingFails},
	"issuer unavailable":   {alerts: []string{"SallyportKeysUnusable", "SallyportKeysOld"}, hold: 5 * time.Hour, state: stateIssuerUnavailable},
	"API unavailable":      {alerts: []string{"SallyportNamesFailing", "SallyportReconciliationFailing"}, hold: 32 * time.Hour, state: stateAPIUnavailable},
	"name reassigned":      {alerts: []string{"SallyportNameReassigned"}, hold: 5 * time.Minute, state: stateNameReassigned},
	"schema changed":       {alerts: []string{"SallyportSchemaDiffers", "SallyportSchemaNotCompared"}, hold: 2 * time.Hour, state: stateSchemaChanged},
	"names lock held":      {alerts: []string{"SallyportLockHeld"}, state: stateNamesLockHeld},
	"policy rejected":      {alerts: []string{"SallyportPolicyRejected", "SallyportPoliciesDiffer"}, state: statePolicyRejected},
	"repository rejected":  {alerts: []string{"SallyportRepositoryPolicyRejected"}, state: stateRepositoryRejected},
	"worker terminated":    {alerts: []string{"SallyportPolicyWorkerTerminated"}, hold: 5 * time.Minute, state: stateWorkerTerminated},
	"policy too old":       {alerts: []string{"SallyportPolicyErrors"}, hold: 5 * time.Minute, state: statePolicyTooOld},
	"policy unapproved":    {alerts: []string{"SallyportPolicyUnapproved"}, hold: 10 * time.Minute, state: statePolicyUnapproved},
	"approvals unread":     {alerts: []string{"SallyportApprovalsUnread"}, hold: 7 * time.Hour, state: stateApprovalsUnread},
	"policy endless":       {alerts: []string{"SallyportReevaluationErrors"}, state: statePolicyEndless},
	"many denied":          {alerts: []string{"SallyportDenialsRising"}, state: stateManyDenied},
	"recording slow":       {alerts: []string{"SallyportSlow"}, hold: 14 * time.Minute, state: stateRecordingSlow},
	"descriptors short":    {alerts: []string{"SallyportDescriptorsShort"}, state: stateDescriptorsShort},
	"deployment bypassed":  {alerts: []string{"SallyportDeploymentUnobserved"}, state: stateDeploymentBypassed},
	"schema differs":       {alerts: []string{"SallyportSchemaDiffers", "SallyportSchemaNotCompared"}, hold: 2 * time.Hour, state: stateSchemaDiffers},
	"self-test failed":     {alerts: []string{"SallyportSelfTestFailed", "SallyportSelfTestMissing"}, hold: 50 * time.Hour, state: stateSelfTestFailed},
	"secret old":           {alerts: []string{"SallyportSecretOld"}, state: stateSecretOld},
	"webhooks":             {alerts: []string{"SallyportWebhookSecretRejected", "SallyportWebhookSecretOld", "SallyportWebhookNetworksExpired", "SallyportWebhooksUnavailable"}, hold: 10 * time.Minute, state: stateWebhooks},
	"webhook refreshes":    {alerts: []string{"SallyportWebhookRefreshesUnreadable"}, state: stateWebhookRefreshes},
	"webhook endpoints":    {alerts: []string{"SallyportWebhookEndpointFailing", "SallyportWebhookDeliveriesWaiting", "SallyportWebhookDeadLetters", "SallyportWebhookAgentCredentialOld"}, state: stateWebhookEndpoints},
	"panic":                {alerts: []string{"SallyportPanic"}, state: statePanic},
	"emergency stop":       {alerts: []string{"SallyportEmergencyStop"}, state: stateEmergencyStop},
}

// TestAlerts: every shipped alert fires in the state that it is for, and none does
// on a healthy server.
func TestAlerts(t *testing.T) {
	t.Parallel()
	healthy := healthyScrape(t)
	rules, err := os.ReadFile("../deploy/alerts.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	states := evaluateAlerts(t, string(rules), []alertScrape{{At: now - 3600, Body: healthy}}, now, now)
	for alert, s := range states {
		if s.State != "inactive" {
			t.Errorf("%s is %s on a healthy server", alert, s.State)
		}
	}
	for alert := range states {
		if !slices.ContainsFunc(slices.Collect(maps.Values(alertCases)), func(c alertCase) bool { return slices.Contains(c.alerts, alert) }) {
			t.Errorf("%s has no case in this test", alert)
		}
	}
	for name, c := range alertCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scrapes := c.state(t)
			begin := time.Now().Unix()
			for i := range scrapes {
				scrapes[i].At = begin + int64(scrapes[i].after.Seconds())
			}
			if c.hold == 0 {
				c.hold = 20 * time.Minute
			}
			// Yesterday too, which some rules compare with.
			all := append([]alertScrape{{At: begin - 26*3600, Body: healthy}}, scrapes...)
			states := evaluateAlerts(t, string(rules), all, begin, begin+int64(c.hold.Seconds()))
			for _, alert := range c.alerts {
				s, shipped := states[alert]
				switch {
				case !shipped:
					t.Errorf("%s is not shipped", alert)
				case s.State != "firing":
					t.Errorf("%s is %s", alert, s.State)
				}
				if len(s.Absent) > 0 {
					t.Errorf("%s uses metrics that the server does not have: %v", alert, s.Absent)
				}
			}
			if t.Failed() && len(scrapes) > 0 {
				t.Log(ownMetrics(scrapes[len(scrapes)-1].Body))
			}
		})
	}
}

// TestAlertOnAMissingMetric: the evaluation finds an alert whose metric the server
// does not have.
func TestAlertOnAMissingMetric(t *testing.T) {
	t.Parallel()
	const rules = "groups: [{name: x, rules: [{alert: A, expr: sallyport_misspelt > 0}, {alert: B, expr: 'sallyport_tunnels >= 0', for: 5m}]}]"
	now := time.Now().Unix()
	scrapes := []alertScrape{{At: now, Body: "sallyport_tunnels 0\n"}}
	if s := evaluateAlerts(t, rules, scrapes, now, now+300); len(s["A"].Absent) != 1 || s["A"].State != "inactive" || s["B"].State != "firing" {
		t.Errorf("%+v", s)
	}
	if s := evaluateAlerts(t, rules, scrapes, now, now+240); s["B"].State != "pending" {
		t.Errorf("before its time: %+v", s)
	}
}

// TestStatusAfterAFailedPassIsNeeded: without the survey that follows a failed pass,
// events of a log that was cut off wait without an alert on their age.
func TestStatusAfterAFailedPassIsNeeded(t *testing.T) {
	t.Parallel()
	rules, err := os.ReadFile("../deploy/alerts.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	scrapes := logCutOff(t, options{program: mutant(t), env: []string{"SALLYPORT_WITHOUT=survey"}})
	begin := time.Now().Unix()
	scrapes[0].At = begin
	if s := evaluateAlerts(t, string(rules), scrapes, begin, begin+1200)["SallyportAuditUnsealed"]; s.State != "inactive" {
		t.Errorf("the alert is %s without the survey", s.State)
	}
}

type alertState struct {
	State  string
	Absent []string
}

var evaluatorBuild struct {
	once sync.Once
	err  error
}

// evaluator is the command tools/alerts, in a module of its own so that Prometheus
// is not in the product's module graph. It is removed with the other programs.
func evaluator(t testing.TB) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(filepath.Dir(sallyport(t))), "alerts")
	evaluatorBuild.once.Do(func() {
		cmd := exec.Command("go", "build", "-o", path, "./alerts")
		cmd.Dir = "../tools"
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			evaluatorBuild.err = fmt.Errorf("build tools/alerts: %w\n%s", err, out)
		}
	})
	if evaluatorBuild.err != nil {
		t.Fatal(evaluatorBuild.err)
	}
	return path
}

func evaluateAlerts(t *testing.T, rules string, scrapes []alertScrape, begin, end int64) map[string]alertState {
	t.Helper()
	question, err := json.Marshal(map[string]any{"rules": rules, "scrapes": scrapes, "begin": begin, "end": end})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), evaluator(t))
	cmd.Stdin = bytes.NewReader(question)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, errOut.String())
	}
	var states map[string]alertState
	if err := json.Unmarshal(out.Bytes(), &states); err != nil {
		t.Fatal(err)
	}
	return states
}

// scrape is the body of /metrics; empty: nothing answers.
func (s *server) scrape() string {
	_, body := s.get("/metrics")
	return body
}

// ownMetrics returns Sallyport's own metrics that are not 0.
func ownMetrics(body string) string {
	var own []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "sallyport_") && !strings.HasSuffix(line, " 0\n") && !strings.Contains(line, "_bucket") {
			own = append(own, line)
		}
	}
	return strings.Join(own, "")
}

// healthyScrape is that of a server with everything switched on, which has decided,
// sealed, reconciled and tested itself.
func healthyScrape(t *testing.T) string {
	w := newFixture(t, options{audit: reconcileOften, extra: "self_test: {interval: 1s}\n"})
	w.seals(t, "  checkpoints: {interval: 200ms}\n")
	w.start()
	if resp, err := w.client(t, w.production()).Get(w.https("api.partner.example", "/")); err != nil {
		t.Fatal(err)
	} else {
		resp.Body.Close()
	}
	eventually(t, "a self-test has passed, and a reconciliation is whole", func() bool {
		return w.counter(t, `sallyport_self_tests_total{outcome="passed"}`) > 0 && w.counter(t, "sallyport_reconciliation_last_success_timestamp_seconds") > 0
	})
	eventually(t, "the schema is compared", func() bool { return w.counter(t, "sallyport_schema_last_compared_timestamp_seconds") > 0 })
	w.sealed(t)
	eventually(t, "nothing waits to be sealed", func() bool {
		return w.counter(t, "sallyport_schema_last_compared_timestamp_seconds") > 0 && w.counter(t, "sallyport_audit_unsealed_since_timestamp_seconds") == 0 && w.counter(t, "sallyport_audit_last_seal_success_timestamp_seconds") > 0
	})
	return w.scrape()
}
