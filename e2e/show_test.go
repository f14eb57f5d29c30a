package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// show runs `audit show`.
func (w *fixture) show(t testing.TB, id string) string {
	t.Helper()
	return w.operatorCommand(t, 0, "audit", "show", id)
}

// TestShow: the id that a step receives leads to the request, the reason for
// the decision, and how it ended; in text and as the records that were hashed.
func TestShow(t *testing.T) {
	t.Parallel()
	for _, embedded := range []bool{false, true} {
		t.Run(fmt.Sprintf("embedded=%t", embedded), func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{embedded: embedded})
			w.start()
			denied := w.production()
			id := w.connect(t, denied, "paste.unlisted.example:443").refused(t, 403, "policy_denied")
			output := w.show(t, id)
			for _, want := range []string{"decision " + id, "verdict      deny", "reason       policy_denied", "rule         no-pastebins", "message      Pastebins are not for pipelines",
				"repository   acme/payments (" + w.Payments.UUID, "deployment   production (" + w.Production.UUID + "), production", "branch       main", denied.step.UUID,
				"asked for    connect paste.unlisted.example:443", "policy       sha256:", "status       403", "\nthe rule, egress/", `"rule": "no-pastebins"`} {
				if !strings.Contains(output, want) {
					t.Errorf("it does not say %q:\n%s", want, output)
				}
			}
			if strings.Contains(output, "\nend") || strings.Contains(output, "no end") {
				t.Errorf("a refusal has no end:\n%s", output)
			}

			target, c := echo(t), w.anybody()
			a := w.tunnel(t, c, "raw.partner.example:"+target.port)
			a.echoes(t, "hello")
			open := w.decisions(t, c.step.UUID)[0]["decision_id"].(string)
			if output := w.show(t, open); !strings.Contains(output, "no end is recorded: it is open") {
				t.Errorf("an open tunnel:\n%s", output)
			}
			_ = a.conn.Close()
			w.decision(t, c)
			output = w.show(t, strings.ToUpper("{"+open+"}")) // as people paste them
			for _, want := range []string{"verdict      allow", "end (tunnel_closed)", "sent         5 bytes", "received     5 bytes", "close reason ", "dialed       127.0.0.1"} {
				if !strings.Contains(output, want) {
					t.Errorf("it does not say %q:\n%s", want, output)
				}
			}
			var got struct{ Events []fields }
			if err := json.Unmarshal([]byte(w.operatorCommand(t, 0, "audit", "show", "--format", "json", open)), &got); err != nil || len(got.Events) != 2 {
				t.Fatalf("%v: %v", err, got)
			}
			check(t, "first record", got.Events[0], fields{"kind": "decision", "decision_id": open, "verdict": "allow", "rule": "raw"})
			check(t, "second record", got.Events[1], fields{"kind": "tunnel_closed", "decision_id": open, "bytes_sent": 5})

			w.sealed(t)
			if output := w.show(t, open); strings.Count(output, "  sealed       as leaf ") != 2 || strings.Count(output, ", proven up to the checkpoint of size ") != 2 {
				t.Errorf("sealed, it says\n%s", output)
			}
			for args, status := range map[string]int{"01a1fdf4-c192-7cf7-900b-49ceb24f5238": 1, "no-id": 2, "01a1fdf4-c192-7cf7-900b-49ceb24f523": 2, "": 2, "' OR true --": 2} {
				if output := w.operatorCommand(t, status, "audit", "show", args); !strings.HasPrefix(output, "sallyport: ") || strings.Count(output, "\n") > 2 {
					t.Errorf("%q: %q", args, output)
				}
			}
			w.operatorCommand(t, 2, "audit", "show")
			if embedded {
				w.stop()
				if output := w.show(t, id); !strings.Contains(output, "decision "+id) {
					t.Errorf("while no server runs:\n%s", output)
				}
			}
		})
	}
}
