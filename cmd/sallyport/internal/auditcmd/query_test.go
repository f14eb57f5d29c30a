package auditcmd

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/auditdb"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/policy"
)

// fakeEvent is a row with texts.
type fakeEvent struct {
	names []string
	texts []string
}

func (f fakeEvent) Len() int                    { return len(f.names) }
func (f fakeEvent) Name(i int) string           { return f.names[i] }
func (f fakeEvent) Text(i int) string           { return f.texts[i] }
func (f fakeEvent) JSON(b []byte, i int) []byte { return audit.AppendString(b, f.texts[i]) }

var fakeNames = []string{"time", "host", "rules", "duration"}

// quietOnTerminals reports what a terminal would obey in a text, besides line
// breaks of ours.
func quietOnTerminals(text string) (rune, bool) {
	for _, r := range text {
		if r != '\n' && r != '\r' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\ufffd') {
			return r, false
		}
	}
	return 0, true
}

// FuzzRowWriter: whatever the cells are, no format moves the cursor, breaks its
// lines elsewhere, or loses a cell; CSV and JSON give back what was written.
func FuzzRowWriter(f *testing.F) {
	for _, s := range []string{"", "api.partner.example", "\x1b]0;owned\x07", "a\nb", "=1", "\u202e", "\u009b31m", `["a","\u001b"]`, "\xff", "-", "  "} {
		f.Add(s, "x")
		f.Add("x", s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		e := fakeEvent{fakeNames, []string{a, b, b, a}}
		for _, format := range append(formats, "text") {
			var out bytes.Buffer
			w := bufio.NewWriter(&out)
			var err error
			if format == "text" {
				err = (&tail{w: w}).text(e)
			} else {
				rows := newRowWriter(format, w, fakeNames)
				err = rows.write(e)
				if err == nil {
					err = rows.close()
				}
			}
			if err != nil || w.Flush() != nil {
				t.Fatal(err)
			}
			if r, ok := quietOnTerminals(strings.ReplaceAll(out.String(), "\ufffd", "?")); !ok {
				t.Errorf("%s has %U in %q", format, r, out.String())
			}
			want := map[string]int{"table": 2, "csv": 2, "json": 1, "text": 1}[format]
			if n := strings.Count(out.String(), "\n"); n != want {
				t.Errorf("%s has %d lines: %q", format, n, out.String())
			}
			switch format {
			case "csv":
				rows, err := csv.NewReader(&out).ReadAll()
				if err != nil || len(rows) != 2 || audit.Uncell(rows[1][0]) != audit.Text(a, math.MaxInt) {
					t.Errorf("%q and %q became %q: %v", a, b, rows, err)
				}
			case "json":
				var got map[string]string
				if err := json.Unmarshal(out.Bytes(), &got); err != nil || got["host"] != strings.ToValidUTF8(b, "\ufffd") && !strings.Contains(got["host"], "\ufffd") {
					t.Errorf("%q became %q: %v", b, got, err)
				}
			}
		}
	})
}

// TestStreamedTable: rows that come after the widths are settled are whole too.
func TestStreamedTable(t *testing.T) {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	rows := newRowWriter("table", w, []string{"host", "client_address"})
	for n := range tableRows + 5 {
		if err := rows.write(fakeEvent{[]string{"host", "client_address"}, []string{strings.Repeat("x", n%300), "end" + strconv.Itoa(n)}}); err != nil {
			t.Fatal(err)
		}
	}
	if rows.close() != nil || w.Flush() != nil {
		t.Fatal("not written")
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != tableRows+6 || !strings.HasPrefix(lines[0], "HOST  ") || !strings.HasSuffix(lines[0], "CLIENT ADDRESS") || !strings.HasPrefix(lines[1], "-  ") {
		t.Fatalf("%d lines, the first %q and %q", len(lines), lines[0], lines[1])
	}
	for n, line := range lines[1:] {
		if !strings.HasSuffix(line, " end"+strconv.Itoa(n)) || strings.Count(line, "x") != n%300 {
			t.Errorf("row %d is cut: %q", n, line)
		}
	}
}

// TestQueryWords: the vocabulary has every reason, so that a new one is added to it;
// and a word that is not in it names the one that was meant.
func TestQueryWords(t *testing.T) {
	names := map[string]bool{}
	for _, path := range []string{"../../../../policy/reason.go", "../../../../webhook/reason.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
				names[spec.Names[0].Name] = true
			}
			return true
		})
	}
	if len(names) != len(ReasonNames) || len(names) < 40 {
		t.Errorf("the vocabularies have %d reasons, and the list %d", len(names), len(ReasonNames))
	}
	for _, reason := range []string{string(policy.NoRuleMatched), string(identity.CredentialExpired)} {
		if !slices.Contains(ReasonNames, reason) {
			t.Errorf("%s is not a reason", reason)
		}
	}
	for given, want := range map[string]string{
		"alow": "", "no-rule-matched": "no_rule_matched", "no_rule_match": "no_rule_matched", "expired": "credential_expired",
		"policy_deny": "policy_denied", "zzz": "", "audit_unavailble": "audit_unavailable",
	} {
		if got := cli.Nearest(given, ReasonNames); got != want {
			t.Errorf("%s is near %q, want %q", given, got, want)
		}
	}
	if got := cli.Nearest("alow", []string{"allow", "deny"}); got != "allow" {
		t.Errorf("alow is near %q", got)
	}
}

