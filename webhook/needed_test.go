package webhook

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A removal takes one check away from the source of the package. Each old text is
// replaced by a new one, in which REMOVED stands for a condition that is true in the
// run for this check only.
type removal struct {
	file, old, new string
	rows           []string // of [mutations], which fail without the check: no others do
}

var removals = map[string]removal{
	"the signature is verified": {"verify.go", "if !r.verified(body, signature) {", "if !REMOVED && !r.verified(body, signature) {", []string{
		"a ping signed by another", "large and not verified", "no body", "of a compacted body", "of another body", "of another secret", "one digit changed", "signed, an unused secret",
		"the body changed", "the body cut off", "the body extended", "the digest, no HMAC",
	}},
	"a signature is there": {"verify.go", "return Signature{}, UnsignedProblem", "if REMOVED { return Signature{}, \"\" }; return Signature{}, UnsignedProblem", []string{
		"a ping of Cloud", "a ping twice", "no signature", "unknown and unsigned",
	}},
	"there is one signature":         {"verify.go", "if len(values) > 1 {", "if !REMOVED && len(values) > 1 {", []string{"two signatures"}},
	"the form of the signature":      {"signature.go", `if !ok || len(digits) != hex.EncodedLen(len(s)) {`, `if REMOVED && len(digits) < 64 { return Signature{}, ErrSignature } else if REMOVED { digits = digits[:64] } else if !ok || len(digits) != hex.EncodedLen(len(s)) {`, []string{"malformed signature 12", "malformed signature 13", "malformed signature 4", "malformed signature 6"}},
	"a ping is one of Data Center":   {"verify.go", "ok && key == Ping && r.c.Kind == DataCenter {", "ok && key == Ping && (REMOVED || r.c.Kind == DataCenter) {", []string{"a ping of Cloud"}},
	"a ping has one event key":       {"verify.go", `if key, ok := singleValue(req.Header, "X-Event-Key"); `, `if key, ok := singleValue(req.Header, "X-Event-Key"); REMOVED && r.c.Kind == DataCenter && req.Header.Get("X-Event-Key") == Ping { return Signature{}, PingProblem } else if `, []string{"a ping twice"}},
	"a ping is not a delivery":       {"verify.go", "if key == Ping && r.c.Kind == DataCenter {", "if !REMOVED && key == Ping && r.c.Kind == DataCenter {", []string{"a signed ping"}},
	"the event is documented":        {"verify.go", "if !ok || !IsEvent(r.c.Kind, key) {", "if !REMOVED && (!ok || !IsEvent(r.c.Kind, key)) {", []string{"Cloud's to Data Center", "a signed ping of Cloud", "an empty event key", "an event in capitals", "an unknown event", "no event key", "of the other product", "two event keys"}},
	"the method":                     {"verify.go", "if req.Method != http.MethodPost {", "if !REMOVED && req.Method != http.MethodPost {", []string{"GET", "OPTIONS", "PUT", "another method"}},
	"the content type":               {"verify.go", "if !ok || err != nil || media != \"application/json\"", "if !REMOVED && (!ok || err != nil || media != \"application/json\")", []string{"JSON's cousin", "a form", "a malformed type", "no content type", "text", "two content types"}},
	"the charset":                    {"verify.go", "charset != \"\" && !strings.EqualFold", "!REMOVED && charset != \"\" && !strings.EqualFold", []string{"UTF-16"}},
	"no content coding":              {"verify.go", "if _, coded := req.Header[\"Content-Encoding\"]; coded {", "if _, coded := req.Header[\"Content-Encoding\"]; !REMOVED && coded {", []string{"gzip", "identity, said"}},
	"the size":                       {"verify.go", "r.c.MaxBody))", "r.c.MaxBody + map[bool]int64{REMOVED: 1 << 20}[true]))", []string{"one more, in chunks"}},
	"objects that an event has":      {"parse.go", "if _, ok := top.object(name); !ok {", "if _, ok := top.object(name); !REMOVED && !ok {", []string{"a push without changes"}},
	"objects that an event has not":  {"parse.go", "if top.has(name) && !slices.Contains(s.needs, name)", "if !REMOVED && top.has(name) && !slices.Contains(s.needs, name)", []string{"a comment as a merge"}},
	"the event key in the body":      {"parse.go", "if kind == DataCenter && top.text(\"eventKey\") != key {", "if !REMOVED && kind == DataCenter && top.text(\"eventKey\") != key {", []string{"another key in the body"}},
	"the pull request's state":       {"parse.go", "if len(s.states) > 0 &&", "if !REMOVED && len(s.states) > 0 &&", []string{"a merge that is open"}},
	"a key occurs once":              {"json.go", "if _, twice := object[name]; twice {", "if _, twice := object[name]; !REMOVED && twice {", []string{"signed, a key twice"}},
	"a key has one spelling":         {"json.go", "if name != key && strings.EqualFold(name, key) {", "if !REMOVED && name != key && strings.EqualFold(name, key) {", []string{"signed, keys in capitals", "signed, keys in two spellings"}},
	"an unused secret":               {"signature.go", "return strings.HasPrefix(key, UnusedSecretPrefix)", "return !REMOVED && strings.HasPrefix(key, UnusedSecretPrefix)", []string{"signed, an unused secret"}},
	"the body is UTF-8":              {"json.go", "if !utf8.Valid(body) {", "if !REMOVED && !utf8.Valid(body) {", []string{"signed, not UTF-8"}},
	"a merge is into the repository": {"binding.go", "if pr.Destination.Repository.differs(e.Repository) {", "if !REMOVED && pr.Destination.Repository.differs(e.Repository) {", []string{"signed, a merge elsewhere"}},
	"one id has one name":            {"binding.go", "return idKnown && nameKnown && id != name", "return !REMOVED && idKnown && nameKnown && id != name", []string{"signed, one id, two names"}},
	"a clone is of the repository":   {"binding.go", "if !belongs(normal) {", "if !REMOVED && !belongs(normal) {", []string{"signed, a clone elsewhere"}},
	"a page is of the repository":    {"binding.go", "case !r.hasPath(", "case !REMOVED && !r.hasPath(", []string{"signed, a page elsewhere"}},
	"a full name does not climb":     {"binding.go", `if r != nil && r.FullName != "" && !validFullName`, `if !REMOVED && r != nil && r.FullName != "" && !validFullName`, []string{"signed, a name that climbs"}},
	"the repository is named":        {"parse.go", "if hasRepository && (", "if !REMOVED && hasRepository && (", []string{"signed, no repository's name"}},
}

