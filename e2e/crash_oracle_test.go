package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// findings are what is wrong with the log of a campaign that is at rest: an
// empty list is what it has to be. since is the nonces that have been checked
// before.
func (c *campaign) findings() []string {
	c.t.Helper()
	var wrong []string
	find := func(what, sql string, args ...any) {
		c.t.Helper()
		rows := c.w.query(c.t, sql, args...)
		for _, row := range rows[:min(len(rows), 3)] {
			wrong = append(wrong, fmt.Sprintf("%s: %v (%d in all)", what, row, len(rows)))
		}
	}
	all := c.traffic.up.list(c.t)
	arrived := all[c.looked:]
	c.looked = len(all)
	known := make(map[string]int, len(all))
	for _, nonce := range all {
		known[nonce]++
	}
	for _, nonce := range arrived {
		if known[nonce] > 1 {
			wrong = append(wrong, "the nonce "+nonce+" has arrived twice")
		}
	}
	c.traffic.mu.Lock()
	for _, nonce := range c.traffic.seen {
		if known[nonce] == 0 {
			wrong = append(wrong, "the nonce "+nonce+" came through for its client, and did not arrive")
		}
	}
	c.traffic.seen = c.traffic.seen[:0]
	c.traffic.mu.Unlock()

	const nonces = `unnest($1::text[]) AS n(nonce) CROSS JOIN LATERAL (VALUES (n.nonce || '.raw.crash.example'), (n.nonce || '.tls.crash.example')) AS h(host)`
	find("a tunnel carried bytes and has not one decision that allowed it", `SELECT n.nonce, count(e.decision_id) AS decisions FROM `+nonces+`
		LEFT JOIN audit.events e ON e.host = h.host AND e.kind = 'decision' AND e.verdict = 'allow' GROUP BY n.nonce HAVING count(e.decision_id) <> 1`, arrived)
	find("a tunnel carried bytes, and the log says that nothing came of it", `SELECT n.nonce FROM `+nonces+`
		JOIN audit.events e ON e.host = h.host AND e.kind = 'decision' JOIN audit.events x ON x.decision_id = e.decision_id AND x.close_reason = 'audit_unavailable'`, arrived)
	const recent = ` FROM audit.events WHERE time >= to_timestamp($1) `
	find("a host has more decisions than one", `SELECT host, count(*)`+recent+`AND kind = 'decision' AND host LIKE '%.crash.example' GROUP BY host HAVING count(*) > 1`, c.since)
	find("an event is there twice", `SELECT decision_id, kind, count(*)`+recent+`AND decision_id IS NOT NULL GROUP BY 1, 2 HAVING count(*) > 1`, c.since)
	find("a number is there twice", `SELECT writer, writer_sequence, count(*)`+recent+`GROUP BY 1, 2 HAVING count(*) > 1`, c.since)
	find("a writer has a gap", `SELECT writer, missing, last_sequence FROM audit.writers WHERE missing <> 0 OR started_at IS NULL`)
	find("a journal was damaged", `SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS said FROM audit.events
		WHERE action = 'journal_replayed' AND convert_from(record, 'UTF8')::json -> 'attributes' ->> 'damage' IS NOT NULL`)
	if code, out, errOut := command(c.t, "audit", "verify", "-c", c.w.config, "--key", c.key, "--checkpoint", filepath.Join(c.w.data, "checkpoints")); code != 0 {
		wrong = append(wrong, "audit verify: "+strings.TrimSpace(out+errOut))
	}
	left, _ := filepath.Glob(filepath.Join(c.w.data, "journal", "*"))
	// What was being written at a kill -9 was not acknowledged, and is kept.
	left = slices.DeleteFunc(left, func(path string) bool { return strings.HasSuffix(path, ".cut") })
	if len(left) > 0 {
		wrong = append(wrong, fmt.Sprintf("left in the journal's folder: %v", left))
	}
	c.checked += len(arrived)
	return wrong
}
