package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	decisionTitle   = regexp.MustCompile(`^# (\d{4}): [A-Z].*[^.]\n\nDate: 20\d\d-\d\d-\d\d\. Status: [a-z]`)
	decisionHeading = regexp.MustCompile(`(?m)^## (.+)$`)
)

// TestDecisionsHaveOneForm holds docs/adr to one form: the number of the file in the
// title, date and status, then the sections of [decisionSections] in their order.
func TestDecisionsHaveOneForm(t *testing.T) {
	files, err := filepath.Glob("adr/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("no decisions in docs/adr: %v", err)
	}
	for _, file := range files {
		if err := checkDecision(filepath.Base(file)[:4], read(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestDecisionFormIsNeeded shows that each rule of the form finds its fault.
func TestDecisionFormIsNeeded(t *testing.T) {
	const good = "# 0001: Title\n\nDate: 2026-11-21. Status: accepted.\n\n## Context\n\nx\n\n## Decision\n\nx\n\n## Consequences\n\nx\n"
	if err := checkDecision("0001", good); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"another number":  strings.Replace(good, "0001", "0002", 1),
		"no date":         strings.Replace(good, "Date: 2026-11-21. ", "", 1),
		"no consequences": strings.Replace(good, "## Consequences", "", 1),
		"unknown section": strings.Replace(good, "## Decision", "## Rejected\n\nx\n\n## Decision", 1),
		"wrong order":     strings.Replace(strings.Replace(good, "## Context", "## X", 1), "## Decision", "## Context", 1),
	} {
		if checkDecision("0001", bad) == nil {
			t.Errorf("%s is not found", name)
		}
	}
}

// decisionSections are the sections of a decision, in order; Alternatives is optional.
var decisionSections = []string{"Context", "Decision", "Alternatives", "Consequences"}

func checkDecision(number, text string) error {
	title := decisionTitle.FindStringSubmatch(text)
	if title == nil || title[1] != number {
		return fmt.Errorf(`want "# %s: Title", an empty line, and "Date: YYYY-MM-DD. Status: …"`, number)
	}
	var sections []string
	for _, found := range decisionHeading.FindAllStringSubmatch(text, -1) {
		sections = append(sections, found[1])
	}
	want := slices.Clone(decisionSections)
	if !slices.Contains(sections, "Alternatives") {
		want = slices.DeleteFunc(want, func(s string) bool { return s == "Alternatives" })
	}
	if !slices.Equal(sections, want) {
		return fmt.Errorf("sections are %q, want %q", sections, want)
	}
	return nil
}
