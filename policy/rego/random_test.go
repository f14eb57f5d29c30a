package rego

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

// randomPolicy makes policies and requests from a seed. The rules read random parts of the
// input in every way that Rego has, and the values of the requests are few, so that rules
// match and keys recur.
type randomPolicy struct {
	*rand.Rand
	n             int      // names that were made
	leaves, parts []string // what the rules read, a few of all: decisions are to recur
	whole         bool     // and the whole input
}

func newRandomPolicy(seed uint64) *randomPolicy {
	g := &randomPolicy{Rand: rand.New(rand.NewPCG(seed, 46))}
	for range 2 + g.IntN(3) {
		g.leaves = append(g.leaves, pick(g, randomLeaves...))
	}
	for range 1 + g.IntN(2) {
		g.parts = append(g.parts, pick(g, randomParts...))
	}
	g.whole = g.IntN(16) == 0
	return g
}

func pick[T any](g *randomPolicy, list ...T) T { return list[g.IntN(len(list))] }

func (g *randomPolicy) name(prefix string) string {
	g.n++
	return prefix + strconv.Itoa(g.n)
}

var (
	randomLeaves = []string{
		"principal.kind", "principal.workspace.slug", "principal.repository.full_name", "principal.repository.project", "principal.deployment.type",
		"principal.deployment.name", "principal.deployment.uuid", "principal.pipeline.uuid", "principal.step.uuid", "principal.branch", "action",
		"target.scheme", "target.host", "target.port", "request.method", "request.path", "request.headers.x-a", "request.headers.x-b", "client.address",
	}
	randomParts  = []string{"principal", "principal.workspace", "principal.repository", "principal.deployment", "principal.step", "target", "request", "request.headers", "client"}
	randomValues = []string{
		"acme/payments", "acme/tools", "acme", "PAY", "production", "test", "Test", "main", "dev", "connect", "request", "http", "a.example", "x.b.example", "192.0.2.1",
		"GET", "POST", "/", "/v1", "1", "2", "192.0.2.7", "198.51.100.1", "step-1", "step-2",
	}
	randomTimes = []string{"2026-11-21T08:40:00Z", "2026-11-21T09:00:00Z", "2026-11-21T09:00:01Z", "2026-11-22T00:00:00Z", "2026-12-31T00:00:00Z", "2020-01-01T00:00:00Z"}
)

// ref writes a reference to a path of the input in one of its spellings.
func (g *randomPolicy) ref(path string) string {
	text := "input"
	for _, name := range strings.Split(path, ".") {
		switch style := g.IntN(8); {
		case path == "":
		case style == 0 || strings.Contains(name, "-"):
			text += fmt.Sprintf("[%q]", name)
		case style == 1:
			text += "[`" + name + "`]"
		default:
			text += "." + name
		}
	}
	return text
}

func (g *randomPolicy) leaf() string  { return g.ref(pick(g, g.leaves...)) }
func (g *randomPolicy) part() string  { return g.ref(pick(g, g.parts...)) }
func (g *randomPolicy) value() string { return strconv.Quote(pick(g, randomValues...)) }

// any is a leaf, a part or, seldom, the whole input.
func (g *randomPolicy) any() string {
	switch n := g.IntN(12); {
	case n == 0 && g.whole:
		return "input"
	case n < 4:
		return g.part()
	}
	return g.leaf()
}

