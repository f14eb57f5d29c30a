package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestStepCommands runs doctor, report and check-network of the real sallyport-step against
// the real server: what they print is what the log has.
func TestStepCommands(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{handler: upstream(t), tls: true})
	w.start()
	const host = "commands.unlisted.example"
	target := fmt.Sprintf("%s:%d", host, w.HTTPSPort)
	c := w.anybody()
	w.curl(t, c.proxyURL(w.proxy), w.https(host, "/")).refused(t, "403", "no_rule_matched")

	program := filepath.Join(t.TempDir(), "sallyport-step")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "../cmd/sallyport-step").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	home := t.TempDir()
	silent, err := net.ListenPacket("udp4", "127.0.0.1:0") // a resolver that does not answer
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	run := func(token, command string, args ...string) (string, int) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append([]string{command, "--proxy", "https://" + w.tlsProxy, "--ca-file", w.CAFile}, args...)...)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "BITBUCKET_STEP_OIDC_TOKEN=" + token, "BITBUCKET_STEP_UUID=" + bitbuckettest.Braced(c.step.UUID)}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), token) {
			t.Errorf("%s prints the token", command)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, status := run(c.token, "doctor", "--to", target)
	if status != 1 || !strings.Contains(out, "accepts the token: acme/payments") || !strings.Contains(out, target+" is denied: no_rule_matched") {
		t.Errorf("doctor: %d\n%s", status, out)
	}
	other := w.anybody()
	if out, _ := run(other.token, "doctor"); !strings.Contains(out, "failed   token step") {
		t.Errorf("doctor with another step's token:\n%s", out)
	}
	out, status = run(c.token, "report", "--format", "json")
	var report struct {
		Problems []struct {
			Outcome, Target, Reason string
			IDs                     []string `json:"decision_ids"`
		}
		Rules string
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil || status != 0 || len(report.Problems) != 1 || report.Problems[0].Target != target || !strings.Contains(report.Rules, `"`+target+`"`) {
		t.Fatalf("report: %d, %v\n%s", status, err, out)
	}
	if rows := w.query(t, `SELECT host FROM audit.events WHERE decision_id = $1::text::uuid AND kind = 'decision'`, report.Problems[0].IDs[0]); len(rows) != 1 || rows[0]["host"] != host {
		t.Errorf("the decision of the report in the log: %v", rows)
	}
	out, status = run(c.token, "check-network", "--dns", silent.LocalAddr().String(), "--timeout", "100ms")
	if status != 1 || !strings.Contains(out, "dns_udp") || strings.Contains(out, "not in the audit log") {
		t.Errorf("check-network: %d\n%s", status, out)
	}
	if rows := w.query(t, `SELECT outcome FROM audit.network_checks WHERE step_uuid = $1::text::uuid`, c.step.UUID); len(rows) != 1 || rows[0]["outcome"] != "error" {
		t.Errorf("network checks in the log: %v", rows)
	}
	w.stop()
}