// withoutChecks compiles this package's tests with a switch for each removal, by an overlay
// of the sources, and returns the test program.
func withoutChecks(t *testing.T) string {
	t.Helper()
	folder, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	directory, sources := t.TempDir(), map[string]string{}
	for name, r := range removals {
		text, ok := sources[r.file]
		if !ok {
			original, err := os.ReadFile(r.file)
			if err != nil {
				t.Fatal(err)
			}
			text = string(original)
		}
		if strings.Count(text, r.old) != 1 {
			t.Fatalf("%s: %s has %q %d times, want once", name, r.file, r.old, strings.Count(text, r.old))
		}
		sources[r.file] = strings.Replace(text, r.old, strings.ReplaceAll(r.new, "REMOVED", `checkRemoved("`+name+`")`), 1)
	}
	sources["removed.go"] = "package webhook\n\nimport \"os\"\n\nfunc checkRemoved(name string) bool { return os.Getenv(\"WEBHOOK_CHECK_REMOVED\") == name }\n"
	replace := map[string]string{}
	for name, text := range sources {
		file := filepath.Join(directory, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(folder, name)] = file
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	overlayFile, program := filepath.Join(directory, "overlay.json"), filepath.Join(directory, "webhook.test")
	if err := os.WriteFile(overlayFile, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-overlay", overlayFile, "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("compile: %v\n%s", err, out)
	}
	return program
}

var failedRow = regexp.MustCompile(`(?m)^    --- FAIL: TestMutatedDeliveries/(.*)_http2=(?:true|false) \(`)

// failures runs the mutations without one check, and returns the rows that fail.
func failures(t *testing.T, program, check string) []string {
	t.Helper()
	c := exec.CommandContext(t.Context(), program, "-test.run", "^TestMutatedDeliveries$", "-test.v", "-test.parallel", "16")
	c.Env = append(os.Environ(), "WEBHOOK_CHECK_REMOVED="+check)
	out, err := c.CombinedOutput()
	if (err != nil) != strings.Contains(string(out), "--- FAIL") {
		t.Fatalf("%s: %v\n%s", check, err, out)
	}
	var rows []string
	for _, m := range failedRow.FindAllStringSubmatch(string(out), -1) {
		rows = append(rows, strings.ReplaceAll(m[1], "_", " "))
	}
	slices.Sort(rows)
	return slices.Compact(rows)
}

// TestChecksAreNeeded: without one check of a receiver, exactly the mutations fail that the
// check is for.
func TestChecksAreNeeded(t *testing.T) {
	t.Parallel()
	program := withoutChecks(t)
	if rows := failures(t, program, ""); len(rows) > 0 {
		t.Fatalf("with every check, %d rows fail", len(rows))
	}
	for check, r := range removals {
		t.Run(check, func(t *testing.T) {
			t.Parallel()
			want := slices.Sorted(slices.Values(r.rows))
			if got := failures(t, program, check); !slices.Equal(got, want) {
				t.Errorf("without the check these fail:\n%q\nwant\n%q", got, want)
			}
		})
	}
}