// conditions are the forms of conditions; %[1]s is any part of the input, %[2]s an object,
// %[3]s a leaf, %[4]s a value, %[5]s a new name, %[6]s another leaf.
var conditions = []string{
	"%[3]s == %[4]s", "%[3]s == %[4]s", "%[3]s != %[4]s", "not %[1]s", "%[1]s", "%[3]s == %[6]s",
	"some %[5]s in %[2]s\n\t%[5]s == %[4]s",
	"some %[5]s\n\t%[2]s[%[5]s] == %[4]s",
	"some %[5]s in [\"host\", \"branch\", \"address\"]\n\t%[2]s[%[5]s] == %[4]s",
	"object.get(%[2]s, %[4]s, \"none\") == \"none\"",
	"object.get(%[2]s, [\"repository\", \"full_name\"], \"none\") == %[4]s",
	"walk(%[1]s, [_, %[4]s])",
	"count([%[5]s | some %[5]s in %[2]s]) > 1",
	"count({%[5]s: 1 | some %[5]s, _ in %[2]s}) == 2",
	"contains(json.marshal(%[1]s), %[4]s)",
	"sprintf(\"%%v\", [%[1]s]) != %[4]s",
	"any_value(%[2]s, %[4]s)",
	"deep(%[1]s, %[4]s)",
	"classified(%[3]s) == %[4]s",
	"helper with %[3]s as %[4]s",
	"helper with %[2]s as {\"host\": %[4]s, \"branch\": %[4]s}",
	"every %[5]s in %[2]s {\n\t\t%[5]s != %[4]s\n\t}",
	"data.table[%[3]s]",
	"data.table[%[3]s].to == %[6]s",
	"%[3]s in data.hosts",
	"%[3]s in {%[4]s, \"a.example\", \"main\"}",
	"object.keys(%[2]s) == {\"host\", \"port\"}",
	"object.remove(%[2]s, [\"host\", \"uuid\"]) == {\"port\": 443}",
	"count(object.filter(%[2]s, [\"host\", \"branch\"])) == 1",
	"json.filter(%[2]s, [\"host\"]) == {\"host\": %[4]s}",
	"count(object.union(%[2]s, {\"x\": 1})) == 3",
	"object.subset(%[2]s, {\"host\": %[4]s})",
	"%[5]s := %[2]s\n\t%[5]s.host == %[4]s",
	"%[5]s := object.union({}, %[2]s)\n\t%[5]s.branch == %[4]s",
	"[%[5]s, _] := [%[2]s, 1]\n\t%[5]s[_] == %[4]s",
	"{\"k\": %[5]s} := {\"k\": %[3]s}\n\t%[5]s == %[4]s",
	"data.sallyport.lib.host_in(input.target.host, data.hosts)",
	"data.sallyport.lib.target_in(%[2]s, data.hosts)",
	"lookup[%[3]s]", "members[%[3]s]", "fallback == %[4]s", "chained == %[4]s",
	"startswith(%[3]s, \"a\")", "lower(%[3]s) == %[4]s", "split(%[3]s, \".\")[0] == \"a\"",
	"regex.match(\"^[a-m]\", %[3]s)", "net.cidr_contains(\"192.0.2.0/24\", input.client.address)",
	"type_name(%[1]s) == \"object\"", "is_string(%[1]s)",
}

// clocks are conditions about the time; %[1]q is a time.
var clocks = []string{
	"data.sallyport.lib.before(%[1]q)", "data.sallyport.lib.since(%[1]q)", "not data.sallyport.lib.before(%[1]q)",
	"data.sallyport.lib.within([{\"from\": \"08:41\", \"to\": \"09:01\"}])", "data.sallyport.lib.active(data.exceptions.list[0])",
	"count(data.sallyport.lib.exceptions_for(data.exceptions.list, input.principal.repository.full_name, input.target)) > 0",
	"time.now_ns() > time.parse_rfc3339_ns(%[1]q)",
}

func (g *randomPolicy) condition() string {
	if g.whole && g.IntN(9) == 0 {
		return pick(g, "helper with input as {\"target\": {\"host\": \"a\"}}\n\t", "") + fmt.Sprintf("$\"{%s}\" == %s", g.any(), g.value())
	}
	if g.IntN(20) == 0 {
		return fmt.Sprintf(pick(g, clocks...)+"%[2]s", pick(g, randomTimes...), "")
	}
	return fmt.Sprintf(pick(g, conditions...)+"%[7]s", g.any(), g.part(), g.leaf(), g.value(), g.name("v"), g.leaf(), "")
}

func (g *randomPolicy) body() string {
	list := make([]string, pick(g, 1, 1, 1, 2))
	for i := range list {
		list[i] = g.condition()
	}
	return "{\n\t" + strings.Join(list, "\n\t") + "\n}"
}

