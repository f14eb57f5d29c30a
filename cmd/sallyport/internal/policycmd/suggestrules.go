package policycmd

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/regotext"
	"github.com/sallyport/sallyport/proxy"
)

// observedOrganisation is the organization's policy where there was none.
const observedOrganisation = `# Everything is only observed for now: what would be denied passes, and is recorded
# with would_deny. Narrow the rule, or take it away, to enforce.
package sallyport.egress

report contains {"rule": "observed", "message": "only observed for now"}

# The rules of each repository's own folder count.
delegate contains {"rule": "own-rules"}
`

// suggested is how many lines there are to suggest.
func (o *observed) suggested() int {
	n := 0
	for _, u := range o.uses {
		if u.deny == "" {
			n++
		}
	}
	return n
}

// rules writes a repository's file, in the form that opa fmt gives it.
func (s *suggester) rules(o *observed) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# What %s was observed to reach from %s to %s, and was not allowed\n# already. Suggested by sallyport policy suggest: review each line.\n",
		o.folder, s.since.Format(time.DateOnly), s.until.Format(time.DateOnly))
	denied := 0
	for _, u := range sortedUses(o.uses) {
		if u.deny == "" {
			continue
		}
		if denied++; denied == 1 {
			b.WriteString("#\n# Not suggested, for a rule denies it:\n")
		}
		fmt.Fprintf(&b, "#   %s, by %s: %s\n", u.entry(), u.deny, u.evidence())
	}
	fmt.Fprintf(&b, "package sallyport.repository[%s]\n\nimport data.sallyport.lib\n", regotext.Quote(o.folder))
	ids := s.usedIDs(o.folder)
	for _, group := range grouped(o.uses) {
		first := group[0]
		id := groupID(first)
		for n := 2; ids[id]; n++ {
			id = groupID(first) + "-" + strconv.Itoa(n)
		}
		ids[id] = true
		b.WriteString("\n")
		keys := append([]string{fmt.Sprintf(`"rule": %q`, id)}, first.relaxations()...)
		if first.isAddress() {
			keys = append(keys, `"allow_ip_literal": true`)
		}
		head := "{" + strings.Join(keys, ", ") + "}"
		// opa fmt loses comments that stand between the members of a set.
		for _, u := range group {
			fmt.Fprintf(&b, "# %s: %s\n", u.entry(), u.evidence())
		}
		fmt.Fprintf(&b, "%sallow contains %s if {\n", parents(group), head)
		if first.http {
			b.WriteString("\tinput.action == \"request\"\n")
		}
		fmt.Fprintf(&b, "\t%s\n\tlib.target_in(input.target, {\n", first.condition)
		for _, u := range group {
			fmt.Fprintf(&b, "\t\t%s,\n", regotext.Quote(u.entry()))
		}
		b.WriteString("\t})\n}\n")
	}
	return b.String()
}

// grouped collects the uses that one rule can allow: the same deployment, the same
// action, and names or addresses.
func grouped(uses map[useKey]*use) [][]*use {
	var groups [][]*use
	for _, u := range sortedUses(uses) {
		if u.deny != "" {
			continue
		}
		if n := len(groups); n > 0 {
			if last := groups[n-1][0]; last.condition == u.condition && last.http == u.http && last.isAddress() == u.isAddress() && slices.Equal(last.relaxations(), u.relaxations()) {
				groups[n-1] = append(groups[n-1], u)
				continue
			}
		}
		groups = append(groups, []*use{u})
	}
	return groups
}

func sortedUses(uses map[useKey]*use) []*use {
	return slices.SortedFunc(maps.Values(uses), func(a, b *use) int {
		return cmp.Or(cmp.Compare(a.deployment, b.deployment), cmp.Compare(a.condition, b.condition), compareBool(a.http, b.http),
			compareBool(a.isAddress(), b.isAddress()), slices.Compare(a.relaxations(), b.relaxations()), cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port))
	})
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func (u *use) isAddress() bool {
	_, err := netip.ParseAddr(u.host)
	return err == nil
}

// entry is the target as target_in takes it.
func (u *use) entry() string {
	if u.port == 443 && !strings.Contains(u.host, ":") {
		return u.host
	}
	return net.JoinHostPort(u.host, strconv.Itoa(u.port))
}

// evidence is what a line rests on.
func (u *use) evidence() string {
	times := "once"
	if u.count > 1 {
		times = fmt.Sprintf("%d times", u.count)
	}
	pipelines := "1 pipeline"
	if n := len(u.pipelines); n >= maxPipelines {
		pipelines = fmt.Sprintf("%d pipelines or more", n)
	} else if n > 1 {
		pipelines = fmt.Sprintf("%d pipelines", n)
	}
	when := "on " + u.first.Format(time.DateOnly)
	if last := u.last.Format(time.DateOnly); last != u.first.Format(time.DateOnly) {
		when = "from " + u.first.Format(time.DateOnly) + " to " + last
	}
	return fmt.Sprintf("%s, by %s, %s; it %s", times, pipelines, when, strings.Join(slices.Sorted(maps.Keys(u.how)), ", it ")) + u.closes()
}

// closes returns the outcome of tunnels that were allowed and did not begin as a rule
// demands that relaxes nothing: closed, or only continued by report mode.
func (u *use) closes() string {
	var b strings.Builder
	for _, reason := range slices.Sorted(maps.Keys(u.closed)) {
		explained, _ := proxy.Cause(reason).Explain()
		fmt.Fprintf(&b, "; enforce mode closes %s with %s: %s", times(u.closed[reason], "tunnel"), reason, explained.Next)
	}
	return b.String()
}

func times(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// manyNames is from how many names below one parent on a pattern deserves a thought.
const manyNames = 5

// parents is a comment that names the parents under which there are many names.
func parents(group []*use) string {
	counts := map[string]int{}
	for _, u := range group {
		if _, parent, ok := strings.Cut(u.host, "."); ok && !u.isAddress() && strings.Contains(parent, ".") {
			counts[parent]++
		}
	}
	var b strings.Builder
	for _, parent := range slices.Sorted(maps.Keys(counts)) {
		if counts[parent] >= manyNames {
			fmt.Fprintf(&b, "# %d names below %s: to allow the whole domain, write \"*.%s\".\n", counts[parent], parent, parent)
		}
	}
	return b.String()
}

// groupID is the id of a rule: observed-production-http.
func groupID(u *use) string {
	id := "observed-" + cmp.Or(regotext.RuleID(u.deployment), "builds")
	if u.http {
		id += "-http"
	}
	if u.isAddress() {
		id += "-addresses"
	}
	return id + relaxedID(u.relaxations())
}
