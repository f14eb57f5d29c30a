package evidence

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
)

// TestSecretAges: the pack has every secret with its age, and the check finds a pack whose
// table makes a secret younger, although the manifest is signed.
func TestSecretAges(t *testing.T) {
	const name = "tables/secret_ages.csv"
	dir := build(t, october(t), nil)
	good := tree(t, dir)
	want := []string{
		`"yes","webhooks.receivers[policy].secret_file","webhook_secret","2026-06-23T00:00:00.000000Z","121"`,
		`"unknown","identity.bitbucket[0].api.token_file","api_token","",""`,
		`"no","webhooks.listener.tls.certificate_file","certificate","2026-10-01T00:00:00.000000Z","22","2027-10-01T00:00:00.000000Z"`,
		`"no","webhooks.receivers[policy].secret_file","webhook_secret","2026-10-22T08:00:00.000000Z","0"`,
	}
	rows := strings.Split(good[name], "\n")
	for i, row := range want {
		if len(rows) < i+2 || !strings.HasPrefix(rows[i+1], row) {
			t.Fatalf("row %d of\n%s\nis not\n%s", i+1, good[name], row)
		}
	}
	if !strings.Contains(good["report.html"], "1 secret was in use for more than 90 days") || !strings.Contains(good["report.html"], "The age of 1 secret is unknown") ||
		!strings.Contains(good["report.html"], "On 21 days of the period no instance reported") {
		t.Error("the report does not have the counts")
	}
	if !strings.Contains(good["events.jsonl"], `"kind":"secret_ages"`) {
		t.Error("the events of the reports are not in the pack")
	}
	forged := strings.Replace(good[name], `"yes","webhooks.receivers[policy].secret_file","webhook_secret","2026-06-23T00:00:00.000000Z","121"`,
		`"no","webhooks.receivers[policy].secret_file","webhook_secret","2026-10-01T00:00:00.000000Z","21"`, 1)
	hostile := filepath.Join(t.TempDir(), "hostile")
	if err := os.CopyFS(hostile, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hostile, name), []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	resign(t, hostile, good, name, forged)
	if got := check(t, hostile, nil); len(got.Findings) == 0 || !strings.Contains(got.Findings[0], name) {
		t.Errorf("found %q", got.Findings)
	}
}

// TestForgedSecretAges: a login that may record reports that a secret is new. The row has no
// signed start, and the rows of the servers are still there. A line that is not a report is
// an entry of unknown age.
func TestForgedSecretAges(t *testing.T) {
	m := october(t)
	m.secretAges("01a22b5ca7d4-forger", at(23, 7), audit.SecretAge{Name: "webhooks.receivers[policy].secret_file", Kind: "webhook_secret", Since: at(23, 0)})
	m.add("01a22b5ca7d4-forger", &audit.Event{Time: at(23, 8), Kind: audit.KindSecretAges, Attributes: []audit.Attribute{{Name: "secrets", Value: "nothing " + hostile}, {Name: "secrets_left_out", Value: "7"}}})
	m.seal(at(26, 5))
	dir := build(t, m, nil)
	files := tree(t, dir)
	for _, want := range []string{
		`"no","webhooks.receivers[policy].secret_file","webhook_secret","2026-10-23T00:00:00.000000Z","0","","2026-10-23T07:00:00.000000Z","no"`,
		`"2026-10-22T06:00:00.000000Z","yes"`, `"unknown","nothing `,
	} {
		if !strings.Contains(files["tables/secret_ages.csv"], want) {
			t.Errorf("no %s in\n%s", want, files["tables/secret_ages.csv"])
		}
	}
	if !strings.Contains(files["report.html"], "7 more entries of events are not in the table") {
		t.Error("the entries that an event leaves out are not counted")
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}
