package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const referencePage = "../../docs/configuration.md"

// TestReference holds the page's table and the schema together, in both directions: the table is the schema's.
func TestReference(t *testing.T) {
	page, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- keys -->\n", "<!-- /keys -->"
	head, rest, found := strings.Cut(string(page), begin)
	table, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has lost its marks %q and %q", referencePage, begin, end)
	}
	want := referenceTable()
	if *update {
		if err := os.WriteFile(referencePage, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("the table is not the schema's; run go test ./internal/config -run TestReference -update (-schema +page):\n%s", diff)
	}
}

func referenceTable() string {
	var b strings.Builder
	b.WriteString("| key | type | default | meaning |\n|---|---|---|---|\n")
	walk(rootFields(new(Config)), "", func(path string, f field) {
		initial := ""
		switch {
		case f.required:
			initial = "required"
		case f.fallback != "":
			initial = "`" + f.fallback + "`"
		}
		b.WriteString("| `" + path + "` | " + f.kind + " | " + initial + " | " + f.meaning + " |\n")
	})
	return b.String()
}

// TestReferenceTypes checks that the page explains every type that the table uses.
func TestReferenceTypes(t *testing.T) {
	page, err := os.ReadFile(referencePage)
	if err != nil {
		t.Fatal(err)
	}
	_, types, _ := strings.Cut(string(page), "## Types")
	types, _, _ = strings.Cut(types, "## Keys")
	walk(rootFields(new(Config)), "", func(path string, f field) {
		kind := strings.TrimPrefix(f.kind, "list of ")
		if kind == "mapping" || kind == "mappings" || strings.Contains(kind, "|") {
			return
		}
		if !strings.Contains(types, "| "+kind+" |") && !strings.Contains(types, kind+",") && !strings.Contains(types, ", "+kind+" |") {
			t.Errorf("%s: the type %q is not explained", path, kind)
		}
	})
}
