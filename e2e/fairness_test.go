package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// fairnessPolicy allows every step of the workspace some names. fairnessRules are
// the rules of each attacking repository: a slow one, and one that fills the memory.
const (
	fairnessPolicy = `package sallyport.egress

allow contains {"rule": "fair", "protocol": "any"} if endswith(input.target.host, ".fair.example")

allow contains {"rule": "silent", "protocol": "any"} if endswith(input.target.host, ".silent.example")

delegate contains {"rule": "own"} if startswith(input.principal.repository.full_name, "acme/attacker-")
`
	fairnessRules = `package sallyport.repository["acme/%s"]

allow contains {"rule": "slow"} if {
	input.target.host == "slow.attacker.example"
	some a in numbers.range(1, 3000)
	some b in numbers.range(1, 3000)
	a * b == -1
}

allow contains {"rule": "memory"} if {
	input.target.host == "memory.attacker.example"
	count({x | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); x := sprintf("%%d/%%d", [a, b])}) == 1
}
`
	// victimRules have each of the victim's requests evaluated by a worker, too.
	victimRules = `package sallyport.repository["acme/payments"]

deny contains {"rule": "never"} if input.target.host == "never.fair.example"
`
)

// neighborhood is a server that two repositories use, one of which does its worst.
type neighborhood struct {
	*fixture
	target  *tap
	silent  *silentTarget
	hole    string // a port that answers no SYN
	victims []caller
	asked   int // requests of the victims

	attackers              []caller
	forged, ended, unnamed caller // of the attackers; see [neighborhood.arm]
}

// TestFairness: while one repository does its worst in any dimension, and in all of
// them, another repository's tunnels are opened within 100 ms, none is refused, and
// server and workers together stay under 1 GB. With the tag soak, on a machine that
// does nothing else, it is longer, and opening takes at most three times as long as
// without the attack.
func TestFairness(t *testing.T) {
	n := newNeighborhood(t, options{})
	n.warm(t)
	for i, a := range attacks {
		n.arm(attackerName(i))
		t.Run(a.name, func(t *testing.T) {
			if problem := n.suffer(t, &a); problem != "" {
				t.Error(problem)
			}
		})
	}
}

// TestFairnessDuringAnOutage is TestFairness while decisions rest on the journal,
// which afterwards reaches the log.
func TestFairnessDuringAnOutage(t *testing.T) {
	db, postgres := newServerDatabase(t)
	journal := "32MiB"
	if fairnessAlone { // with many rounds, the victim itself uses up its share of a small journal
		journal = "256MiB"
	}
	n := newNeighborhood(t, options{database: db, audit: "  on_outage: spool\n  max_journal_bytes: " + journal + "\n"})
	postgres.Kill(t)
	n.request(t, n.anybody(), "raw.fair.example:"+n.target.port)
	eventually(t, "the outage is known", func() bool { return n.counter(t, "sallyport_audit_unavailable_since_timestamp_seconds") > 0 })
	n.warm(t)
	for i, a := range outageAttacks {
		n.arm(attackerName(i))
		t.Run(a.name, func(t *testing.T) {
			if problem := n.suffer(t, &a); problem != "" {
				t.Error(problem)
			}
		})
	}
	postgres.Restart(t)
	n.ready()
}

// TestFairnessIsNeeded removes the shares of a resource, and the comparison of TestFairness
// fails: with one queue for all, the victim is refused or waits.
func TestFairnessIsNeeded(t *testing.T) {
	for _, c := range []struct{ control, attack string }{
		{"shares", "dials of a silent port"},
		{"evaluations", "evaluations of a slow rule"},
	} {
		t.Run(c.control, func(t *testing.T) {
			n := newNeighborhood(t, options{program: mutant(t), env: []string{"SALLYPORT_WITHOUT=" + c.control}})
			n.warm(t)
			i := slices.IndexFunc(attacks, func(a attack) bool { return a.name == c.attack })
			n.arm(attackerName(i))
			problem := n.suffer(t, &attacks[i])
			if t.Logf("%s", problem); !strings.Contains(problem, "the victim's tunnel") && !strings.Contains(problem, "99th percentile") {
				t.Errorf("without the control the attack has no effect: %q", problem)
			}
		})
	}
}

