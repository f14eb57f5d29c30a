package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// contents are the files of a folder.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	if err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(text)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return files
}

// TestEvidence: an auditor makes a pack of real traffic; made again after more
// traffic it is the same; its counts are those of SQL; it checks by itself, and
// not with any file changed; and one of a database that was tampered with reports it.
func TestEvidence(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	key := filepath.Join(t.TempDir(), "key")
	public := newKeyFile(t, key)
	w.seals(t, fmt.Sprintf("  signing_key_file: %q\n  checkpoints: {interval: 200ms}\n", key))
	w.start()
	target := echo(t)
	from := time.Now().Add(-time.Minute)
	for range 5 {
		a := w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port)
		a.echoes(t, "hello")
		_ = a.conn.Close()
		w.connect(t, w.caller(w.Payments, nil, "=evil|branch"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
	}
	eventually(t, "all tunnels have their end", func() bool {
		return fmt.Sprint(w.query(t, `SELECT count(*) AS n FROM audit.decisions WHERE verdict = 'allow' AND closed_at IS NULL`)[0]["n"]) == "0"
	})
	to := time.Now()
	w.sealed(t)

	login := filepath.Join(t.TempDir(), "auditor-url")
	if err := os.WriteFile(login, []byte(withUser(w.database.admin, "sallyport_auditor", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(w.data, "checkpoints")
	trusted := []string{"--key", public, "--checkpoint", outside}
	pack := func(status int, more ...string) (dir, output string) {
		t.Helper()
		dir = filepath.Join(t.TempDir(), "pack")
		args := append([]string{"audit", "evidence", "--database-url-file", login, "--signing-key", key, "--sample", "3", "--seed", "s",
			"--since", from.Format(time.RFC3339Nano), "--until", to.Format(time.RFC3339Nano), "--out", dir}, more...)
		code, out, errOut := command(t, args...)
		if code != status {
			t.Fatalf("%v ended with %d, not %d:\n%s%s", args, code, status, out, errOut)
		}
		return dir, out + errOut
	}
	first, output := pack(0, trusted...)
	if !strings.Contains(output, "sound: nothing") || !strings.Contains(output, "anchored      the checkpoint from outside") {
		t.Errorf("it said\n%s", output)
	}
	counts(t, w, first, from, to)
	checks := func(dir string, status int, want string) {
		t.Helper()
		args := append([]string{"audit", "evidence", "check", dir}, trusted...)
		if code, out, errOut := command(t, args...); code != status || !strings.Contains(out, want) {
			t.Errorf("check ended with %d:\n%s%s", code, out, errOut)
		}
		var report struct{ Result string }
		result := map[int]string{0: "sound", 1: "damaged"}[status]
		if code, out, _ := command(t, append(args, "--format", "json")...); code != status || json.Unmarshal([]byte(out), &report) != nil || report.Result != result {
			t.Errorf("check ended with %d, want %s: %s", code, result, out)
		}
	}
	checks(first, 0, "whole: nothing of the pack was changed")

	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	w.sealed(t)
	if exports := w.query(t, `SELECT FROM audit.events WHERE kind = 'export'`); len(exports) != 1 {
		t.Errorf("%d exports are on record", len(exports))
	}
	again, _ := pack(0, trusted...)
	files, others := contents(t, first), contents(t, again)
	for name, text := range files {
		if others[name] != text {
			t.Errorf("%s is another one", name)
		}
		if strings.HasPrefix(name, "tables/") || strings.HasSuffix(name, ".html") && name != "report.html" || text == "" {
			continue // the package's own tests change every file
		}
		spoilt := []byte(text)
		spoilt[len(spoilt)/3] ^= 1
		path := filepath.Join(again, name)
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		checks(again, 1, "first         "+name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A later checkpoint from outside speaks for it as well.
	published, err := os.ReadFile(outside)
	if err != nil {
		t.Fatal(err)
	}
	latest := filepath.Join(t.TempDir(), "latest")
	if err := os.WriteFile(latest, audit.LatestCheckpoint(audit.SplitCheckpoints(published)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, output := pack(0, "--key", public, "--checkpoint", latest); !strings.Contains(output, "anchored      the checkpoint from outside") {
		t.Errorf("it said\n%s", output)
	}
	otherCheckpoint(t, w, first, login, latest, public)
	for _, c := range []struct {
		status int
		args   []string
	}{
		{2, []string{"--out", first}}, {2, []string{"--since", "yesterday"}}, {2, []string{"--sample", "-1"}},
		{1, []string{"--until", "2999-01-01"}}, {1, []string{"--size", "1000000"}}, // no checkpoint covers that yet
	} {
		_, output := pack(c.status, append(c.args, trusted...)...)
		if !strings.HasPrefix(output, "sallyport: ") {
			t.Errorf("%v: %s", c.args, output)
		}
	}

	// With the configuration, whose key then signs.
	own := filepath.Join(t.TempDir(), "own")
	w.operatorCommand(t, 1, "audit", "evidence", "--since", from.Format(time.RFC3339Nano), "--until", to.Format(time.RFC3339Nano), "--repository", "acme/payments", "--out", own)
	checks(own, 0, "by acme.example/egress+")
	quoted := 0
	for name, text := range contents(t, own) {
		if strings.HasSuffix(name, ".json") && strings.Contains(text, `"rule": "raw"`) && strings.Contains(text, `"first_line"`) {
			quoted++
		}
		if name == "tables/exceptions.csv" && strings.Contains(text, "could not be read") {
			t.Error(text)
		}
	}
	if quoted != 5 {
		t.Errorf("%d sample details quote the rule that allowed", quoted)
	}

	w.alter(t, `ALTER TABLE audit.events DISABLE TRIGGER ALL;
		DO $$ DECLARE p regclass; BEGIN
			FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass LOOP
				EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', p);
			END LOOP;
		END $$;
		UPDATE audit.events e SET record = audit.record(e), record_rest = NULL, time = time - interval '2 hours' WHERE (writer, writer_sequence) IN (
			SELECT writer, writer_sequence FROM audit.events WHERE host = 'api.partner.example' LIMIT 1)`)
	spoilt, output := pack(1, trusted...)
	if !strings.Contains(output, "DAMAGED") || !strings.Contains(output, "column_changed") || !strings.Contains(output, "population_differs") {
		t.Errorf("it said\n%s", output)
	}
	if report := contents(t, spoilt); !strings.Contains(report["report.html"], "DAMAGED") || !strings.Contains(report["current/triggers.csv"], "DISABLED") {
		t.Error("the report does not say that the log is damaged, or that triggers are off")
	}
	checks(spoilt, 1, "THE LOG IS DAMAGED")
}

// otherCheckpoint checks a pack against a checkpoint that it has no proof for: with
// one that is printed for it, and without.
func otherCheckpoint(t *testing.T, w *fixture, pack, login, latest, public string) {
	t.Helper()
	size := func(note []byte) int64 {
		t.Helper()
		c, err := audit.ReadCheckpoint(note)
		if err != nil {
			t.Fatal(err)
		}
		return c.Size
	}
	var manifest struct{ Checkpoint string }
	text := contents(t, pack)["manifest"]
	body := text[strings.Index(text, "{"):]
	if err := json.NewDecoder(strings.NewReader(body)).Decode(&manifest); err != nil {
		t.Fatal(err)
	}
	note, err := os.ReadFile(latest)
	if err != nil {
		t.Fatal(err)
	}
	own, other := size([]byte(manifest.Checkpoint)), size(note)
	code, out, errOut := command(t, "audit", "evidence", "check", pack, "--key", public, "--checkpoint", latest)
	if code != 1 || !strings.Contains(out, "UNCONFIRMED") || !strings.Contains(out, "NOT ANCHORED") {
		t.Errorf("a checkpoint without a proof: %d\n%s%s", code, out, errOut)
	}
	code, line, errOut := command(t, "audit", "proof", "--database-url-file", login, "--from-size", fmt.Sprint(own), "--to-size", fmt.Sprint(other))
	if code != 0 {
		t.Fatalf("no proof: %d\n%s", code, errOut)
	}
	proof := filepath.Join(t.TempDir(), "proof")
	if err := os.WriteFile(proof, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errOut = command(t, "audit", "evidence", "check", pack, "--key", public, "--checkpoint", latest, "--proof", proof)
	if code != 0 || !strings.Contains(out, fmt.Sprintf("the checkpoint from outside of size %d is valid", other)) {
		t.Errorf("with a proof: %d\n%s%s", code, out, errOut)
	}
	for _, args := range [][]string{{"--proof", latest}, {"--unanchored"}} {
		if code, out, errOut := command(t, append([]string{"audit", "evidence", "check", pack, "--key", public}, args...)...); code != 2 {
			t.Errorf("%v: %d\n%s%s", args, code, out, errOut)
		}
	}
	if code, out, _ := command(t, "audit", "evidence", "check", pack); code != 1 || !strings.Contains(out, "NOT ANCHORED") {
		t.Errorf("nothing is given: %d\n%s", code, out)
	}
	if code, out, _ := command(t, "audit", "evidence", "check", pack, "--unanchored"); code != 0 || !strings.Contains(out, "as --unanchored accepts") {
		t.Errorf("accepted: %d\n%s", code, out)
	}
}

// counts compares a pack with the counts of SQL.
func counts(t *testing.T, w *fixture, dir string, from, to time.Time) {
	t.Helper()
	files := contents(t, dir)
	rows, err := csv.NewReader(strings.NewReader(files["population.csv"])).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, verdict := range []string{"allow", "deny"} {
		want := fmt.Sprint(w.query(t, `SELECT count(*) AS n FROM audit.decisions WHERE time >= $1 AND time < $2 AND verdict = $3`, from, to, verdict)[0]["n"])
		got := 0
		for _, r := range rows[1:] {
			if r[3] == verdict {
				got++
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%d decisions %s, and SQL has %s", got, verdict, want)
		}
	}
	sent := w.query(t, `SELECT sum(bytes_sent) AS n FROM audit.decisions WHERE time >= $1 AND time < $2 AND host = 'raw.partner.example'`, from, to)[0]["n"]
	if !strings.Contains(files["tables/destinations.csv"], fmt.Sprintf(`"5","0","0","%v"`, sent)) {
		t.Errorf("%v bytes were sent, and the table says\n%s", sent, files["tables/destinations.csv"])
	}
	if strings.Contains(files["tables/denials.csv"], `"=evil`) || !strings.Contains(files["tables/denials.csv"], "evil|branch") {
		t.Error("the branch is a formula, or is not there")
	}
	if !strings.Contains(files["current/grants.csv"], `"sallyport_writer","INSERT"`) || strings.Contains(files["current/triggers.csv"], "DISABLED") || strings.Count(files["current/unguarded.csv"], "\n") != 1 {
		t.Errorf("the rights are shown as\n%s%s%s", files["current/grants.csv"], files["current/triggers.csv"], files["current/unguarded.csv"])
	}
	if !strings.Contains(files["manifest"], "— acme.example/egress ") {
		t.Error("the manifest is not signed")
	}
}
