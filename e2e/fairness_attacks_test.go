package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// attack is one dimension in which the steps of a repository do their worst.
type attack struct {
	name        string
	connections int // at once; each sends again as soon as it is answered
	heads       func(n *neighborhood) []string
	// stopped: the emergency stop is in force, when idle too. It stays: the row is the last.
	stopped bool
	// until is a counter that is above zero before the victim is measured: the attack has
	// used up its share.
	until string
}

// Paths and queries are about as long as they may be: a path has 8,000 bytes, a head
// 64 KiB.
var (
	longPath   = strings.Repeat("p", 7_900)
	longQuery  = strings.Repeat("q", 52_000)
	manyFields = strings.Repeat("A: "+strings.Repeat("v", 300)+"\r\n", 190)
)

// attacks are the dimensions, then all at once, then those during an emergency stop.
var attacks = append(slices.Clone(dimensions),
	attack{name: "all dimensions", connections: 600, heads: allHeads},
	attack{name: "emergency stop", connections: 64, heads: byStep("CONNECT raw.fair.example:443", ""), stopped: true})

// dimensions is the table: a new shared resource needs a row.
var dimensions = []attack{
	{name: "evaluations of a slow rule", connections: 450, heads: byStep("CONNECT slow.attacker.example:443", "")},
	{name: "evaluations that fill the memory", connections: 64, heads: byStep("CONNECT memory.attacker.example:443", "")},
	{name: "names that no server answers", connections: 250, heads: byStep("CONNECT n{i}.silent.example:443", "")},
	{name: "dials of a silent port", connections: 380, heads: func(n *neighborhood) []string {
		return n.heads("CONNECT hole.fair.example:"+n.hole, "")
	}},
	{name: "held requests with long paths", connections: 380, heads: func(n *neighborhood) []string {
		return n.heads("GET http://hold.fair.example:"+n.silent.port+"/"+longPath+"?"+longQuery, "")
	}},
	{name: "held requests with many fields", connections: 380, heads: func(n *neighborhood) []string {
		return n.heads("GET http://hold.fair.example:"+n.silent.port+"/", manyFields)
	}},
	{name: "refusals", connections: 64, heads: byStep("CONNECT refused.unlisted.example:443", "")},
	{name: "refusals of many targets", connections: 64, heads: byStep("CONNECT r{i}.unlisted.example:443", "")},
	{name: "refusals with long paths", connections: 64, heads: byStep("GET http://refused.unlisted.example/{i}/"+longPath+"?"+longQuery, "")},
	{name: "refusals with many fields", connections: 64, heads: byStep("GET http://refused.unlisted.example/", manyFields)},
	{name: "refusals of unreadable targets", connections: 64, heads: byStep("CONNECT "+strings.Repeat("{i}", 1000), "")},
	{name: "reads of its requests", connections: 64, heads: byStep("GET /step", "")},
	{name: "invented hosts", connections: 64, heads: func(n *neighborhood) []string {
		return n.heads(fmt.Sprintf("GET http://h{i}.fair.example:%d/", n.HTTPPort), "")
	}},
	{name: "tunnels", connections: 64, heads: func(n *neighborhood) []string { return n.heads("CONNECT raw.fair.example:"+n.target.port, "") }},
	{name: "heads that do not end", connections: 1500, heads: func(*neighborhood) []string {
		return []string{"GET http://hold.fair.example/?" + longQuery}
	}},
	{name: "no credential", connections: 64, heads: func(*neighborhood) []string { return []string{connectTo("raw.fair.example:443", "")} }},
	{name: "a forged token", connections: 64, heads: func(n *neighborhood) []string { return headsOf([]caller{n.forged}, "CONNECT raw.fair.example:443", "") }},
	{name: "an ended token", connections: 64, heads: func(n *neighborhood) []string { return headsOf([]caller{n.ended}, "CONNECT raw.fair.example:443", "") }},
	{name: "a repository without a name", connections: 64, heads: func(n *neighborhood) []string {
		return headsOf([]caller{n.unnamed}, "CONNECT raw.fair.example:443", "")
	}},
}

// outageAttacks are those while the database is unavailable and the journal records
// allowed requests.
var outageAttacks = []attack{
	{name: "tunnels that fill the journal", connections: 64, until: "sallyport_audit_share_exceeded_total", heads: func(n *neighborhood) []string { return n.heads("CONNECT raw.fair.example:"+n.target.port, "") }},
	{name: "refusals with long paths", connections: 64, heads: byStep("GET http://r{i}.unlisted.example/{i}/"+longPath+"?"+longQuery, "")},
	{name: "an ended token", connections: 64, heads: func(n *neighborhood) []string { return headsOf([]caller{n.ended}, "CONNECT raw.fair.example:443", "") }},
}

// allHeads are the heads of all dimensions.
func allHeads(n *neighborhood) []string {
	var list []string
	for _, a := range dimensions {
		list = append(list, a.heads(n)...)
	}
	return list
}

// byStep is one request of each attacking step.
func byStep(line, fields string) func(*neighborhood) []string {
	return func(n *neighborhood) []string { return n.heads(line, fields) }
}

func (n *neighborhood) heads(line, fields string) []string { return headsOf(n.attackers, line, fields) }

func headsOf(steps []caller, line, fields string) []string {
	var list []string
	for _, c := range steps {
		list = append(list, line+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: "+c.basic()+"\r\n"+fields+"\r\n")
	}
	return list
}

// arm makes eight steps of a repository, which attack.
func (n *neighborhood) arm(name string) {
	// At the end all output is searched for the tokens of the victims. A search for some
	// 200 more would take minutes.
	callerOf := func(r *bitbuckettest.Repository, o bitbuckettest.TokenOptions) caller {
		step := r.Run("main").Step(nil)
		return caller{step, step.Token(o)}
	}
	audience := bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}}
	r := n.Workspace.AddRepository(name, "PAY")
	n.attackers = nil
	for range 8 {
		n.attackers = append(n.attackers, callerOf(r, audience))
	}
	n.forged = n.attackers[0]
	n.forged.token = n.Bitbucket.NewKey(n.Workspace.Key().ID, "RS256").Sign(nil, n.forged.step.Claims(audience))
	deleted := n.Workspace.AddRepository("deleted-"+name, "PAY")
	n.unnamed = callerOf(deleted, audience)
	deleted.Delete()
	audience.IssuedAt, audience.Lifetime = time.Now().Add(-time.Hour), 30*time.Minute
	n.ended = callerOf(r, audience)
}

// attackerName is the repository of an attack. Each has its own, so that what one
// attack used up does not weaken the next.
func attackerName(i int) string { return fmt.Sprintf("attacker-%d", i) }

// during puts the server into the state in which an attack is made.
func (n *neighborhood) during(t *testing.T, a *attack) {
	t.Helper()
	if !a.stopped {
		return
	}
	n.operatorCommand(t, 0, "emergency-stop", "--reason", "a test")
}
