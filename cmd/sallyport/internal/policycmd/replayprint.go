package policycmd

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/printable"
)

func (s *replaySummary) print(w io.Writer) error {
	var b strings.Builder
	for _, g := range s.Groups {
		fmt.Fprintf(&b, "%s  %s  %s\n", g.Repository, cmp.Or(g.Deployment, "-"), g.Target)
		fmt.Fprintf(&b, "  %s -> %s, by %s -> %s\n", g.From, g.To, cmp.Or(g.OldRule, "no rule"), cmp.Or(g.Rule, "no rule"))
		often := "once, at"
		if g.Count != 1 {
			often = fmt.Sprintf("%d times, the latest at", g.Count)
		}
		fmt.Fprintf(&b, "  %s %s: %s\n", often, g.Latest.Format(time.RFC3339), g.Example)
		if g.Error != "" {
			fmt.Fprintf(&b, "  %s\n", g.Error)
		}
	}
	if s.Hidden > 0 {
		fmt.Fprintf(&b, "and %d more groups: --groups 0 shows them\n", s.Hidden)
	}
	if s.Ungrouped > 0 {
		fmt.Fprintf(&b, "and %s in further groups: a shorter time or --repository shows them\n", printable.Count(s.Ungrouped, "difference"))
	}
	if s.AsDecided {
		fmt.Fprintf(&b, "%d of %d decisions do not come out as they were recorded, each by the revision that made it; %s\n", s.Differ, s.Decisions, printable.Count(s.Revisions, "revision"))
	} else {
		fmt.Fprintf(&b, "%d of %d decisions would differ: %d closed, %d opened, %d in report mode only",
			s.Differ, s.Decisions, s.Closed, s.Opened, s.Differ-s.Closed-s.Opened-s.Routed)
		if s.Routed > 0 {
			fmt.Fprintf(&b, ", %d routed in another way", s.Routed)
		}
		b.WriteByte('\n')
	}
	if s.Decisions == 0 {
		b.WriteString("no request reached policy in that time: check --since, and whether this is the right log\n")
	}
	if s.Errors > 0 {
		fmt.Fprintf(&b, "%d could not be evaluated\n", s.Errors)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
