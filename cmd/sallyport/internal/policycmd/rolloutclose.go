package policycmd

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/proxy"
)

// continuedTarget has the tunnels of a repository to one target that only report mode let
// continue.
type continuedTarget struct {
	Deployment string           `json:"deployment,omitempty"` // empty: a step that deploys nothing
	Target     string           `json:"target"`
	Tunnels    int64            `json:"tunnels"`
	LastSeen   time.Time        `json:"last_seen"`
	Reasons    map[string]int64 `json:"close_reasons"` // of enforce mode
	// Relaxations are the keys of a rule that accept the tunnels; empty: no key does.
	Relaxations []string `json:"relaxations"`
}

// addContinued counts a tunnel that report mode let continue.
func (r *rolloutRow) addContinued(c *audit.Continued) {
	r.WouldClose++
	deployment, target := cmp.Or(c.Deployment, c.DeploymentUUID), net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
	key := [2]string{deployment, target}
	t := r.continued[key]
	if t == nil {
		if len(r.continued) >= maxUses {
			return
		}
		if r.continued == nil {
			r.continued = map[[2]string]*continuedTarget{}
		}
		t = &continuedTarget{Deployment: deployment, Target: target, Reasons: map[string]int64{}}
		r.continued[key] = t
	}
	t.Tunnels++
	t.Reasons[c.CloseReason]++
	if c.Time.After(t.LastSeen) {
		t.LastSeen = c.Time
	}
}

// finishContinued lists the targets, and the keys that each of them needs.
func (r *rolloutRow) finishContinued() {
	for _, t := range r.continued {
		t.Relaxations = relaxationsOf(t.Reasons)
		r.Continued = append(r.Continued, t)
	}
	slices.SortFunc(r.Continued, func(a, b *continuedTarget) int {
		return cmp.Or(-cmp.Compare(a.Tunnels, b.Tunnels), cmp.Compare(a.Target, b.Target), cmp.Compare(a.Deployment, b.Deployment))
	})
}

// remedy is what accepts the tunnels: the keys of a rule, and for close reasons that no key
// accepts what the client has to change.
func (t *continuedTarget) remedy() string {
	parts := slices.Clone(t.Relaxations)
	for _, reason := range slices.Sorted(maps.Keys(t.Reasons)) {
		if relaxing[proxy.Cause(reason)] == "" {
			parts = append(parts, "no key accepts "+cell(reason)+": correct the client")
		}
	}
	return strings.Join(parts, ", ")
}

// printContinued writes the targets whose tunnels enforce mode closes.
func printContinued(b *strings.Builder, list []*rolloutRow) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	begun, more := false, int64(0)
	for _, r := range list {
		listed := int64(0)
		for _, t := range r.Continued {
			if !begun {
				b.WriteString("\nEnforce mode closes these tunnels, which report mode let continue:\n")
				fmt.Fprintln(w, "repository\tdeployment\ttarget\ttunnels\tlast seen\tclose reason\tkey of a rule that accepts them")
				begun = true
			}
			listed += t.Tunnels
			reasons := make([]string, 0, len(t.Reasons))
			for _, reason := range slices.Sorted(maps.Keys(t.Reasons)) {
				reasons = append(reasons, cell(reason))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", cell(r.Repository), cmp.Or(cell(t.Deployment), "-"), cell(t.Target), t.Tunnels,
				t.LastSeen.Format(time.RFC3339)[:20], strings.Join(reasons, ", "), t.remedy())
		}
		more += r.WouldClose - listed
	}
	_ = w.Flush() // a strings.Builder returns no error
	if more > 0 {
		fmt.Fprintf(b, "%d tunnels to further targets are not listed: more than %d targets of a repository\n", more, maxUses)
	}
}

// cell is a text of the log for a table: an export may come from anywhere.
func cell(text string) string {
	if printable.IsClean(text) {
		return text
	}
	return printable.Quote(text)
}
