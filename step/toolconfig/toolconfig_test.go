package toolconfig

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of tools into docs/step.md")

// TestTable holds the table of docs/step.md and the Go table together.
func TestTable(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "step.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- tools: written by go test ./step/toolconfig -run TestTable -update -->\n", "<!-- end of tools -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	var b strings.Builder
	b.WriteString("| tool | what `start` sets | why |\n|---|---|---|\n")
	for _, tool := range Tools {
		fmt.Fprintf(&b, "| [`%s`](%s) | %s | %s |\n", tool.Name, tool.Source, tool.Sets, tool.Why)
	}
	want := before + begin + b.String() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != want {
		t.Errorf("%s differs from the table: go test ./step/toolconfig -run TestTable -update", page)
	}
}

// TestTableIsComplete: every entry states what it does, and an entry without settings
// states why.
func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, tool := range Tools {
		if tool.Name == "" || tool.Sets == "" || tool.Why == "" || !strings.HasPrefix(tool.Source, "https://") || seen[tool.Name] {
			t.Errorf("%+v", tool)
		}
		seen[tool.Name] = true
		if nothing := tool.variables == nil && tool.files == nil; nothing != (tool.Sets == "nothing") {
			t.Errorf("%s sets %q", tool.Name, tool.Sets)
		}
	}
}

func TestSelect(t *testing.T) {
	for _, c := range []struct {
		only, without string
		want          string // names, or a part of the error
	}{
		{"maven,java", "", "java maven"},
		{"maven", "maven", "both name maven"},
		{"mavn", "", "did you mean maven?"},
		{"", "gradel", "did you mean gradle?"},
		{"", "zzzzzzzzzzzzzzz", "known are variables"},
		{"", "java,maven,gradle,npm,yarn,node,electron,docker,apt,chromium,git,pip,bun,cargo,dotnet", "variables"},
	} {
		split := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
		tools, err := Select(split(c.only), split(c.without))
		var names []string
		for _, tool := range tools {
			names = append(names, tool.Name)
		}
		if got := strings.Join(names, " "); err == nil && got != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("--only %q --without %q: %s, %v, want %s", c.only, c.without, got, err, c.want)
		}
	}
	if all, err := Select(nil, nil); err != nil || len(all) != len(Tools) {
		t.Errorf("%d, %v", len(all), err)
	}
}

func variable(t *testing.T, s Settings, name string) string {
	t.Helper()
	for _, v := range Variables(Tools, s) {
		if v.Name == name {
			return v.Value
		}
	}
	t.Fatalf("%s is not set", name)
	return ""
}

// TestNoProxy: existing hosts are kept, and Bitbucket's own proxy is reached directly.
func TestNoProxy(t *testing.T) {
	env := map[string]string{"NO_PROXY": "db.internal, .svc", "no_proxy": ".svc,10.0.0.0/8 localhost", "DOCKER_HOST": "tcp://docker:2375", "BITBUCKET_DOCKER_HOST_INTERNAL": "10.36.1.2"}
	s := testSettings(t, env)
	s.NoProxy = []string{"cache"}
	const want = "db.internal,.svc,10.0.0.0/8,localhost,127.0.0.1,host.docker.internal,cache,docker,10.36.1.2"
	if got := variable(t, s, "NO_PROXY"); got != want || variable(t, s, "no_proxy") != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	env["NO_PROXY"], env["no_proxy"] = want, want
	if got := variable(t, s, "NO_PROXY"); got != want {
		t.Errorf("the second start has %s", got)
	}
	if got := s.javaHosts(); got != "db.internal|*.db.internal|*.svc|localhost|127.0.0.1|host.docker.internal|cache|*.cache|docker|*.docker|10.36.1.2" {
		t.Errorf("Java's hosts: %s", got)
	}
	if got := BypassesAll(s); got != "" {
		t.Errorf("%q bypasses all", got)
	}
	for _, all := range []string{"*", "a,*", "0.0.0.0/0"} {
		env["no_proxy"] = all
		if BypassesAll(s) == "" {
			t.Errorf("%q bypasses nothing", all)
		}
	}
}

// TestHostileEnvironment: values of the environment do not become syntax of a file.
func TestHostileEnvironment(t *testing.T) {
	hostile := []string{"a\";evil \"b", "a|b", "<b>", "x\ny=1", "`id`", "$(id)", "a'b", "\\", "&amp;"}
	for _, value := range hostile {
		s := testSettings(t, map[string]string{"NO_PROXY": value, "DOCKER_HOST": "tcp://" + value, "BITBUCKET_DOCKER_HOST_INTERNAL": value})
		for _, text := range []string{s.mavenProxy(), s.gradleProperties(), s.aptConfiguration()} {
			for _, part := range []string{"evil", "<b>", "y=1", "`", "$(", "'", "\\", "&"} {
				if strings.Contains(text, part) {
					t.Errorf("%q reached %s", value, text)
				}
			}
		}
		if _, err := insertMavenProxy(nil, false, s.mavenProxy()); err != nil {
			t.Error(err)
		}
	}
}

// TestJavaOptions: options of the environment remain, and ours of an earlier start are
// replaced.
func TestJavaOptions(t *testing.T) {
	env := map[string]string{}
	s := testSettings(t, env)
	ours := variable(t, s, "JAVA_TOOL_OPTIONS")
	for _, c := range []struct{ before, want string }{
		{"", ours}, {"-Xmx1g", "-Xmx1g " + ours}, {ours, ours}, {"-Xmx1g " + ours, "-Xmx1g " + ours},
		{strings.ReplaceAll(ours, "40123", "1"), ours}, {"-Da=b " + ours + " -Dc=d", "-Da=b -Dc=d " + ours},
		{"-Dhttp.proxyHost=corp", "-Dhttp.proxyHost=corp " + ours},
	} {
		env["JAVA_TOOL_OPTIONS"] = c.before
		if got := variable(t, s, "JAVA_TOOL_OPTIONS"); got != c.want {
			t.Errorf("%q became %q, want %q", c.before, got, c.want)
		}
	}
}

// TestClosed: without a forwarder, every proxy is the closed port.
func TestClosed(t *testing.T) {
	s := testSettings(t, nil)
	s.Forwarder = netip.AddrPort{}
	for _, v := range Variables(Tools, s) {
		if strings.HasSuffix(strings.ToUpper(v.Name), "_PROXY") && !strings.Contains(strings.ToUpper(v.Name), "NO_PROXY") && v.Value != "http://127.0.0.1:9" && v.Value != "1" {
			t.Errorf("%s=%s", v.Name, v.Value)
		}
	}
}

// TestOrdinaryUser: without root, no file of the system is changed, and without a home no
// file at all.
func TestOrdinaryUser(t *testing.T) {
	s := testSettings(t, nil)
	s.Privileged, s.Home, s.PasswdHome = false, "", ""
	for _, tool := range Tools {
		if tool.files != nil && len(tool.files(&s)) > 0 {
			t.Errorf("%s: %v", tool.Name, tool.files(&s))
		}
	}
	s = testSettings(t, map[string]string{"GRADLE_USER_HOME": "/g", "DOCKER_CONFIG": "/d"})
	var paths []string
	for _, tool := range Tools {
		if tool.files != nil {
			for _, file := range tool.files(&s) {
				paths = append(paths, file.Path)
			}
		}
	}
	if !slices.Contains(paths, "/g/gradle.properties") || !slices.Contains(paths, "/d/config.json") {
		t.Errorf("%v", paths)
	}
}
