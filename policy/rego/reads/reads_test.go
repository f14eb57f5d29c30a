package reads

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/paths"
)

// compiled compiles a module, nil if it does not compile, or if OPA panics.
func compiled(text string) (module *ast.Module) {
	defer func() { _ = recover() }()
	m, err := ast.ParseModuleWithOpts("a.rego", text, ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil || m == nil {
		return nil
	}
	c := ast.NewCompiler()
	if c.Compile(map[string]*ast.Module{"a.rego": m}); c.Failed() {
		return nil
	}
	return c.Modules["a.rego"]
}

var cases = []struct {
	name, rules    string
	compiled, text []string // nil: as compiled
	clock          bool
}{
	{name: "a path", rules: "p if input.target.host == \"a\"", compiled: []string{"target.host"}},
	{name: "brackets", rules: "p if input[\"principal\"][\"x-a\"].uuid", compiled: []string{"principal.x-a.uuid"}},
	{name: "a variable key", rules: "p if { x := input.action; input.target[x] == 1 }", compiled: []string{"action", "target"}},
	{name: "a key that is a part of the input", rules: "p if input.target[input.principal.branch]", compiled: []string{"principal.branch", "target"}},
	{name: "the whole input", rules: "p if count(input) > 1", compiled: []string{""}},
	{name: "the whole input as a value", rules: "p := input", compiled: []string{""}},
	{name: "a variable for a part", rules: "p if { x := input.principal; x.branch }", compiled: []string{"principal"}},
	{name: "a head", rules: "p[input.target.host] := input.action", compiled: []string{"action", "target.host"}},
	{name: "a head with points", rules: "p[input.target.host].x[input.action] := 1", compiled: []string{"action", "target.host"}},
	{name: "a function", rules: "f(x) if x.host\n\np if f(input.target)", compiled: []string{"target"}},
	{name: "with", rules: "p if q with input.target.port as 1\n\nq if input.action", compiled: []string{"action", "target.port"}},
	{name: "with the whole", rules: "p if q with input as {\"action\": input.time}\n\nq if input.action", compiled: []string{""}},
	{name: "every", rules: "p if every k, v in input.target { v != input.action; k != 1 }", compiled: []string{"action", "target"}},
	{name: "a comprehension", rules: "p := {x | some x in input.principal}", compiled: []string{"principal"}},
	{name: "else", rules: "p := 1 if { input.action == \"a\" } else := input.time", compiled: []string{"action", "time"}},
	{name: "not", rules: "p if not input.principal.deployment", compiled: []string{"principal.deployment"}},
	{name: "a template", rules: "p := $\"{input.target.host}\"", compiled: []string{"target.host"}, text: []string{""}, clock: true},
	{name: "a comment and a text", rules: "# input is not read\np if input.action == \"input.time # \" # input.time", compiled: []string{"action"}},
	{name: "a raw text", rules: "p if { input.action == `# \" input`; input.time }", compiled: []string{"action", "time"}},
	{name: "an escaped quote", rules: "p if { input.action == \"\\\" # \\\\\"; input.time }", compiled: []string{"action", "time"}},
	{name: "an escape in a name", rules: "p if input[\"tim\\u0065\"]", compiled: []string{"time"}, text: []string{""}, clock: true},
	{name: "a new line in a path", rules: "p if input.target[\n\"host\"]", compiled: []string{"target.host"}, text: []string{"target"}},
	{name: "another word", rules: "p if { my_input := 1; input2 := my_input; input2 == 1 }", compiled: []string{}},
	{name: "a field of that name", rules: "p if input.input.target", compiled: []string{"input.target"}},
	{name: "the clock", rules: "p if time.now_ns() > 1", compiled: []string{}, clock: true},
	{name: "the clock in brackets", rules: "p if time[\"now_ns\"]() > 1", compiled: []string{}, clock: true},
	{name: "another function that varies", rules: "p if rand.intn(\"a\", 10) > 1", compiled: []string{}, clock: true},
}

// TestReads: both analyses find what the rules read.
func TestReads(t *testing.T) {
	for _, c := range cases {
		text := "package a\n\n" + c.rules + "\n"
		m := compiled(text)
		if m == nil {
			t.Errorf("%s: it does not compile", c.name)
			continue
		}
		if c.text == nil {
			c.text = c.compiled
		}
		found, scanned := OfModules(map[string]*ast.Module{"a.rego": m}), OfText([]byte(text), Clocks(nil))
		if got := found.Input.Paths(); !slices.Equal(got, c.compiled) && len(got)+len(c.compiled) > 0 {
			t.Errorf("%s: compiled, it reads %q, want %q", c.name, got, c.compiled)
		}
		if got := scanned.Input.Paths(); !slices.Equal(got, c.text) && len(got)+len(c.text) > 0 {
			t.Errorf("%s: as text, it reads %q, want %q", c.name, got, c.text)
		}
		if scanned.Clock != c.clock || found.Clock && !c.clock {
			t.Errorf("%s: the clock: compiled %v, as text %v, want %v", c.name, found.Clock, scanned.Clock, c.clock)
		}
	}
}

// TestClocks: the functions of a library that read the clock are found through others.
func TestClocks(t *testing.T) {
	library := map[string]*ast.Module{"l.rego": ast.MustParseModule("package l\n\na(x) if b(x)\n\nb(x) if time.now_ns() > x\n\nc(x) if x > 1\n")}
	names := Clocks(library)
	for name, want := range map[string]bool{"a": true, "b": true, "c": false, "now_ns": true, "intn": true, "rfc4122": true, "send": true} {
		if names[name] != want {
			t.Errorf("%s: %v", name, names[name])
		}
	}
}

// TestHostileText: a text costs no more than its bounds, whatever it names.
func TestHostileText(t *testing.T) {
	var many strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&many, "input.x%d ", i)
	}
	for name, text := range map[string]string{
		"many paths":      many.String(),
		"a deep path":     "input" + strings.Repeat(".a", 1<<20),
		"deep brackets":   "input" + strings.Repeat("[\"a\"]", 1<<20),
		"a long name":     "input." + strings.Repeat("a", 1<<20),
		"nested brackets": strings.Repeat("input[", 1<<20),
		"open texts":      strings.Repeat("\"", 1<<20) + "\n",
	} {
		var before, after runtime.MemStats
		content, clocks := []byte(text), Clocks(nil)
		runtime.GC()
		runtime.ReadMemStats(&before)
		found := OfText(content, clocks)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if size := int64(after.HeapAlloc) - int64(before.HeapAlloc); size > 256<<10 {
			t.Errorf("%s: %d bytes are kept", name, size)
		}
		if n := len(found.Input.Paths()); n > maxPaths {
			t.Errorf("%s: %d paths", name, n)
		}
		runtime.KeepAlive(content)
	}
	if found := OfText([]byte(many.String()), nil); !found.Input.HasAll() {
		t.Error("paths over the bound are lost")
	}
}