// TestOutFile: a file comes to be whole or not at all, and replaces no other file.
func TestOutFile(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "out.csv")
	o, err := auditdb.CreateOut(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(o, "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("it is there before it is whole")
	}
	o.Discard()
	if left, _ := os.ReadDir(directory); len(left) != 0 {
		t.Errorf("what was given up leaves %v", left)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auditdb.CreateOut(path); err == nil || !strings.Contains(err.Error(), "is not written over") {
		t.Errorf("a file that is there: %v", err)
	}
	if err := os.Symlink("nowhere", filepath.Join(directory, "link")); err != nil {
		t.Fatal(err)
	}
	if _, err := auditdb.CreateOut(filepath.Join(directory, "link")); err == nil {
		t.Error("a link that leads nowhere is followed")
	}
}

// TestFilters: all errors of a filter are reported at once.
func TestFilters(t *testing.T) {
	parse := func(args ...string) (string, error) {
		c := newQuery()
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(append(args, "--database-url-file", filepath.Join(t.TempDir(), "none")))
		err := c.ExecuteContext(t.Context())
		return fmt.Sprint(err), err
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--verdict", "alow"}, "did you mean allow?"},
		{[]string{"--kind", "decisions,tunel_closed"}, "did you mean decision?"},
		{[]string{"--kind", "decisions,tunel_closed"}, "did you mean tunnel_closed?"},
		{[]string{"--decision-reason", "no_rule"}, "did you mean no_rule_matched?"},
		{[]string{"--mode", "audit"}, "want one of enforce, report"},
		{[]string{"--host", "*"}, "*.partner.example"},
		{[]string{"--host", "a.*.example"}, "*.partner.example"},
		{[]string{"--client", "10.1.2"}, "write an address"},
		{[]string{"--step", "7"}, "is not a UUID"},
		{[]string{"--delivery", "7"}, "--delivery \"7\" is not a UUID"},
		{[]string{"--event", "repo:pusch"}, "did you mean repo:push?"},
		{[]string{"--receiver", "Builds"}, "--receiver \"Builds\" is not a name of the configuration"},
		{[]string{"--endpoint", "a;b"}, "--endpoint \"a;b\" is not a name"},
		{[]string{"--revision", "sha256:a"}, "at least four"},
		{[]string{"--since", "yesterday"}, "is not a time"},
		{[]string{"--since", "1h", "--until", "2h"}, "is not before"},
		{[]string{"--columns", "hosts"}, "did you mean host?"},
		{[]string{"--columns", "host,host"}, "twice"},
		{[]string{"--format", "jsn"}, "did you mean json?"},
		{[]string{"--order", "up"}, "newest, oldest"},
		{[]string{"--limit", "-1"}, "--limit -1"},
		{[]string{"--host", "*.Partner.Example.", "--client", "10.1.0.0/16", "--columns", "all"}, "file does not exist"},
	} {
		if values, err := parse(tt.args...); err == nil || !strings.Contains(values, tt.want) {
			t.Errorf("%q: %s, want %q", tt.args, values, tt.want)
		}
	}
}

func TestParameters(t *testing.T) {
	q := addFilterFlags(new(cobra.Command), auditdb.Flags{}, "")
	*q.hosts, *q.ports = []string{"*.partner.example"}, []int32{443}
	question, err := q.filter(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	question.Since, question.Until = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 21, 8, 40, 0, 0, time.UTC)
	question.Columns = []string{"time"}
	got := string((&query{filter: question, format: "csv"}).parameters())
	if want := `{"columns":["time"],"format":"csv","host":["*.partner.example"],"order":"newest","port":[443],"self_tests":"excluded","since":"2026-11-01T00:00:00Z","until":"2026-11-21T08:40:00Z"}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
