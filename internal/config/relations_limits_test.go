package config

import (
	"strings"
	"testing"
)

// TestShares: a share above the one that contains it is an error, one that is not
// given follows, and one repository's share of everything is a warning.
func TestShares(t *testing.T) {
	_, file := newDirectory(t)
	with := func(limits string) string { return minimal + "limits: " + limits + "\n" }
	for limits, want := range map[string]string{
		"{step: {tunnels: 5000}}":                                                                                  "limits.step.tunnels: it is above limits.repository.tunnels (4000, by default)",
		"{repository: {tunnels: 200}, total: {tunnels: 100}}":                                                      "limits.repository.tunnels: it is above limits.total.tunnels (100)",
		"{step: {max_concurrent_dials: 300}}":                                                                      "limits.step.max_concurrent_dials: it is above limits.repository.max_concurrent_dials (250, by default)",
		"{step: {max_concurrent_lookups: 300}, repository: {max_concurrent_lookups: 200}}":                         "limits.step.max_concurrent_lookups: it is above limits.repository.max_concurrent_lookups (200)",
		"{repository: {max_pending_header_bytes: 65MiB}}":                                                          "limits.repository.max_pending_header_bytes: it is above limits.total.max_pending_header_bytes",
		"{step: {requests_per_second: 10}, repository: {requests_per_second: 9}}":                                  "limits.step.requests_per_second: it is above limits.repository.requests_per_second (9)",
		"{repository: {requests_per_second: 0}, step: {requests_per_second: 10}, total: {requests_per_second: 9}}": "limits.step.requests_per_second: it is above limits.total.requests_per_second (9)",
		"{total: {max_queued_requests: 5}, repository: {max_queued_requests: 6}}":                                  "limits.repository.max_queued_requests: it is above limits.total.max_queued_requests (5)",
		"{total: {max_concurrent_dials: 0}}":                                                                       "limits.total.max_concurrent_dials: want between 1 and",
		"{total: {max_concurrent_dails: 10}}":                                                                      "max_concurrent_dials",
		"{dials: 10}":                                                                                              "unknown",
	} {
		_, err := Parse(file, []byte(with(limits)))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", limits, err, want)
		}
	}
	cfg, err := Parse(file, []byte(with("{total: {tunnels: 10, max_concurrent_dials: 1}, step: {requests_per_second: 0}, repository: {max_concurrent_lookups: 256}}")))
	if err != nil {
		t.Fatal(err)
	}
	l := cfg.Limits
	if l.Repository.Tunnels != 5 || l.Step.Tunnels != 2 || l.Repository.Dials != 1 || l.Step.Dials != 1 || l.Step.RequestsPerSecond != 0 || l.Step.Lookups != 32 {
		t.Errorf("%+v", l)
	}
	if w := cfg.Warnings(); len(w) != 1 || !strings.Contains(w[0].String(), "one repository can take all of limits.total.max_concurrent_lookups") {
		t.Errorf("warnings: %v", w)
	}
}
