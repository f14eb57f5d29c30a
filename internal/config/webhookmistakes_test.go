package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/misspelling"
)

// exampleWebhooks is the section webhooks of the example with every key in force.
func exampleWebhooks(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(exampleFile)
	if err != nil {
		t.Fatal(err)
	}
	_, text, begins := strings.Cut(string(raw), "\n#webhooks:\n")
	text, _, ends := strings.Cut(text, "\n\n")
	if !begins || !ends {
		t.Fatal("the example has no section webhooks")
	}
	var b strings.Builder
	b.WriteString("webhooks:\n")
	for line := range strings.Lines(text + "\n") {
		if !strings.HasPrefix(strings.TrimLeft(line, " "), "# ") {
			b.WriteString(strings.Replace(line, "#", "", 1))
		}
	}
	return b.String()
}

// exampleValue finds the scalars of a value in block style, or of a list in flow style.
var exampleValue = regexp.MustCompile(`"[^"]*"|[^\s"\[\]{},:][^"\[\]{},]*`)

// undecided are the values of the example whose misspellings may be correct: names that
// nothing in the configuration refers to, addresses, paths and amounts.
var undecided = []string{
	"name: policy", "name: builds", "name: private-jenkins", "name: other", "name: app", // app is an object in Kubernetes too
	"path", "url", "server", "namespace", "address", "max_connections", "max_connections_per_client", "proxy_protocol_from", "networks",
	"networks_max_age", "max_body_bytes", "requests_per_second", "timeout", "retry_for", "allow_networks", "body_max_age",
	"repositories", "branches", "tags", "pull_requests", // of repositories, the slug
}

// TestMisspelledWebhooks: no misspelling of a value in the example is accepted silently, unless
// the configuration alone cannot decide about it.
func TestMisspelledWebhooks(t *testing.T) {
	t.Parallel()
	directory, file := newDirectory(t)
	for _, d := range []string{"secrets", "tls"} {
		if err := os.Mkdir(filepath.Join(directory, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"webhook-secret", "webhook-secret-before", "cluster-token"} {
		writeFile(t, filepath.Join(directory, "secrets", name), fmt.Sprintf("swordfish-swordfish-%d\n", i))
	}
	writeFile(t, filepath.Join(directory, "secrets", "endpoint-secret"), endpointSecret)
	certificate, key := newCertificate(t, testCertificate{})
	writeFile(t, filepath.Join(directory, "tls", "certificate.pem"), certificate)
	writeFile(t, filepath.Join(directory, "tls", "key.pem"), key)
	result := func(text string) string {
		cfg, err := Parse(file, []byte(gitPolicy+text))
		if err != nil {
			return "error"
		}
		return fmt.Sprint(cfg.Warnings())
	}
	text := exampleWebhooks(t)
	usual := result(text)
	if usual == "error" {
		t.Fatalf("the section is not accepted:\n%s", text)
	}
	values := 0
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		name, after, found := strings.Cut(line, ": ")
		if !found || strings.Contains(after, "{") { // the values in flow style occur elsewhere in block style
			continue
		}
		name = strings.TrimLeft(name, " -")
		for _, at := range exampleValue.FindAllStringIndex(after, -1) {
			word := strings.Trim(after[at[0]:at[1]], "\" \n")
			values++
			for j, wrong := range misspelling.Near(word) {
				if j%31 != i%31 {
					continue // each is one of a series of similar ones
				}
				replaced := name + ": " + after[:at[0]] + strings.Replace(after[at[0]:at[1]], word, wrong, 1) + after[at[1]:]
				mistaken := strings.Join(lines[:i], "") + line[:len(line)-len(after)-len(name)-2] + replaced + strings.Join(lines[i+1:], "")
				if result(mistaken) != usual {
					continue
				}
				if !slices.Contains(undecided, name) && !slices.Contains(undecided, name+": "+word) {
					t.Errorf("%s: %s is accepted in place of %s", name, wrong, word)
				}
			}
		}
	}
	if values < 45 {
		t.Errorf("only %d values", values)
	}
	// The workspace of a repository is decided, its slug is not.
	for _, wrong := range misspelling.Near("acme") {
		if strings.EqualFold(wrong, "acme") {
			continue
		}
		if mistaken := strings.Replace(text, `["acme/egress-policy"]`, `["`+wrong+`/egress-policy"]`, 1); result(mistaken) == usual {
			t.Errorf("the workspace %s is accepted in place of acme", wrong)
		}
	}
}
