package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCommandsOnAHostileFolder: the operator's commands survive a stranger's policy,
// and name its file and the limit.
func TestCommandsOnAHostileFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var nested strings.Builder
	nested.WriteString("package sallyport.repository[\"acme/tools\"]\n\n")
	for _, v := range []string{"x", "y"} {
		nested.WriteString(v + "0 := json.unmarshal(\"[1]\")\n\n")
		before := v + "0"
		for _, c := range "abcdefghijklmnopqrst" {
			nested.WriteString(v + string(c) + " := array.concat([" + before + "], [" + before + "])\n\n")
			before = v + string(c)
		}
	}
	rules := nested.String() + "allow contains {\"rule\": \"bomb\"} if {\n\tinput.target.host == \"bomb.example\"\n\txt == yt\n}\n"
	for name, text := range map[string]string{
		"egress/a.rego":                           "package sallyport.egress\n\ndelegate contains {\"rule\": \"all\"}\n",
		"repositories/acme/tools/bomb.rego":       rules,
		"repositories/acme/tools/bomb_test.rego":  "package sallyport.repository_test[\"acme/tools\"]\n\nimport data.sallyport.repository[\"acme/tools\"] as own\n\ntest_bomb if own.xt == own.yt\n",
		"repositories/acme/tools/harmless_x.rego": "package sallyport.repository[\"acme/tools\"]\n\nallow contains {\"rule\": \"fine\"} if input.target.host == \"fine.example\"\n",
	} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// First, for what follows puts the repository into quarantine.
	var out bytes.Buffer
	if code := run(t.Context(), strings.Fields("policy eval "+dir+" --as repository=acme/tools --to fine.example:443"), strings.NewReader(""), &out, &out); code != exitOK {
		t.Errorf("the harmless rule: %d\n%s", code, out.String())
	}
	for _, c := range []struct {
		command string
		says    []string
	}{
		{"policy test " + dir, []string{"bomb_test.rego:", "exceeded the stack limit"}},
		{"policy eval " + dir + " --as repository=acme/tools --to bomb.example:443", []string{"bomb.rego:", "exceeded the stack limit"}},
	} {
		var out bytes.Buffer
		code := run(t.Context(), strings.Fields(c.command), strings.NewReader(""), &out, &out)
		if code == exitOK {
			t.Errorf("%s: status 0", c.command)
		}
		for _, want := range c.says {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not name %q:\n%.800s", c.command, want, out.String())
			}
		}
	}
}