// warm opens tunnels of the victims before anything is measured.
func (n *neighborhood) warm(t *testing.T) {
	t.Helper()
	if _, problem := n.measure(&attack{}, fairnessTunnels); problem != "" {
		t.Fatal(problem)
	}
}

// residentPeak is the most memory that the server has held, and the most that each of
// its processes that are alive has held, in bytes.
func (n *neighborhood) residentPeak(t *testing.T) int64 {
	t.Helper()
	peak := n.peakMemory(t)
	for _, pid := range n.children() {
		peak += highWaterMark(pid)
	}
	return peak
}

// children lists the processes that the server's threads have started, by their ids.
func (n *neighborhood) children() (ids []string) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", n.cmd.Process.Pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // the thread may have ended
		ids = append(ids, strings.Fields(string(text))...)
	}
	return ids
}

func newNeighborhood(t *testing.T, o options) *neighborhood {
	t.Helper()
	raiseFileLimit(t, 8000)
	if o.program == "" {
		o.program = released(t)
	}
	o.extra = "shutdown: {drain_timeout: 0s}\nlimits: {queue_timeout: 1s}\n"
	o.identity, o.egress = "  leeway: 0s\n  expired_token_grace_period: 1h\n", "  connect_timeout: 2s\n"
	n := &neighborhood{fixture: newFixture(t, o), target: newTap(t, "127.0.0.1:0", discardUntilClosed), silent: newSilentTarget(t), hole: blackHole(t)}
	err := os.WriteFile(filepath.Join(n.policy, "egress", "fairness.rego"), []byte(fairnessPolicy), 0o644)
	for i := range attacks {
		dir := filepath.Join(n.policy, "repositories", "acme", attackerName(i))
		err = errors.Join(err, os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "rules.rego"), fmt.Appendf(nil, fairnessRules, attackerName(i)), 0o644))
	}
	err = errors.Join(err, os.MkdirAll(filepath.Join(n.policy, "repositories", "acme", "payments"), 0o755),
		os.WriteFile(filepath.Join(n.policy, "repositories", "acme", "payments", "rules.rego"), []byte(victimRules), 0o644))
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		n.victims = append(n.victims, n.anybody())
	}
	n.rewrite(t, "policy:\n", "policy:\n  workers: {queue_timeout: 1s}\n")
	n.start()
	return n
}

// silentTarget is a target that never answers: no process accepts its connections, so
// that what they carry takes no time of the process that measures.
type silentTarget struct {
	listener net.Listener
	port     string
}

func newSilentTarget(t testing.TB) *silentTarget {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silentTarget{listener: l}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	t.Cleanup(func() { _ = s.listener.Close() })
	return s
}

// release resets the connections: the kernel does that with those that were not accepted.
func (s *silentTarget) release(t testing.TB) {
	t.Helper()
	_ = s.listener.Close()
	l, err := net.Listen("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	s.listener = l
}

// attackShares: keep another repository's step from getting out, by dialing a port
// that does not answer.
func attackShares(t *testing.T, w *fixture, _ *pgtest.Server) bool {
	const dials = 140
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	hole, steps := blackHole(t), []caller{w.caller(w.Tools, nil, "main"), w.caller(w.Tools, nil, "main")}
	for i := range dials {
		all.Go(func() {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.proxy)
			if err != nil {
				return
			}
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			_, _, _ = sendHead(conn, connectTo("raw.partner.example:"+hole, steps[i%len(steps)].basic()))
		})
	}
	const admitted = `sallyport_decisions_total{action="connect",reason="policy_allowed",verdict="allow",would_deny="false"}`
	eventually(t, "the dials are admitted", func() bool { return w.counter(t, admitted) >= dials })
	return w.connect(t, w.anybody(), "raw.partner.example:"+echo(t).port).StatusCode != http.StatusOK
}
