package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPolicyToolsMistyped: what an operator mistypes is reported in one message that
// names what is meant instead, with status 2, which no pipeline mistakes for a finding
// about the policy; and nothing is written.
func TestPolicyToolsMistyped(t *testing.T) {
	t.Parallel()
	good := tree(t, oldTree)
	s := newSeeded(t, good)
	s.fill()
	whole := s.exported()
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	if output := runCommand(t, 0, "policy", "test", tree(t, "-- egress/a.rego --\npackage sallyport.egress\n\nallow contains {\"rule\": \"a\"} if input.target.port == 443\n")); !strings.Contains(output, "there are no tests") {
		t.Errorf("a policy without tests: %s", output)
	}
	elsewhere := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(elsewhere, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	empty, noise := write("empty", nil), write("noise", bytes.Repeat([]byte{0, 0xff, '{', '\n'}, 1000))
	cut := write("cut", bytes.Join(lines[:len(lines)/2], nil))
	torn := write("torn", text[:len(text)/2])
	bare := t.TempDir()
	out := filepath.Join(elsewhere, "out")
	for _, c := range []struct {
		says string
		args []string
	}{
		{"there is no nowhere: name the policy repository's directory", []string{"check", "nowhere"}},
		{"there is no policy in it: rules stand in egress/*.rego", []string{"test", bare}},
		{"is a file: name the policy repository's directory", []string{"check", whole}},
		{"see: sallyport policy check --help", []string{"check"}},
		{"unknown flag: --stern", []string{"check", good, "--stern"}},
		{"--as: \"acme/payments\" is not key=value", []string{"eval", good, "--as", "acme/payments", "--to", "a.example"}},
		{"--as has no key \"repo\"", []string{"eval", good, "--as", "repo=acme/payments", "--to", "a.example"}},
		{"--as has no key \"repo\": did you mean repository?", []string{"eval", good, "--as", "repo=acme/payments", "--to", "a.example"}},
		{"--as is missing", []string{"eval", good, "--to", "a.example"}},
		{"in lower case: write repository=acme/payments", []string{"eval", good, "--as", "repository=Acme/Payments", "--to", "a.example"}},
		{"write branch=main", []string{"eval", good, "--as", "repository=acme/payments,branch=refs/heads/main", "--to", "a.example"}},
		{"no deployment has this type", []string{"eval", good, "--as", "repository=acme/payments,deployment_type=prod", "--to", "a.example"}},
		{"methods are in capitals: write GET", []string{"eval", good, "--as", "repository=acme/payments", "--to", "a.example", "--method", "get"}},
		{"name the repository's directory: " + good, []string{"check", filepath.Join(good, "egress")}},
		{"is a URL", []string{"eval", good, "--as", "repository=acme/payments", "--to", "https://a.example/"}},
		{"--at: \"friday\" is not a time: write 30d or 12h", []string{"eval", good, "--as", "repository=acme/payments", "--to", "a.example", "--at", "friday"}},
		{"--since: \"nonsense\" is not a time", []string{"replay", good, "--export", whole, "--since", "nonsense"}},
		{"--since: \"-3d\" is not a time", []string{"replay", good, "--export", whole, "--since", "-3d"}},
		{"is not before --until", []string{"replay", good, "--export", whole, "--since", "1h", "--until", "2h"}},
		{"--groups -1: want 0 or more", []string{"replay", good, "--export", whole, "--groups", "-1"}},
		{"no such file", []string{"replay", good, "--export", filepath.Join(elsewhere, "none")}},
		{"--export " + empty + ": the export has no end", []string{"replay", good, "--export", empty}},
		{"--export " + noise + ": this is not an export", []string{"replay", good, "--export", noise}},
		{"--export " + cut + ": the export has no end: it was cut off", []string{"replay", good, "--export", cut}},
		{"--export " + torn + ": ", []string{"replay", good, "--export", torn}},
		{"leave out -c and --database-url-file", []string{"replay", good, "--export", whole, "-c", "x"}},
		{"correct the name after -c FILE", []string{"rollout", "-c", filepath.Join(elsewhere, "none.yaml")}},
		{"is not a decision's id: it is a UUID", []string{"explain", "17"}},
		{"the log has no decision", []string{"explain", "01a1fdf4-c192-7cf7-900b-ffffffffffff", "--export", whole}},
		{"--to is missing", []string{"who-can", good, "--export", whole}},
		{"a target is one host", []string{"who-can", good, "--export", whole, "--to", "*.example"}},
		{"--out is missing", []string{"suggest", "--all", "--export", whole}},
		{"name the repositories", []string{"suggest", "--out", out, "--export", whole}},
		{"--export " + cut, []string{"suggest", "--all", "--out", out, "--export", cut}},
		{"--export " + torn, []string{"rollout", "--export", torn}},
		{"give two directories", []string{"diff", good}},
		{"holds a policy already, and nothing is written", []string{"init", good}},
	} {
		status := 2
		if strings.HasPrefix(c.says, "the log has no decision") {
			status = 1 // it failed to find one; the command is right
		}
		output := runCommand(t, status, append([]string{"policy"}, c.args...)...)
		if !strings.Contains(output, c.says) || strings.Contains(output, "goroutine ") {
			t.Errorf("%q is answered with\n%s\nwhich does not say %q", c.args, output, c.says)
		}
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
}
