package e2e

import "testing"

// TestLimits: the configured limits reach the gate, and what is over a limit is
// answered and recorded under the step's name.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{handler: upstream(t), extra: "limits:\n  step: {tunnels: 2}\n"})
	w.start()
	target := echo(t)
	c := w.anybody()
	head := connectTo("raw.partner.example:"+target.port, c.basic())
	var open []*rawResponse
	for range 2 {
		open = append(open, sendRaw(t, w.proxy, head))
		open[len(open)-1].echoes(t, "hello")
	}
	id := sendRaw(t, w.proxy, head).refused(t, 429, "step_limit")
	rows := w.query(t, `SELECT * FROM audit.events WHERE decision_id = $1::text::uuid`, id)
	if len(rows) != 1 || rows[0]["step_uuid"] != c.step.UUID || rows[0]["reason"] != "step_limit" {
		t.Errorf("on record: %v", rows)
	}
	open = append(open, sendRaw(t, w.proxy, connectTo("raw.partner.example:"+target.port, w.anybody().basic())))
	open[2].echoes(t, "another step")
	_ = open[0].conn.Close()
	eventually(t, "the place is free again", func() bool {
		a := sendRaw(t, w.proxy, head)
		open = append(open, a)
		return a.StatusCode == 200
	})
	for _, a := range open {
		_ = a.conn.Close()
	}
	w.stop()
}
