package archtest

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// documentedLimits are the constants that bound what clients can make the server hold,
// with the row of docs/operations.md that gives each, and how its number is written
// there.
var documentedLimits = []struct {
	constant string // package directory and name
	row      string // how the row begins
	written  func(int64) string
}{
	{"proxy.maxQuotas", "steps whose bytes are counted", thousands},
	{"proxy.maxRepositoryQuotas", "steps whose bytes are counted", thousands},
	{"proxy.refusalBurst", "refusals with an event of their own, for all targets and reasons", thousands},
	{"proxy.repeatBurst", "refusals with an event of their own, for one target and reason", thousands},
	{"proxy.maxRepeatKeys", "refusals whose repeats are counted", thousands},
	{"proxy.maxRepositoryRepeats", "refusals whose repeats are counted", thousands},
	{"proxy.maxRepeats", "refusals whose repeats are counted", thousands},
	{"proxy.throttleKeys", "addresses, steps and repositories whose recorded refusals are counted", thousands},
	{"proxy.unsettledPerProcessor", "requests in the gate at once while several repositories make requests", thousands},
	{"proxy.strangersPerSecond", "answers at once to clients without a credential", thousands},
	{"proxy.strangersBurst", "answers at once to clients without a credential", thousands},
	{"proxy/dns.DefaultCacheSize", "names in the DNS cache", thousands},
	{"proxy/frontend.maxPathBytes", "one path, without its query", thousands},
	{"identity/bitbucket.maxWaiting", "requests that wait for an issuer's keys", thousands},
	{"identity/bitbucket.maxWaitingChecks", "checks of signatures", thousands},
	{"identity/bitbucket.maxUnadmitted", "ended tokens that were not admitted", thousands},
	{"identity/bitbucket.maxUnknown", "key ids that the issuer does not publish", thousands},
	{"identity/bitbucket.maxKnownNames", "names that Bitbucket's API knows", thousands},
	{"identity/postgres.maxAdmissionsWaiting", "admitted tokens that wait to be written", thousands},
	{"identity/postgres.maxNamesWaiting", "names that wait to be written", thousands},
	{"audit.MaxRequestRecord", "record of one event about a request", kibibytes},
	{"audit/postgres/writer.groupRows", "events of one transaction", thousands},
	{"audit/postgres/writer.groupBytes", "events of one transaction", mebibytes},
	{"policy/rego.maxPrograms", "compiled programs of repositories", thousands},
	{"policy/rego.maxPrincipals", "parts of inputs that are kept", thousands},
	{"policy/rego/decisions.maxEntry", "one cached decision", kibibytes},
	{"internal/worker.maxWaiting", "evaluations of one repository that wait", thousands},
	{"webhook/listener.maxAddresses", "addresses with a rate of their own", thousands},
	{"webhook/listener.bodyBytes", "bytes of bodies in memory", mebibytes},
	{"webhook/listener.bodyBytesPerClient", "bytes of bodies in memory", mebibytes},
	{"webhook/listener.maxHeaderBytes", "one request head", kibibytes},
	{"webhook/listener.maxStreams", "requests at once on one HTTP/2 connection", thousands},
	{"webhook/resource.maxObjects", "objects in Kubernetes that one refresh annotates", thousands},
	{"webhook/resource.maxResponseBytes", "one response of a Kubernetes API server", mebibytes},
	{"webhook/resource.maxConflicts", "attempts of one annotation that conflicts", thousands},
	{"internal/totals.maxSources", "source networks that are counted apart", thousands},
	{"internal/totals.maxListed", "source networks that are counted apart", thousands},
	{"internal/selftest.maxEchoes", "connections of the self-test", thousands},
	{"cmd/sallyport/internal/logging.logWaiting", "log lines that wait for a reader", mebibytes},
	{"internal/reassignment.maxQueued", "reassigned names that wait to be recorded", thousands},
	{"policy/manager.maxDeaths", "deaths of policy workers that wait to be recorded", thousands},
	{"step/forwarder.maxRejecting", "connections that are answered without a place", thousands},
	{"step/forwarder.maxRemembered", "denials that are remembered", thousands},
	{"step/forwarder.maxTargets", "targets in the report", thousands},
	{"step/forwarder.maxRefusals", "refusals in the report", thousands},
	{"policy/manager.candidateQueue", "decisions that wait for the candidate policy", thousands},
}