// covered reports whether a tree has a path as a whole.
func covered(t *paths.Tree, path []string) bool {
	for _, name := range path {
		if t == nil || t.HasAll() {
			break
		}
		t = t.Below(name)
	}
	return t != nil && t.HasAll()
}

// FuzzText: the text of a module that compiles reads, as this package scans it, at least
// what the compiled module reads.
func FuzzText(f *testing.F) {
	for _, c := range cases {
		f.Add("package a\n\n" + c.rules + "\n")
	}
	f.Add("package a\n\nimport input.principal as who\n\np if who.branch\n")
	f.Add("package a\n\nimport input\n\np if input.time\n")
	f.Add("package a\r\n\r\np if {\r\n\tinput.time # \"\r\n}\r\n")
	f.Add("\ufeffpackage a\np if 1e1 == input.time")
	f.Add("package a\np if [\"\", input.time][_]")
	f.Add("package a\np if input[`time`]")
	f.Add("package a\np if input[\"a\"].b[\"c\"][_].d")
	f.Add("package a\np if $`{input.time} \"`")
	f.Fuzz(func(t *testing.T, text string) {
		scanned := OfText([]byte(text), Clocks(nil))
		m := compiled(text)
		if m == nil {
			return
		}
		found := OfModules(map[string]*ast.Module{"a.rego": m})
		if found.Clock && !scanned.Clock {
			t.Fatalf("%q reads the clock", text)
		}
		var visit func(at *paths.Tree, path []string)
		visit = func(at *paths.Tree, path []string) {
			if at.HasAll() && !covered(&scanned.Input, path) {
				t.Fatalf("%q reads %q, and its text %q", text, strings.Join(path, "."), scanned.Input.Paths())
			}
			for _, name := range at.Members() {
				visit(at.Below(name), append(path[:len(path):len(path)], name))
			}
		}
		visit(&found.Input, nil)
	})
}
