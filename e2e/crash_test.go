package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// How much the crash tests do: `make crash` does more.
var (
	crashKills = flag.Int("kills", 0, "how many processes TestCrash kills; 0: about twenty")
	crashSeed  = flag.Uint64("seed", 1, "what TestCrash does in which order")
)

// A campaign is one proxy on one PostgreSQL, under load, with injected faults. Each
// tunnel has a host of its own and begins with that host's nonce. The upstream records
// the nonces that arrive. Each of them must have the decision that allowed it, whatever
// process is killed.
type campaign struct {
	t        *testing.T
	w        *fixture
	postgres *pgtest.Server
	relay    *relay
	traffic  *traffic
	random   *rand.Rand
	key      string
	long     bool
	counts   map[string]int

	since   int64 // when this round began, in seconds since 1970
	looked  int   // nonces that findings has seen
	checked int
	busy    time.Duration
}

// conditions are the settings of a campaign.
type conditions struct {
	onOutage string
	program  string
	env      []string
	seed     uint64
	disk     bool // PostgreSQL on the disk, with everything that makes it durable
}

// newCampaign starts everything. The server's own default is that a COMMIT is
// acknowledged before it is written, and the WAL writer runs rarely: a session that does
// not request more durability loses the COMMIT with the process.
func newCampaign(t *testing.T, o conditions) *campaign {
	t.Helper()
	c := &campaign{t: t, random: rand.New(rand.NewPCG(o.seed, 0)), counts: make(map[string]int), long: o.disk}
	var db *pgtest.DB
	c.postgres, db = startMigrated(t, pgtest.Options{NoSync: !o.disk, Settings: map[string]string{
		"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB",
	}})
	c.relay = newRelay(t, c.postgres)
	named := nameDatabase(t, db)
	through := fmt.Sprintf("postgresql://sallyport_writer:%s@%s/%s?sslmode=disable\n", named.password, c.relay.listener.Addr(), db.Name)
	for file, url := range map[string]string{named.urlFile: through, named.sealerFile: strings.Replace(through, "sallyport_writer", "sallyport_sealer", 1)} {
		if err := os.WriteFile(file, []byte(url), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.w = newFixture(t, options{database: named, program: o.program, env: o.env, extra: soakLimits + "log: {level: warn}\n"})
	keyPath := filepath.Join(t.TempDir(), "key")
	c.key = newKeyFile(t, keyPath)
	c.w.seals(t, fmt.Sprintf("  signing_key_file: %q\n  on_outage: %s\n  checkpoints: {interval: 500ms}\n", keyPath, o.onOutage))
	if err := os.WriteFile(filepath.Join(c.w.policy, "egress", "crash.rego"), []byte(crashPolicy), 0o644); err != nil {
		t.Fatal(err)
	}
	c.w.alter(t, "ALTER ROLE sallyport_writer SET synchronous_commit = off")
	c.traffic = &traffic{w: c.w, c: c.w.anybody(), up: newArrivals(t), seed: o.seed, rate: 300}
	if c.long {
		c.traffic.rate = 400
	}
	c.w.restart()
	return c
}

// round does faults under load, each after tunnels have come through since the
// one before, and returns what is wrong with the log when all is well again.
func (c *campaign) round(faults []fault) []string {
	c.t.Helper()
	began := time.Now()
	c.since = began.Unix() - 1
	c.traffic.start()
	for _, f := range faults {
		c.traffic.progress(c.t, 10)
		f.do(c)
		c.counts[f.name]++
	}
	c.traffic.progress(c.t, 50)
	c.traffic.stop()
	c.busy += time.Since(began)
	c.relay.disarm()
	eventually(c.t, "the journal is empty, and everything is written", func() bool {
		return c.w.counter(c.t, "sallyport_audit_unavailable_since_timestamp_seconds") == 0 && c.w.counter(c.t, "sallyport_journal_bytes") == 0 &&
			c.w.counter(c.t, "sallyport_tunnels") == 0 && c.w.counter(c.t, "sallyport_audit_queued_events") == 0
	})
	return c.findings()
}

// report logs what the campaign did, and returns the number of kills.
func (c *campaign) report() (kills int) {
	for _, f := range faults {
		kills += f.kills * c.counts[f.name]
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(c.counts)) {
		lines = append(lines, fmt.Sprintf("%6d  %s", c.counts[name], name))
	}
	f := c.traffic
	c.t.Logf("%d kills in %v; %d tunnels were asked for (%.0f a second), %d came through, %d were refused, %d broke off; %d nonces arrived and have their row\n%s",
		kills, c.busy.Round(time.Second), f.attempts.Load(), float64(f.attempts.Load())/c.busy.Seconds(), f.through.Load(), f.refused.Load(), f.failed.Load(), c.checked, strings.Join(lines, "\n"))
	return kills
}

// TestCrash is the promise of the log, tried: kill -9 of everything, disks that
// are full, connections that break at the worst moment.
func TestCrash(t *testing.T) {
	t.Parallel()
	t.Logf("seed %d", *crashSeed)
	for i, onOutage := range []string{"deny", "spool"} {
		t.Run(onOutage, func(t *testing.T) {
			t.Parallel()
			raiseFileLimit(t, 20_000)
			long := *crashKills > 0
			seed := *crashSeed + uint64(i)
			c := newCampaign(t, conditions{onOutage: onOutage, seed: seed, disk: long})
			all := plan(c.random, max(1, *crashKills/2))
			for len(all) > 0 && !t.Failed() {
				n := min(len(all), 40)
				for _, wrong := range c.round(all[:n]) {
					t.Error(wrong)
				}
				all = all[n:]
				if long {
					c.report()
				}
			}
			c.w.stop()
			kills := c.report()
			if least := max(10, *crashKills/2); kills < least {
				t.Errorf("%d kills, and not %d", kills, least)
			}
		})
	}
}

// TestCrashFindsAsynchronousRecording is the negative control: a proxy that lets
// a tunnel through before its decision is durable is caught by the same oracle,
// by a fault that is in every campaign.
func TestCrashFindsAsynchronousRecording(t *testing.T) {
	t.Parallel()
	c := newCampaign(t, conditions{onOutage: "deny", program: mutant(t), env: []string{"SALLYPORT_WITHOUT=waiting"}, seed: *crashSeed})
	at := slices.IndexFunc(faults, func(f fault) bool { return strings.HasSuffix(f.name, "while PostgreSQL is stopped") })
	wrong := c.round([]fault{faults[at]})
	if !slices.ContainsFunc(wrong, func(s string) bool { return strings.HasPrefix(s, "a tunnel carried bytes and has not") }) {
		t.Errorf("it went unnoticed, and the crash test proves nothing: %q", wrong)
	}
	t.Logf("caught: %q", wrong)
}
