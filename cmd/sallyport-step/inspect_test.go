package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestInspect: doctor, report and check-network use the running forwarder without options
// and without the token, and need --proxy where there is none.
func TestInspect(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	s := newStep(t, "sh")
	own := " --ca-file " + p.caFile + " --proxy " + p.url + "\n"
	for _, c := range []struct {
		script, out, cause string
		status             int
	}{
		{"sallyport-step doctor\n", "", "no forwarder is running", 2},
		{"sallyport-step report\n", "", "no forwarder is running", 1},
		{"sallyport-step check-network --tcp 192.0.2.1\n", "", "no forwarder is running", 2},
		{"sallyport-step check-network --no-record\n", "", "no address to test", 2},
		{"sallyport-step doctor --format jsno\n", "", "did you mean json?", 2},
		{"sallyport-step report --code-insights" + own, "", "BITBUCKET_REPO_FULL_NAME", 2},
		{"sallyport-step report" + own, "acme/app", "", 0},
		{"sallyport-step dcotor\n", "", "did you mean doctor?", 2},
	} {
		out, errOut, status := s.run(c.script)
		if status != c.status || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.cause) {
			t.Errorf("%s: status %d: %s%s", c.script, status, out, errOut)
		}
	}
	_, errOut, status := s.run("set -e\n" + start(p, "--unset-token") + curlAllowed + "curl -sS -p http://denied.test/ || :\n" +
		"sallyport-step report >report 2>err\nsallyport-step report --format json >report.json\n" +
		"sallyport-step check-network --tcp 192.0.2.1 --timeout 200ms >network || :\n" +
		"sallyport-step doctor --to allowed.test:443 --to denied.test:443 >unset || :\nexport BITBUCKET_STEP_OIDC_TOKEN=" + testToken + "\nsallyport-step doctor >doctor || :\nsallyport-step stop >/dev/null 2>&1\n")
	if status != 0 || strings.Contains(errOut, "peer_not_admitted") { // doctor's own connection
		t.Fatal(errOut)
	}
	if text := s.read(s.home + "/report"); !strings.Contains(text, "denied.test:80") || !strings.Contains(text, "origin.test:80") {
		t.Errorf("report: %s", text)
	}
	if text := s.read(s.home + "/report.json"); !json.Valid([]byte(text)) {
		t.Errorf("report: %s", text)
	}
	if text := s.read(s.home + "/network"); !strings.Contains(text, "192.0.2.1") {
		t.Errorf("check-network: %s", text)
	}
	p.mu.Lock()
	if p.checks != 1 {
		t.Errorf("%d network checks are recorded", p.checks)
	}
	p.mu.Unlock()
	if text := s.read(s.home + "/unset"); !strings.Contains(text, "it accepts the forwarder's token: acme/app") {
		t.Errorf("doctor without the token: %s", text)
	} else if !strings.Contains(text, "allowed.test:443 is allowed") || !strings.Contains(text, "denied.test:443 is denied: no_rule_matched") {
		t.Errorf("doctor without the token, targets: %s", text)
	}
	text := s.read(s.home + "/doctor")
	for _, line := range strings.Split(text, "\n") {
		if strings.HasPrefix(line, "ok") && strings.Contains(line, "accepts connections") {
			return
		}
	}
	t.Errorf("doctor: %s", text)
}
