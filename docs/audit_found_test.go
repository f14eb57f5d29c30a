package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgembed"
)

// What no run repeats.
var reviewVaries = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\+[0-9a-f]{8}\+[A-Za-z0-9+/=]{44}`), "+<key>"},
	{regexp.MustCompile(`[A-Za-z0-9+/]{43}=`), "<hash>"},
	{regexp.MustCompile(`writer [0-9a-f]{12}-[0-9A-Za-z_-]{22}`), "writer <id>"},
	{regexp.MustCompile(`in [0-9.]+m?s, \d+ a second`), "in <time>"},
	{regexp.MustCompile(`\b(late|ahead|latest) by \d+ (?:d|h|min|s)\b(?: \d+ (?:h|min|s)\b)?`), "$1 by <time>"}, // the page's log is older each day
	{regexp.MustCompile(`\d+ of \d+ bytes`), "<number> of <size> bytes"},
	// How large the log is depends on what a start and a page's commands record.
	{regexp.MustCompile(`\bsizes? \d+( to \d+)?`), "size <size>"}, {regexp.MustCompile(`\b\d+ events( from \d+ to \d+)?`), "<count> events"},
}

var reviewTime = regexp.MustCompile(`20\d\d-\d\d-\d\dT[0-9:.]+Z`)

// unvarying takes out of a text what no run repeats.
func unvarying(text string) string {
	for _, v := range reviewVaries {
		text = v.what.ReplaceAllString(text, v.as)
	}
	text = reviewTime.ReplaceAllStringFunc(text, func(at string) string {
		if strings.HasPrefix(at, "2026-10-") && strings.HasSuffix(at, ":00Z") || strings.HasSuffix(at, "-01T00:00:00Z") {
			return at // the seed's, and a period's
		}
		return "<time>"
	})
	return strings.TrimSpace(text)
}

// compare holds what was printed against the page, and the page with a line changed
// or left out against what was printed.
func (a *review) compare(block, output, want string) {
	a.t.Helper()
	output = unvarying(output)
	if output != unvarying(want) {
		a.t.Errorf("%sprints\n%s\nand the page says\n%s", block, output, want)
		return
	}
	lines := slices.Collect(strings.Lines(want))
	for i := range lines {
		if strings.TrimSpace(lines[i]) == "" {
			continue
		}
		if unvarying(strings.Join(slices.Delete(slices.Clone(lines), i, i+1), "")) == output {
			a.t.Errorf("a page without %q passes", lines[i])
		}
	}
}

// answers checks that each command reports what the month holds.
func (a *review) collectOutput() {
	a.t.Helper()
	for begins, want := range map[string]string{
		"sallyport audit query":          `"attributes":{"operator":"bob","operator_uid":"1001"}`,
		"sallyport audit stats":          "allowed 10, allowed only in report mode 1, denied 7; 9007860 bytes sent, 106720 received",
		"sallyport audit tail":           " decision deny ",
		"sallyport audit key rotate":     "handed over\nfrom acme.example/egress+",
		"sallyport audit reconciliation": "observed            1\n",
		"sallyport audit hold list":      ": audit of 2026\n",
	} {
		if !strings.Contains(a.output(begins), want) {
			a.t.Errorf("%s says\n%s\nand not %q", begins, a.output(begins), want)
		}
	}
	proofs := strings.Split(strings.TrimSpace(a.read("proof.jsonl")), "\n")
	if len(proofs) != 2 {
		a.t.Errorf("there are %d proofs", len(proofs))
	}
	for _, line := range proofs {
		var p struct {
			Record, Checkpoint string
			Leaf               int64
			Hashes             []audit.Hash
		}
		a.check(json.Unmarshal([]byte(line), &p))
		signer, err := audit.ParseSigner(a.key)
		a.check(err)
		c, _, err := audit.OpenCheckpoint([]byte(p.Checkpoint), signer.Key())
		a.check(err)
		a.check(audit.CheckInclusion(p.Hashes, c.Size, c.Root, p.Leaf, audit.Leaf([]byte(p.Record))))
	}
}

// output is all that the blocks with a command printed.
func (a *review) output(begins string) string {
	var all strings.Builder
	for block, text := range a.printed {
		if strings.Contains("\n"+block, "\n"+begins) {
			all.WriteString(text)
		}
	}
	return all.String()
}

// handed: what went out of the log is in it, by the digest of the file.
func (a *review) checkHandover() {
	a.t.Helper()
	conn, err := pgx.Connect(a.t.Context(), a.url(database.Auditor))
	a.check(err)
	defer conn.Close(context.Background())
	for file, what := range map[string]string{"partner.csv": "audit query", "log.jsonl": "audit export", "october/manifest": "audit evidence"} {
		var found int
		a.check(conn.QueryRow(a.t.Context(), `SELECT count(*) FROM audit.operations WHERE kind = 'export' AND attributes ->> 'what' = $1
			AND attributes ->> 'digest' = 'sha256:' || encode(sha256($2), 'hex')`, what, []byte(a.read(file))).Scan(&found))
		if found != 1 {
			a.t.Errorf("%s is recorded %d times", file, found)
		}
	}
}

// sample: the decisions that anybody draws with the page's script are those of the pack.
func (a *review) sample() {
	a.t.Helper()
	script := a.find("awk -F ")
	for _, of := range []int{25, 5} { // all there are, and fewer
		output, status := a.sh(strings.NewReplacer("--sample 25", fmt.Sprintf("--sample %d", of), "./october", fmt.Sprintf("./sample-%d", of)).Replace(a.find("sallyport audit evidence --database")) +
			"echo DRAWN\n" + strings.Replace(script, "head -n 25", fmt.Sprintf("head -n %d", of), 1))
		_, list, _ := strings.Cut(output, "DRAWN\n")
		var drawn []string
		for line := range strings.Lines(list) {
			drawn = append(drawn, strings.Fields(line)[1])
		}
		slices.Sort(drawn)
		details, err := filepath.Glob(a.path(fmt.Sprintf("sample-%d/samples/*.json", of)))
		a.check(err)
		for i, d := range details {
			details[i] = strings.TrimSuffix(filepath.Base(d), ".json")
		}
		if status != 0 || len(drawn) != min(of, 18) || !slices.Equal(drawn, details) {
			a.t.Errorf("drawn were %q, and the pack has %q:\n%s", drawn, details, output)
		}
	}
}

// find is the command of the page that begins so.
func (a *review) find(begins string) string {
	a.t.Helper()
	for block := range a.printed {
		for _, script := range scripts(block) {
			if strings.HasPrefix(script, begins) {
				return script
			}
		}
	}
	a.t.Fatalf("the page has no command %s", begins)
	return ""
}

// tamper changes the pack, the export and the log. Each is found by the page's own
// command, and the pack can be made again to the byte.
func (a *review) tamper() {
	a.t.Helper()
	found := func(command, want string) {
		a.t.Helper()
		if output, status := a.sh(command); status != 1 || !strings.Contains(output, want) {
			a.t.Errorf("%sended with %d, and does not say %s:\n%s", command, status, want, output)
		}
	}
	again := strings.Replace(a.find("sallyport audit evidence --database"), "./october", "./again", 1)
	if output, status := a.sh(again + "diff -r october again\n"); status != 0 {
		a.t.Errorf("the pack is another one when it is made again: %d\n%s", status, output)
	}
	for file, from := range map[string][2]string{"october/population.csv": {"api.partner.example", "api.partner.exampel"}, "log.jsonl": {`"verdict":"deny"`, `"verdict":"allow"`}} {
		a.write(file, strings.Replace(a.read(file), from[0], from[1], 1))
	}
	found(a.find("sallyport audit evidence check"), "population.csv")
	found(a.find("sallyport audit verify --export"), "tree_changed")
	conn, err := pgx.Connect(a.t.Context(), a.url(pgembed.Superuser))
	a.check(err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(a.t.Context(), `ALTER TABLE audit.events DISABLE TRIGGER ALL; ALTER TABLE audit.events_2026_10 DISABLE TRIGGER ALL;
		UPDATE audit.events e SET record = audit.record(e), record_rest = NULL, host = 'elsewhere.example' WHERE decision_id = '019a0000-0000-7000-8000-000000000003' AND kind = 'decision'`)
	a.check(err)
	found(a.find("sallyport audit verify --database"), "column_changed")
	_, err = conn.Exec(a.t.Context(), `UPDATE audit.events SET bytes_sent = 1
		WHERE decision_id = '019a0000-0000-7000-8000-000000000003' AND kind = 'tunnel_closed'`)
	a.check(err)
	found(a.find("sallyport audit verify --database"), "record_changed")
	found(a.find("sallyport audit show"), "NOT PROVEN")
	found(a.find("sallyport audit proof --database-url-file auditor-url 019a"), "not the one that was sealed")
}