// rules are the rules of one package: entries of its sets, and the rules that they use.
func (g *randomPolicy) rules(pkg string, sets ...string) string {
	text := "package " + pkg + "\n\n" + strings.Join([]string{
		"any_value(x, v) if {\n\tsome k\n\tx[k] == v\n}", "deep(x, v) if walk(x, [_, v])",
		"classified(x) := \"main\" if {\n\tstartswith(x, \"a\")\n} else := \"dev\" if {\n\t" + g.condition() + "\n}",
		"helper if {\n\t" + fmt.Sprintf("%s == %s", g.leaf(), g.value()) + "\n}", "lookup[k] := v if {\n\tk := " + g.leaf() + "\n\tv := " + g.any() + "\n}",
		"members contains " + g.leaf(), "members contains \"main\" if " + g.body(),
		"default fallback := \"main\"\n\nfallback := \"dev\" if " + g.body(),
		"chained := \"dev\" if " + g.body() + " else := " + g.leaf(),
	}, "\n\n") + "\n"
	for range 2 + g.IntN(5) {
		set := pick(g, sets...)
		entry := fmt.Sprintf("{\"rule\": %q", g.name("r"))
		if g.IntN(6) == 0 {
			entry += fmt.Sprintf(", \"message\": sprintf(\"%%v\", [object.get(%s, \"uuid\", %s)])", g.part(), g.value())
		}
		if set == setAllow {
			entry += pick(g, "", "", ", \"allow_ip_literal\": true", ", \"expires\": "+strconv.Quote(pick(g, randomTimes...)), ", \"limits\": {\"lifetime\": \"5m\"}")
		}
		text += "\n" + set + " contains " + entry + "}"
		if g.IntN(10) > 0 {
			text += " if " + g.body()
		}
		text += "\n"
	}
	return text
}

// files are a policy of the organization and of two of three repositories.
func (g *randomPolicy) files() string {
	text := "-- egress/a.rego --\n" + g.rules("sallyport.egress", setAllow, setAllow, setDeny, setReport, setDelegate)
	if g.IntN(2) == 0 {
		text += "\ndelegate contains {\"rule\": \"all\"}\n"
	}
	for _, repository := range []string{"acme/payments", "acme/tools"} {
		text += "-- repositories/" + repository + "/a.rego --\n" + g.rules(fmt.Sprintf("sallyport.repository[%q]", repository), setAllow, setAllow, setDeny)
	}
	return text + `-- data/d.yaml --
hosts: [a.example, "*.b.example", "192.0.2.1"]
table: {main: {to: a.example}, a.example: {to: main}, "443": {to: x}, acme/tools: {to: connect}}
exceptions:
  list:
    - {repository: acme/tools, hosts: [a.example], owner: kim, ticket: X-1, until: "2026-11-21T09:00:00Z"}
    - {repository: acme/payments, hosts: ["*.b.example"], owner: lee, ticket: X-2, until: "2026-11-22T00:00:00Z"}
`
}

// request makes a request.
func (g *randomPolicy) request() *policy.Request {
	repository := pick(g, "acme/payments", "acme/tools", "acme/other")
	p := &identity.Principal{
		Kind:       identity.KindBitbucketStep,
		Workspace:  identity.Workspace{UUID: workspaceUUID, Slug: "acme"},
		Repository: identity.Repository{UUID: repository + "-uuid", FullName: repository, Project: pick(g, "PAY", "PAY", "PAY", "PAY", "TOOLS", "TOOLS", "TOOLS", "")},
		Pipeline:   identity.Run{UUID: pick(g, "pipeline-1", "pipeline-2")},
		Step:       identity.Run{UUID: pick(g, "step-1", "step-2", "step-3")},
		Branch:     pick(g, "main", "dev", ""),
	}
	if kind := pick(g, "", "production", "test"); kind != "" {
		p.Deployment = &identity.Deployment{UUID: kind + "-uuid", Name: pick(g, "Test", "Test", "main", "main", ""), Slug: kind, Type: kind}
	}
	at, _ := time.Parse(time.RFC3339, randomTimes[0])
	if g.IntN(4) == 0 {
		at, _ = time.Parse(time.RFC3339, pick(g, randomTimes...))
	}
	r := &policy.Request{
		Principal: p, Action: policy.Connect, Target: destination.Target{Host: pick(g, "a.example", "x.b.example", "c.example", "192.0.2.1"), Port: pick[uint16](g, 443, 443, 80)},
		ClientAddress: netip.MustParseAddr(pick(g, "192.0.2.7", "198.51.100.1")),
		Time:          at.Add(pick(g, -time.Microsecond, 0, 0, time.Microsecond, time.Second, 30*time.Second, 59*time.Second, time.Minute)),
	}
	if g.IntN(3) == 0 {
		r.Action, r.Target.Scheme = policy.Forward, "http"
		r.HTTP = &policy.HTTPRequest{Method: pick(g, "GET", "POST"), Path: pick(g, "/", "/v1"), Headers: map[string]string{"x-a": pick(g, "1", "2")}}
		if g.IntN(2) == 0 {
			r.HTTP.Headers["x-b"] = "1"
		}
	}
	return r
}
