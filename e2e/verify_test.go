package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// seals adds keys to audit in the configuration, before the start.
func (w *fixture) seals(t testing.TB, keys string) {
	t.Helper()
	w.rewrite(t, "\naudit:\n", "\naudit:\n"+keys)
}

// sealed waits until all that is recorded is sealed.
func (w *fixture) sealed(t testing.TB) {
	t.Helper()
	eventually(t, "everything is sealed", func() bool {
		rows := w.query(t, `SELECT count(*) AS n FROM audit.events e WHERE NOT EXISTS (
			SELECT FROM audit.leaves l WHERE l.writer = e.writer AND l.writer_sequence = e.writer_sequence)`)
		return fmt.Sprint(rows[0]["n"]) == "0"
	})
}

// newKeyFile makes a signing key as an operator does, and returns the public one.
func newKeyFile(t testing.TB, path string) string {
	t.Helper()
	code, out, errOut := command(t, "audit", "key", "generate", "--out", path, "--origin", "acme.example/egress")
	if code != 0 || !strings.HasPrefix(out, "acme.example/egress+") || strings.Contains(out, "PRIVATE") {
		t.Fatalf("%d: %s%s", code, out, errOut)
	}
	return strings.TrimSpace(out)
}

// TestTwoProxiesOneLog: of two proxies on one database one is killed. The other
// continues, seals within ten seconds, and records the outcome of the first; the
// log verifies, from the database and from an export, against what was published
// outside; and a lie of the superuser's does not.
func TestTwoProxiesOneLog(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	keyPath := filepath.Join(t.TempDir(), "key")
	key := newKeyFile(t, keyPath)
	audit := fmt.Sprintf("  signing_key_file: %q\n", keyPath)
	a, b := newFixture(t, options{database: db}), newFixture(t, options{database: db})
	for _, w := range []*fixture{a, b} {
		w.seals(t, audit)
		w.start()
	}
	target := echo(t)
	for range 5 {
		for _, w := range []*fixture{a, b} {
			w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port).conn.Close()
			w.connect(t, w.caller(w.Payments, nil, "feature/x"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
		}
	}
	a.signal(syscall.SIGKILL)
	a.await(-1)
	before := b.query(t, `SELECT max(size) AS size FROM audit.checkpoints`)
	b.connect(t, b.caller(b.Payments, nil, "feature/x"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
	begun := time.Now()
	eventually(t, "the log is sealed further", func() bool {
		return fmt.Sprint(b.query(t, `SELECT max(size) AS size FROM audit.checkpoints`)[0]["size"]) != fmt.Sprint(before[0]["size"])
	})
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	b.log.wait(t, "of the lost writer", message("writer terminated without a writer_ended event", nil))
	b.stop()
	b.sealed(t)
	if lost := b.query(t, `SELECT * FROM audit.events WHERE kind = 'writer_lost'`); len(lost) != 1 {
		t.Errorf("%d writers are lost", len(lost))
	}

	outside := filepath.Join(b.data, "checkpoints")
	output := b.operatorCommand(t, 0, "audit", "verify", "--key", key, "--checkpoint", outside)
	if !strings.Contains(output, "it covers all that is sealed") || !strings.Contains(output, "sound: nothing") || strings.Contains(output, "not anchored") {
		t.Errorf("verify said\n%s", output)
	}
	if output := b.operatorCommand(t, 0, "audit", "verify"); !strings.Contains(output, outside+", which this instance published") || !strings.Contains(output, "it covers all that is sealed") {
		t.Errorf("with what the instance published itself it said\n%s", output)
	}
	if output := b.operatorCommand(t, 0, "audit", "verify", "--unanchored"); !strings.Contains(output, "not anchored") || !strings.Contains(output, "an older backup was restored") {
		t.Errorf("without a checkpoint from outside it said\n%s", output)
	}
	if shown := strings.TrimSpace(b.operatorCommand(t, 0, "audit", "key", "show")); shown != key {
		t.Errorf("the key is shown as %s", shown)
	}
	testExport(t, b, key, outside)

	b.alter(t, `ALTER TABLE audit.events DISABLE TRIGGER ALL;
		DO $$ DECLARE p regclass; BEGIN
			FOR p IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit.events'::regclass LOOP
				EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', p);
			END LOOP;
		END $$;
		UPDATE audit.events SET host = 'other.example' WHERE (writer, writer_sequence) IN (
			SELECT writer, writer_sequence FROM audit.events WHERE kind = 'decision' LIMIT 1)`)
	output = b.operatorCommand(t, 1, "audit", "verify", "--key", key, "--checkpoint", outside)
	if !strings.Contains(output, "DAMAGED") || !strings.Contains(output, "record_changed at leaf ") || !strings.Contains(output, "the record is not the one that was sealed") {
		t.Errorf("verify said\n%s", output)
	}
}

// testExport verifies an export where there is neither database nor
// configuration, whole and with a byte of it changed.
func testExport(t *testing.T, w *fixture, key, outside string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "export")
	w.operatorCommand(t, 0, "audit", "export", "--out", path)
	verify := func() (int, string) {
		t.Helper()
		code, out, errOut := command(t, "audit", "verify", "--export", path, "--key", key, "--checkpoint", outside)
		return code, out + errOut
	}
	if code, output := verify(); code != 0 || !strings.Contains(output, "it covers all that is sealed") {
		t.Errorf("%d: verify of the export said\n%s", code, output)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), `"verdict":"deny"`, `"verdict":"allow"`, 1)
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, output := verify(); code != 1 || !strings.Contains(output, "tree_changed") {
		t.Errorf("%d: verify of the changed export said\n%s", code, output)
	}
	for _, args := range [][]string{
		{"--export", w.config}, {"--export", filepath.Join(t.TempDir(), "none")},
		{"--export", path, "--key", "x"}, {"--export", path, "--checkpoint", w.config}, {"--database-url-file", w.config},
	} {
		if code, out, errOut := command(t, append([]string{"audit", "verify"}, args...)...); code != 2 {
			t.Errorf("verify %v ended with %d\n%s%s", args, code, out, errOut)
		}
	}
}

// TestProof: a decision and its end are proven by what is printed, and by
// nothing that was changed.
func TestProof(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.seals(t, "  checkpoints: {interval: 200ms}\n")
	w.start()
	id := w.connect(t, w.caller(w.Payments, nil, "feature/x"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
	w.sealed(t)
	var line struct {
		Record     string
		Leaf       int64
		Hashes     []audit.Hash
		Checkpoint string
	}
	if err := json.Unmarshal([]byte(w.operatorCommand(t, 0, "audit", "proof", id)), &line); err != nil {
		t.Fatal(err)
	}
	key := audit.Key(strings.TrimSpace(w.operatorCommand(t, 0, "audit", "key", "show")))
	c, _, err := audit.OpenCheckpoint([]byte(line.Checkpoint), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := audit.CheckInclusion(line.Hashes, c.Size, c.Root, line.Leaf, audit.Leaf([]byte(line.Record))); err != nil || !strings.Contains(line.Record, id) {
		t.Errorf("%v: %s", err, line.Record)
	}
	if audit.CheckInclusion(line.Hashes, c.Size, c.Root, line.Leaf, audit.Leaf([]byte(line.Record+" "))) == nil {
		t.Error("another record is proven too")
	}
	w.operatorCommand(t, 1, "audit", "proof", "01a1fdf4-c192-7cf7-900b-49ceb24f5238")
}

// TestPublished: checkpoints go to files, standard output and endpoints; one that
// fails delays nothing, is reported, and receives the newest after its recovery.
func TestPublished(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []byte
	status := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, _ := io.ReadAll(r.Body)
		if status == http.StatusOK && r.Header.Get("Authorization") == "Bearer s3cret-of-the-witness" {
			got = append(got, body...)
		}
		rw.WriteHeader(status)
	}))
	defer server.Close()
	w := newFixture(t, options{})
	w.addSecret("s3cret-of-the-witness")
	directory := t.TempDir()
	token, file := filepath.Join(directory, "token"), filepath.Join(directory, "checkpoints.txt")
	if err := os.WriteFile(token, []byte("s3cret-of-the-witness\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.seals(t, fmt.Sprintf("  checkpoints: {interval: 200ms, stdout: true, files: [%q], urls: [%q], token_file: %q}\n", file, server.URL, token))
	w.start()
	w.connect(t, w.caller(w.Payments, nil, "feature/x"), "api.partner.example:443").refused(t, 403, "no_rule_matched")
	w.sealed(t)
	eventually(t, "the failure shows", func() bool { return w.counter(t, "sallyport_checkpoint_publishers_failing") == 1 })
	if status, detail := w.readyz(); status != http.StatusOK || !strings.Contains(fmt.Sprint(detail), "503") {
		t.Errorf("/readyz answered %d: %v", status, detail)
	}
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	eventually(t, "the endpoint has a checkpoint", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(audit.SplitCheckpoints(got)) > 0
	})
	w.stop()
	key := filepath.Join(directory, "key.pub")
	if err := os.WriteFile(key, []byte(w.operatorCommand(t, 0, "audit", "key", "show")), 0o600); err != nil {
		t.Fatal(err)
	}
	output, posted := filepath.Join(directory, "stdout"), filepath.Join(directory, "posted")
	for path, text := range map[string][]byte{output: []byte(strings.Join(w.log.stray, "\n") + "\n"), posted: got} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, place := range []string{file, output, posted, filepath.Join(w.data, "checkpoints")} {
		if output := w.operatorCommand(t, 0, "audit", "verify", "--key", key, "--checkpoint", place); !strings.Contains(output, "it covers all that is sealed") {
			t.Errorf("against %s verify said\n%s", place, output)
		}
	}
}

// TestKeyRotation: the present key hands over inside the log; the server seals
// again when it has the next one, and not before.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.seals(t, "  checkpoints: {interval: 200ms}\n")
	w.start()
	w.sealed(t)
	first := strings.TrimSpace(w.operatorCommand(t, 0, "audit", "key", "show"))
	next := filepath.Join(t.TempDir(), "next")
	w.operatorCommand(t, 0, "audit", "key", "rotate", "--next", next)
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	eventually(t, "the first key is done", func() bool { return w.counter(t, `sallyport_audit_seal_failing{reason="no_key"}`) == 1 })
	if code, out, _ := command(t, "health", "--ready", "-c", w.config); code != 0 || !strings.HasPrefix(out, "ready\nwarning: seal: the audit log is not sealed: ") {
		t.Errorf("health --ready while sealing fails: %d %q", code, out)
	}
	if rows := w.query(t, `SELECT FROM audit.leaves l JOIN audit.events e USING (writer, writer_sequence) WHERE e.kind = 'signing_key'`); len(rows) != 2 {
		t.Errorf("%d keys are sealed", len(rows))
	}
	if err := os.Rename(next, filepath.Join(w.data, "checkpoint-key")); err != nil { // and no restart
		t.Fatal(err)
	}
	w.sealed(t)
	w.stop()
	if strings.Contains(w.log.text(), `"level":"ERROR"`) {
		t.Error("a rotation by the operator is logged as an error")
	}
	second := strings.TrimSpace(w.operatorCommand(t, 0, "audit", "key", "show"))
	for _, key := range []string{first, second} {
		if output := w.operatorCommand(t, 0, "audit", "verify", "--key", key, "--checkpoint", filepath.Join(w.data, "checkpoints")); !strings.Contains(output, first) || !strings.Contains(output, second) {
			t.Errorf("verify said\n%s", output)
		}
	}
	if first == second {
		t.Error("the key is the same")
	}
}
