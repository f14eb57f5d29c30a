package frontend

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// stepText is a step as text of printable ASCII, for terminals and build logs: what the
// step is, its allowed targets, and last, where a person looks first, its problems.
func stepText(s *stepapi.Step) []byte {
	var b strings.Builder
	b.WriteString("sallyport: step " + plain(s.Principal.StepUUID, maxRuleShown) + " of " + plain(cmp.Or(s.Principal.Repository, s.Principal.RepositoryUUID), maxShown))
	if d := cmp.Or(s.Principal.Deployment, s.Principal.DeploymentUUID); d != "" {
		b.WriteString(", deployment " + plain(d, maxRuleShown))
	}
	b.WriteString("; " + plain(s.Mode, maxRuleShown) + " mode; token valid until " + s.TokenExpires.Format(time.RFC3339) + "\n")
	b.WriteString("sallyport: " + countsText(s.Requests) + "\n")
	if s.More {
		b.WriteString("sallyport: there are more; these are the latest\n")
	}
	for i := range s.Entries {
		if e := &s.Entries[i]; !e.IsProblem() {
			fmt.Fprintf(&b, "allowed %s %s%s%s\n", plain(e.Target, maxShown), timesText(e.Repeats+1), ruleText(e), bytesText(e))
		}
	}
	problems := 0
	for i := range s.Entries {
		if e := &s.Entries[i]; e.IsProblem() {
			problems++
			b.WriteString(problemText(e))
		}
	}
	if problems == 0 {
		b.WriteString("sallyport: nothing was refused to this step, and none of its tunnels was closed\n")
	}
	return []byte(b.String())
}

// countsText sums up the requests.
func countsText(r stepapi.Requests) string {
	text := fmt.Sprintf("%d requests allowed, %d denied, %d closed", r.Allowed, r.Denied, r.Closed)
	if r.WouldDeny > 0 {
		text += fmt.Sprintf("; only report mode allowed %d", r.WouldDeny)
	}
	if r.WouldClose > 0 {
		text += fmt.Sprintf("; enforce mode would close %d", r.WouldClose)
	}
	if r.AtLeast {
		text += "; at least, because the repository made many requests"
	}
	return text
}

func timesText(n int64) string {
	if n == 1 {
		return "once"
	}
	return strconv.FormatInt(n, 10) + " times"
}

func ruleText(e *stepapi.Entry) string {
	if e.Rule == "" {
		return ""
	}
	return ", rule " + plain(e.Rule, maxRuleShown)
}

func bytesText(e *stepapi.Entry) string {
	if e.BytesSent == 0 && e.BytesReceived == 0 {
		return ""
	}
	return fmt.Sprintf(", %d bytes sent, %d received", e.BytesSent, e.BytesReceived)
}

// problemText is one line for a refusal, a forced close, or what enforce mode would refuse
// or close.
func problemText(e *stepapi.Entry) string {
	var b strings.Builder
	what, reason := e.Kind, e.Reason
	if e.Kind == stepapi.KindRefused && e.Status > 0 {
		what = strconv.Itoa(e.Status)
	}
	if e.CloseReason != "" {
		reason = e.CloseReason
	}
	b.WriteString(e.Time.Format(time.RFC3339) + " " + what + " " + plain(reason, maxRuleShown) + " " + plain(e.Target, maxShown))
	if e.Message != "" {
		b.WriteString(": " + plain(e.Message, maxShown))
	}
	b.WriteString(" (")
	if e.Rule != "" {
		b.WriteString("rule " + plain(e.Rule, maxRuleShown) + ", ")
	}
	switch {
	case e.Repeats > 0 && e.Kind == stepapi.KindWouldDeny:
		b.WriteString(timesText(e.Repeats+1) + ", ")
	case e.Repeats > 0:
		b.WriteString("refused " + strconv.FormatInt(e.Repeats, 10) + " more times, ")
	}
	b.WriteString("decision " + plain(e.DecisionID, maxRuleShown) + ")")
	if e.Next != "" {
		b.WriteString(". What to do: " + plain(e.Next, maxShown))
	}
	b.WriteString(".\n")
	return b.String()
}