func thousands(n int64) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func kibibytes(n int64) string { return fmt.Sprintf("%d KiB", n>>10) }
func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// TestLimitsAreDocumented: the tables of limits in docs/operations.md give each
// constant with the value that it has.
func TestLimitsAreDocumented(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]map[string]int64{}
	for _, l := range documentedLimits {
		dir, name, _ := strings.Cut(l.constant, ".")
		if values[dir] == nil {
			values[dir] = constants(t, filepath.Join("..", "..", dir))
		}
		value, found := values[dir][name]
		if !found {
			t.Errorf("%s is not an integer constant of its package: correct documentedLimits", l.constant)
			continue
		}
		row := ""
		for line := range strings.Lines(string(page)) {
			if strings.HasPrefix(line, "| "+l.row) {
				row = line
			}
		}
		if want := l.written(value); row == "" || !hasNumber(row, want) {
			t.Errorf("docs/operations.md does not give %s (%s) in a row that begins with %q: %s", l.constant, want, l.row, row)
		}
	}
}

// TestFixedLimitsHaveAReason: a limit of the tables that has no key is "fixed: ", with the
// reason why it has none.
func TestFixedLimitsHaveAReason(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## Limits\n")
	section, _, _ = strings.Cut(section, "\nThese bounds are not divided") // they have a column for the reason
	fixed := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.HasPrefix(line, "| ") {
			continue
		}
		key := strings.TrimSpace(cells[2])
		if reason, found := strings.CutPrefix(key, "fixed"); found {
			fixed++
			if reason = strings.TrimPrefix(reason, ": "); len(strings.Fields(reason)) < 4 {
				t.Errorf("docs/operations.md does not state why this limit has no key: %s", line)
			}
		} else if !strings.Contains(key, "`") && !strings.Contains(key, "the same key") && key != "key (under" && !strings.HasPrefix(key, "---") {
			t.Errorf("docs/operations.md has a limit with neither a key nor a reason: %s", line)
		}
	}
	if fixed < 10 {
		t.Errorf("%d fixed limits were found", fixed)
	}
}

// hasNumber reports whether a text has a number that is not a part of another one.
func hasNumber(text, number string) bool {
	for i := strings.Index(text, number); i >= 0; {
		end := i + len(number)
		before, after := text[i-1], text[end]
		if !strings.ContainsRune("0123456789,.", rune(before)) && !strings.ContainsRune("0123456789", rune(after)) && !(after == ',' && text[end+1] != ' ') {
			return true
		}
		next := strings.Index(text[end:], number)
		if next < 0 {
			return false
		}
		i = end + next
	}
	return false
}

// constants are the integer constants of a package whose values follow from literals
// and constants beside them.
func constants(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, filepath.Join(dir, entry.Name()), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		var kept []ast.Decl // types and functions are of no interest here
		for _, d := range file.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				kept = append(kept, d)
			}
		}
		file.Decls, file.Imports = kept, nil
		files = append(files, file)
	}
	// What the constants do not need is missing, which is an error of the check alone.
	config := types.Config{Importer: importer.Default(), Error: func(error) {}, IgnoreFuncBodies: true}
	p, _ := config.Check(dir, fset, files, nil)
	found := map[string]int64{}
	for _, name := range p.Scope().Names() {
		if c, ok := p.Scope().Lookup(name).(*types.Const); ok && c.Val().Kind() == constant.Int {
			found[name], _ = constant.Int64Val(c.Val())
		}
	}
	return found
}
