package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestKillOfOneOfTwoInstances: two proxies under load on one database, and the one that
// seals is killed. The other refuses no request, seals what it records within ten
// seconds, and the log verifies.
func TestKillOfOneOfTwoInstances(t *testing.T) {
	t.Parallel()
	raiseFileLimit(t, 20_000)
	db := newDatabase(t)
	keyPath := filepath.Join(t.TempDir(), "key")
	key := newKeyFile(t, keyPath)
	var worlds []*fixture
	var loads []*traffic
	up := newArrivals(t)
	for i := range 2 {
		w := newFixture(t, options{database: db, extra: soakLimits + "log: {level: warn}\n"})
		w.seals(t, fmt.Sprintf("  signing_key_file: %q\n", keyPath))
		if err := os.WriteFile(filepath.Join(w.policy, "egress", "crash.rego"), []byte(crashPolicy), 0o644); err != nil {
			t.Fatal(err)
		}
		w.restart()
		f := &traffic{w: w, c: w.anybody(), up: up, seed: uint64(i), rate: 50}
		f.start()
		worlds, loads = append(worlds, w), append(loads, f)
	}
	dies, lives := 0, 1
	eventually(t, "one of them seals", func() bool {
		for i, w := range worlds {
			if w.counter(t, "sallyport_audit_sealed_events_total") > 0 {
				dies, lives = i, 1-i
				return true
			}
		}
		return false
	})
	loads[lives].progress(t, 20)
	worlds[dies].signal(syscall.SIGKILL)
	worlds[dies].await(-1)
	killed := time.Now()
	a, b := worlds[lives], loads[lives]
	b.progress(t, 20)
	eventually(t, "what the other recorded after that is sealed", func() bool {
		rows := a.query(t, `SELECT count(*) AS n FROM audit.events e JOIN audit.leaves l USING (writer, writer_sequence)
			WHERE e.kind = 'decision' AND e.time > to_timestamp($1)`, float64(killed.UnixMicro())/1e6)
		return fmt.Sprint(rows[0]["n"]) != "0"
	})
	if took := time.Since(killed); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, f := range loads {
		f.stop()
	}
	if b.refused.Load()+b.failed.Load() > 0 || b.through.Load() == 0 {
		t.Errorf("the other let %d through, refused %d, and %d broke off", b.through.Load(), b.refused.Load(), b.failed.Load())
	}
	c := &campaign{t: t, w: a, traffic: b, key: key, since: killed.Unix() - 60}
	b.seen = append(b.seen, loads[dies].seen...)
	for _, wrong := range c.findings() {
		t.Error(wrong)
	}
	a.stop()
	t.Logf("%d came through in one, %d in the one that was killed", b.through.Load(), loads[dies].through.Load())
}
