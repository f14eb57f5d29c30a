package report

import (
	"cmp"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/internal/regotext"
	"github.com/sallyport/sallyport/internal/stepapi"
)

// relaxations are the keys of a rule that a close reason asks for, and no more.
var relaxations = map[string]string{
	"hello_encrypted": `"ech": true`, "hello_missing": `"no_sni": true`, "hello_invalid": `"protocol": "any"`, "hello_timeout": `"protocol": "any"`,
}

// use is one target to allow.
type use struct {
	host    string
	port    uint16
	http    bool
	address bool
	relaxed string // a value of relaxations, or ""
	times   int64
	cause   string
}

// rules returns a file of rules that would allow what no rule allowed, and the file's name
// in the policy repository, in the form of `sallyport policy suggest`. It returns nothing if
// there is nothing to ask for, or the server did not identify the step. What a rule denies
// is not suggested.
func rules(s *Summary) (text, file string) {
	if s.Principal == nil {
		return "", ""
	}
	uses := collectUses(s.Problems)
	if len(uses) == 0 {
		return "", ""
	}
	p := s.Principal
	folder := p.Repository
	if folder == "" {
		folder = p.WorkspaceUUID + "/" + p.RepositoryUUID
	}
	condition, name := "not input.principal.deployment", "builds"
	switch {
	case p.Deployment != "":
		condition, name = "input.principal.deployment.slug == "+regotext.Quote(p.Deployment), p.Deployment
	case p.DeploymentUUID != "":
		condition, name = "input.principal.deployment.uuid == "+regotext.Quote(p.DeploymentUUID), p.DeploymentUUID
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Requested by one step of %s, and not allowed. Review each line.\npackage sallyport.repository[%s]\n\nimport data.sallyport.lib\n", regotext.Quote(folder), regotext.Quote(folder))
	ids := map[string]int{}
	for len(uses) > 0 {
		group := uses[:1]
		for len(group) < len(uses) && uses[len(group)].sameRule(&uses[0]) {
			group = uses[:len(group)+1]
		}
		uses = uses[len(group):]
		id := "requested-" + regotext.RuleID(name) + group[0].suffix()
		if ids[id]++; ids[id] > 1 {
			id += "-" + strconv.Itoa(ids[id])
		}
		writeRule(&b, id, condition, group)
	}
	return b.String(), path.Join("repositories", folder, "requested.rego")
}

// collectUses returns the targets to allow, those of one rule next to each other.
func collectUses(problems []Row) []use {
	var uses []use
	for _, r := range problems {
		relaxed, ok := relaxations[r.Reason]
		if !ok && r.Reason != "no_rule_matched" {
			continue
		}
		if ok && r.Outcome != stepapi.KindClosed && r.Outcome != stepapi.KindWouldClose {
			continue
		}
		t, err := destination.ParseAuthority(r.Target)
		if err != nil {
			continue // not a target that a rule could allow
		}
		u := use{host: t.Host, port: t.Port, http: r.Action == "request", address: t.IsAddress(), relaxed: relaxed, times: r.Times, cause: r.Outcome + ": " + r.Reason}
		if i := slices.IndexFunc(uses, func(other use) bool { return other.compare(u) == 0 }); i >= 0 {
			uses[i].times += u.times
			continue
		}
		uses = append(uses, u)
	}
	slices.SortFunc(uses, use.compare)
	return uses
}

func (u use) compare(other use) int {
	return cmp.Or(cmp.Compare(u.suffix(), other.suffix()), cmp.Compare(u.relaxed, other.relaxed), cmp.Compare(u.host, other.host), cmp.Compare(u.port, other.port))
}

// sameRule reports whether one rule can allow both.
func (u *use) sameRule(other *use) bool {
	return u.http == other.http && u.address == other.address && u.relaxed == other.relaxed
}

// suffix is the part of the rule's id that the kind of traffic determines.
func (u use) suffix() string {
	s := ""
	if u.http {
		s += "-http"
	}
	if u.address {
		s += "-addresses"
	}
	return s
}

// entry is the target as target_in takes it.
func (u *use) entry() string {
	if u.port == 443 && !strings.Contains(u.host, ":") {
		return u.host
	}
	return net.JoinHostPort(u.host, strconv.Itoa(int(u.port)))
}

func writeRule(b *strings.Builder, id, condition string, group []use) {
	keys := []string{`"rule": ` + regotext.Quote(id)}
	if group[0].address {
		keys = append(keys, `"allow_ip_literal": true`)
	}
	if group[0].relaxed != "" {
		keys = append(keys, group[0].relaxed)
	}
	b.WriteString("\n")
	for _, u := range group {
		fmt.Fprintf(b, "# %s: %s (%s)\n", u.entry(), times(u.times), u.cause)
	}
	fmt.Fprintf(b, "allow contains {%s} if {\n", strings.Join(keys, ", "))
	if group[0].http {
		b.WriteString("\tinput.action == \"request\"\n")
	}
	fmt.Fprintf(b, "\t%s\n\tlib.target_in(input.target, {\n", condition)
	for _, u := range group {
		fmt.Fprintf(b, "\t\t%s,\n", regotext.Quote(u.entry()))
	}
	b.WriteString("\t})\n}\n")
}

// times counts in words.
func times(n int64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatInt(n, 10) + " times"
}
