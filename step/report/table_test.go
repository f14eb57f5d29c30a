package report

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/stepapi"
)

const wantTable = `sallyport: what this step of acme/payments, deployment production, requested
3 allowed, 5 denied, 1 closed
OUTCOME      TIMES  TARGET                   REASON
denied           1  a.example:443            proxy_unreachable
                    to do: check the proxy
denied           1  mirror.example:80        no_rule_matched
                    decision d9
denied           1  paste.example:80         policy_denied
                    pastes are not allowed; rule guardrails; decision d2; to do:
                    do not repeat the request
denied          11  registry.a.example:443   no_rule_matched
                    decision 01a1fdf4-c192-7cf7-900b-49ceb24f5238; to do: ask
                    the owner of the policy for a rule
closed           1  www.partner.example:443  hello_encrypted
                    decision d3; to do: set "ech": true in the rule

OUTCOME      TIMES  TARGET                   BYTES SENT, RECEIVED
allowed          3  api.partner.example:443  1200, 340000
allowed          1  old.example:443          10, 20

Rules to ask the owner of the policy for, as the file
repositories/acme/payments/requested.rego:

# Requested by one step of "acme/payments", and not allowed. Review each line.
package sallyport.repository["acme/payments"]

import data.sallyport.lib

# registry.a.example: 11 times (denied: no_rule_matched)
allow contains {"rule": "requested-production"} if {
	input.principal.deployment.slug == "production"
	lib.target_in(input.target, {
		"registry.a.example",
	})
}

# www.partner.example: once (closed: hello_encrypted)
allow contains {"rule": "requested-production-2", "ech": true} if {
	input.principal.deployment.slug == "production"
	lib.target_in(input.target, {
		"www.partner.example",
	})
}

# mirror.example:80: once (denied: no_rule_matched)
allow contains {"rule": "requested-production-http"} if {
	input.action == "request"
	input.principal.deployment.slug == "production"
	lib.target_in(input.target, {
		"mirror.example:80",
	})
}
`

func TestTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	if err := Run(t.Context(), Config{Server: withServer(serverStep()), Local: localReport()}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != wantTable {
		t.Errorf("got\n%s\nwant\n%s", out.String(), wantTable)
	}
}

// checkTable fails if a line of the table is longer than the width, or has a character that
// a terminal interprets.
func checkTable(t *testing.T, s *Summary, width int) string {
	t.Helper()
	s.Rules = "" // their lines are copied, not read
	var out strings.Builder
	if err := printTable(&out, s, width); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if len(line) > width {
			t.Errorf("a line has %d columns, and the width is %d: %s", len(line), width, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
			t.Errorf("a line has %q", line[i])
		}
	}
	return out.String()
}

// TestTableOfHostileTexts: long names are complete, and control characters are escaped.
func TestTableOfHostileTexts(t *testing.T) {
	t.Parallel()
	host := strings.Repeat("very-long-label-of-a-host-name.", 8) + "example:443"
	for _, width := range []int{80, 100} {
		step := serverStep()
		step.Entries = append(step.Entries,
			stepapi.Entry{Kind: stepapi.KindRefused, Reason: "no_rule_matched", Target: host, Message: strings.Repeat("word ", 100)},
			stepapi.Entry{Kind: stepapi.KindRefused, Reason: "x\x1b[2J\u202e", Target: "a\nsallyport: nothing was denied\r", Rule: "\x00", Next: "\x9b", DecisionID: "\u2028"})
		step.Principal.Repository = "acme/\x1b]0;x\x07"
		text := checkTable(t, summary(t, Config{Server: withServer(step)}), width)
		if joined := strings.Join(strings.Fields(text), ""); !strings.Contains(joined, host) {
			t.Errorf("the long name is not complete:\n%s", text)
		}
		if !strings.Contains(text, `a\nsallyport:`) {
			t.Errorf("the line end is not escaped:\n%s", text)
		}
	}
}

func TestEmptyTable(t *testing.T) {
	t.Parallel()
	if text := checkTable(t, summary(t, Config{Server: withServer(&stepapi.Step{Mode: stepapi.ModeReport})}), 80); !strings.Contains(text, "nothing was denied or closed\n") {
		t.Error(text)
	}
}

func FuzzTable(f *testing.F) {
	f.Add("a.example:443", "no_rule_matched", "a message", 80)
	f.Add(strings.Repeat("x", 300), "\x1b", "\xff \n", 60)
	f.Fuzz(func(t *testing.T, target, reason, message string, width int) {
		if width < minWidth || width > maxWidth {
			return
		}
		step := serverStep()
		step.Entries = append(step.Entries, stepapi.Entry{Kind: stepapi.KindRefused, Target: target, Reason: reason, Message: message, Next: message},
			stepapi.Entry{Kind: reason, Target: message, Reason: target})
		checkTable(t, summary(t, Config{Server: withServer(step)}), width)
	})
}
