package report

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit/recorded"
)

func whole(n int64) string { return strconv.FormatInt(n, 10) }

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// shortHash is a commit as people compare it; the CSV has the whole one beside it.
func shortHash(commit string) string { return commit[:min(len(commit), 12)] }

// signerOf is the signer of the commit of an event, or why the signer is unknown.
func signerOf(s *recorded.Event) string {
	if s.Commit == "" {
		return ""
	}
	switch s.Attributes["signature"] {
	case "verified":
		return s.Attributes["signer"]
	case "invalid":
		return "(no valid signature)"
	case "not_required":
		return "(not required)"
	}
	return cmp.Or(s.Attributes["signer"], "(unknown)")
}

// about lists the other attributes of an event.
func about(e *recorded.Event, but ...string) string {
	var parts []string
	for _, name := range Sorted(e.Attributes) {
		if !slices.Contains(but, name) {
			parts = append(parts, name+"="+e.Attributes[name])
		}
	}
	return strings.Join(parts, " ")
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

func Sorted[K ~string, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
