package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
)

// PrintJSON writes a value as people and programs can read it.
func PrintJSON(w io.Writer, value any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// PrintFinding writes the result of a check, and returns [FindingError] if it failed.
func PrintFinding(w io.Writer, result any, failed bool) error {
	if err := PrintJSON(w, result); err != nil {
		return err
	}
	if failed {
		return FindingError{}
	}
	return nil
}

// PrintTable writes rows under a head.
func PrintTable(w io.Writer, head string, rows func(row func(format string, args ...any))) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, head)
	rows(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
	return t.Flush()
}

// FormatTime is a time as tables show it.
func FormatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// IsTerminal reports whether a user would have to type the input.
func IsTerminal(in io.Reader) bool {
	f, ok := in.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// JoinList is a list for people.
func JoinList(values []string) string { return strings.Join(values, ", ") }

// FormatTimeOrNever is a moment that may never have been.
func FormatTimeOrNever(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}
