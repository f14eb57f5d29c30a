package report

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// Widths of the table, in columns.
const (
	DefaultWidth = 80
	minWidth     = 60
	maxWidth     = 400
	gap          = 2 // between columns

	outcomeWidth = len("would_close")
	timesWidth   = len("TIMES")
	minTarget    = 20
)

// maxText bounds a text from the network in the table, in bytes.
const maxText = 600

// printTable prints the summary for a build log: printable ASCII, no line longer than width
// except those of the rules, which are to be copied.
func printTable(out io.Writer, s *Summary, width int) error {
	if width == 0 {
		width = DefaultWidth
	}
	t := &table{width: min(max(width, minWidth), maxWidth)}
	t.line("sallyport: " + title(s))
	t.line(counts(s))
	if len(s.Problems) > 0 {
		t.rows(s.Problems, "REASON", func(r *Row) string { return r.Reason })
	} else {
		t.line("nothing was denied or closed")
	}
	if len(s.Allowed) > 0 {
		t.line("")
		t.rows(s.Allowed, "BYTES SENT, RECEIVED", func(r *Row) string {
			return strconv.FormatInt(r.BytesSent, 10) + ", " + strconv.FormatInt(r.BytesReceived, 10)
		})
	}
	for _, note := range s.Notes {
		t.wrap("note: "+note, 0)
	}
	if s.Rules != "" {
		t.line("")
		t.wrap("Rules to ask the owner of the policy for, as the file "+clean(s.RulesFile)+":", 0)
		t.line("")
		t.b.WriteString(s.Rules)
	}
	_, err := io.WriteString(out, t.b.String())
	return err
}

// title names the step, the mode and the policy.
func title(s *Summary) string {
	p := s.Principal
	if p == nil {
		return "what this step requested"
	}
	name := p.Repository
	if name == "" {
		name = p.RepositoryUUID
	}
	text := "what this step of " + clean(name)
	if p.Deployment != "" {
		text += ", deployment " + clean(p.Deployment) + ","
	}
	text += " requested"
	if s.Mode == stepapi.ModeReport {
		text += " (report mode: denied requests pass)"
	}
	return text
}

func counts(s *Summary) string {
	r := s.Requests
	text := fmt.Sprintf("%d allowed, %d denied, %d closed", r.Allowed, r.Denied, r.Closed)
	if s.Mode == stepapi.ModeReport || r.WouldDeny+r.WouldClose > 0 {
		text += fmt.Sprintf("; enforce mode would deny %d and close %d", r.WouldDeny, r.WouldClose)
	}
	if r.AtLeast {
		text += " (or more)"
	}
	return text
}

// table writes lines of a bounded width.
type table struct {
	b     strings.Builder
	width int
}

// line writes one line, and cuts what is over the width.
func (t *table) line(s string) {
	s = strings.TrimRight(s, " ")
	t.b.WriteString(s[:min(len(s), t.width)] + "\n")
}

// rows prints rows in aligned columns: outcome, times, target, and a last column. What a
// person needs to act on a problem follows below it, indented to the target.
func (t *table) rows(rows []Row, last string, value func(*Row) string) {
	indent := outcomeWidth + gap + timesWidth + gap
	lastWidth, targetWidth := len(last), minTarget
	for i := range rows {
		lastWidth = max(lastWidth, len(clean(value(&rows[i]))))
		targetWidth = max(targetWidth, len(clean(rows[i].Target)))
	}
	targetWidth = max(min(targetWidth, t.width-indent-gap-lastWidth), minTarget)
	t.line(fmt.Sprintf("%-*s%*s  %-*s%s", outcomeWidth+gap, "OUTCOME", timesWidth, "TIMES", targetWidth+gap, "TARGET", last))
	for i := range rows {
		r := &rows[i]
		target, text := clean(r.Target), clean(value(r))
		head := fmt.Sprintf("%-*s%*d  ", outcomeWidth+gap, clean(r.Outcome), timesWidth, r.Times)
		if len(target) <= targetWidth && indent+targetWidth+gap+len(text) <= t.width {
			t.line(fmt.Sprintf("%s%-*s%s", head, targetWidth+gap, target, text))
		} else {
			// A long name has its line, or several: it can be copied.
			first := min(len(target), t.width-indent)
			t.line(head + target[:first])
			t.wrap(target[first:], indent)
			t.wrap(text, indent)
		}
		if r.Outcome != stepapi.KindAllowed {
			t.wrap(details(r), indent)
		}
	}
}

// details is what is known of a problem besides its reason.
func details(r *Row) string {
	var parts []string
	if r.Message != "" {
		parts = append(parts, clean(r.Message))
	}
	if r.Rule != "" {
		parts = append(parts, "rule "+clean(r.Rule))
	}
	if n := len(r.DecisionIDs); n > 0 {
		text := "decision " + clean(r.DecisionIDs[n-1])
		if n > 1 {
			text += fmt.Sprintf(" and %d more", n-1)
		}
		parts = append(parts, text)
	}
	if r.Next != "" {
		parts = append(parts, "to do: "+clean(r.Next))
	}
	return strings.Join(parts, "; ")
}

// wrap prints a text in lines that begin at a column. It breaks at spaces, and words that
// are longer than a line anywhere.
func (t *table) wrap(s string, indent int) {
	room := t.width - indent
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeft(s, " ") {
		end := min(len(s), room)
		if end < len(s) {
			if i := strings.LastIndexByte(s[:end+1], ' '); i > 0 {
				end = i
			}
		}
		t.line(strings.Repeat(" ", indent) + s[:end])
		s = s[end:]
	}
}

// clean returns a text from the network as printable ASCII, shortened.
func clean(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "..."
	}
	quoted := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
