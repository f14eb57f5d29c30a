package forwarder

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestReportIsBounded: the lists end at their bounds, the totals count everything, and
// repeats are counted with the first refusal.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	s := newStatistics()
	const extra = 10
	for i := range maxTargets + extra {
		target := fmt.Sprintf("%d.test:443", i)
		s.allowed(target)
		s.closed(target, 2, 3, i%2 == 0)
		r := Refusal{Action: "connect", Target: target, Refusal: *local(403, "policy_denied", "", "")}
		r.DecisionID = fmt.Sprint(i)
		if !s.refused(r) {
			t.Fatalf("%s is taken for a repeat", target)
		}
		if again := s.refused(r); again != (i >= maxRefusals) {
			t.Fatalf("the repeat of %s: %t", target, again)
		}
		s.repeated("", target, target, r.Reason, r.DecisionID)
	}
	if text, err := json.Marshal(hostileReport()); err != nil || len(text) > 24<<20 {
		t.Errorf("%v: a report has %d bytes", err, len(text))
	}
	r := s.report()
	if len(r.Targets) != maxTargets || len(r.Refusals) != maxRefusals || len(s.targets) != maxTargets || len(s.refusals) != maxRefusals {
		t.Errorf("%d targets, %d refusals", len(r.Targets), len(r.Refusals))
	}
	if first := r.Refusals[0]; first.Repeats != 2 {
		t.Errorf("%d repeats", first.Repeats)
	}
	if r.Allowed != maxTargets+extra || r.Omitted == 0 {
		t.Errorf("%d allowed, %d omitted", r.Allowed, r.Omitted)
	}
	for _, target := range r.Targets {
		if target.Name == "0.test:443" && target != (Target{Name: target.Name, Allowed: 1, Denied: 3, Aborted: 1, BytesSent: 2, BytesReceived: 3, LastReason: "policy_denied"}) {
			t.Errorf("%+v", target)
		}
	}
	r.Refusals[0].Repeats, r.Targets[0].Allowed = 100, 100
	if again := s.report(); again.Refusals[0].Repeats == 100 || again.Targets[0].Allowed == 100 {
		t.Error("the report shares memory with the statistics")
	}
}

// TestRefusedPeersAreBounded: another user, or containers with many addresses, cannot fill
// the build log with lines.
func TestRefusedPeersAreBounded(t *testing.T) {
	t.Parallel()
	s := newStatistics()
	printed := 0
	for i := range 10 * maxPeers {
		for range 2 {
			if s.refused(*notAdmitted(fmt.Sprintf("address 192.0.2.%d", i), "not in a network of the containers")) {
				printed++
			}
		}
	}
	if r := s.report(); printed != maxPeers || len(r.Refusals) != maxPeers || r.Refusals[0].Repeats != 1 || r.Omitted == 0 {
		t.Errorf("%d lines, %d refusals, want %d; the first with %d repeats; %d omitted", printed, len(r.Refusals), maxPeers, r.Refusals[0].Repeats, r.Omitted)
	}
}

// hostileReport is a report of long texts, each byte of which JSON writes with six bytes.
func hostileReport() Report {
	s := newStatistics()
	long := strings.Repeat("\x01", 64<<10)
	for i := range maxTargets {
		s.allowed(fmt.Sprint(i) + long[:maxListedTarget-4])
		r := Refusal{Action: "request", Method: long, Target: fmt.Sprint(i) + long, Refusal: *local(403, long, long, long)}
		r.Rule, r.DecisionID, r.RetryAfter = long, fmt.Sprint(i)+long, long
		s.refused(r)
	}
	return s.report()
}
