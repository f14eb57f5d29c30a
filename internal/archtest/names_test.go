package archtest

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// importNames are the names under which packages of ours are imported that do not go
// by their own. Every file uses the same name.
var importNames = map[string]string{
	"audit/postgres":         "auditpg",
	"audit/postgres/reader":  "auditreader",
	"audit/postgres/sealer":  "auditsealer",
	"audit/postgres/writer":  "auditwriter",
	"identity/postgres":      "identitypg",
	"reconcile/bitbucket":    "reconcilebb",
	"reconcile/postgres":     "reconcilepg",
	"webhook/agent/postgres": "agentpg",
	"webhook/postgres":       "webhookpg",
}

func TestOneNameForEachImport(t *testing.T) {
	for _, s := range sources(t) {
		report(t, importNameProblems(s))
	}
}

func TestOneNameForEachImportIsNeeded(t *testing.T) {
	refused(t, importNameProblems(source{imports: []string{module + "/audit"}, aliases: map[string]string{module + "/audit": "words"}}))
	refused(t, importNameProblems(source{imports: []string{module + "/identity/postgres"}}))
	refused(t, importNameProblems(source{imports: []string{module + "/identity/postgres"}, aliases: map[string]string{module + "/identity/postgres": "store"}}))
	refused(t, importNameProblems(source{imports: []string{module + "/policy"}, aliases: map[string]string{module + "/policy": "."}}))
}

func importNameProblems(s source) (problems []string) {
	for _, imported := range s.imports {
		own, isOwn := strings.CutPrefix(imported, module+"/")
		if isOwn && s.aliases[imported] != importNames[own] {
			problems = append(problems, fmt.Sprintf("%s imports %s as %q, and every other file as %q: see importNames", s.file, imported, s.aliases[imported], importNames[own]))
		}
	}
	return problems
}

// TestEveryFolderIsKnown: no adapter is missing in the table of imports.
func TestEveryFolderIsKnown(t *testing.T) {
	for _, s := range sources(t) {
		report(t, folderProblems(s))
	}
}

func TestEveryFolderIsKnownIsNeeded(t *testing.T) {
	refused(t, folderProblems(source{dir: "proxy/http3"}))
	refused(t, folderProblems(source{dir: "audit/postgres/archive"}))
}

func folderProblems(s source) []string {
	parent, _, nested := strings.Cut(s.dir, "/")
	if _, isCore := core[parent]; nested && isCore && core[s.dir] == nil && !isAdapter(s.dir) && managers[s.dir] == nil && leaves[s.dir] == nil && !isTestHelper(s.dir) && !slices.Contains(parts, s.dir) {
		return []string{s.dir + " is neither core nor a listed adapter: add it to the table"}
	}
	return nil
}

func TestEveryPackageHasAComment(t *testing.T) { report(t, commentProblems(sources(t))) }

func TestEveryPackageHasACommentIsNeeded(t *testing.T) {
	refused(t, commentProblems([]source{{dir: "proxy", name: "proxy"}, {dir: "proxy", name: "proxy", test: true, doc: true}}))
}

func commentProblems(list []source) (problems []string) {
	documented, named := map[string]bool{}, map[string]string{}
	for _, s := range list {
		if s.test {
			continue
		}
		named[s.dir] = s.name
		documented[s.dir] = documented[s.dir] || s.doc
	}
	for dir, name := range named {
		if !documented[dir] {
			problems = append(problems, fmt.Sprintf("package %s in %s has no package comment", name, dir))
		}
	}
	return problems
}

// TestFolderNames: no folder has a name that fits any content.
func TestFolderNames(t *testing.T) {
	for _, s := range sources(t) {
		report(t, folderNameProblems(s))
	}
}

func TestFolderNamesIsNeeded(t *testing.T) {
	refused(t, folderNameProblems(source{dir: "internal/utils"}))
}

func folderNameProblems(s source) []string {
	switch path.Base(s.dir) {
	case "util", "utils", "common", "models", "pkg", "helpers", "misc":
		return []string{s.dir + ": a folder is named after its content"}
	}
	return nil
}

// TestArchitectureNamesEveryPackage: docs/architecture.md has each package, by its path
// or, below internal, by its name.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	report(t, undocumented(string(document), sources(t)))
}

func TestArchitectureNamesEveryPackageIsNeeded(t *testing.T) {
	const document = "| `proxy` | the gate |\n| `internal/…` | `fair` (shares) |"
	refused(t, undocumented(document, []source{{dir: "proxy/dns"}}))
	refused(t, undocumented(document, []source{{dir: "internal/proxy"}}))
	if problems := undocumented(document, []source{{dir: "proxy"}, {dir: "internal/fair"}}); len(problems) > 0 {
		t.Error(problems)
	}
}

func undocumented(document string, list []source) (problems []string) {
	dirs := map[string]bool{}
	for _, s := range list {
		dirs[s.dir] = true
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		name := "| `" + dir + "` |"
		if parent, base := path.Split(dir); parent == "internal/" || parent == "cmd/" {
			line := document[max(0, strings.Index(document, "| `"+parent+"…` |")):]
			line, _, _ = strings.Cut(line, "\n")
			if strings.Contains(line, "`"+base+"`") {
				continue
			}
		}
		if !strings.Contains(document, name) {
			problems = append(problems, "docs/architecture.md does not name the package "+dir)
		}
	}
	return problems
}

func report(t *testing.T, problems []string) {
	t.Helper()
	for _, problem := range problems {
		t.Error(problem)
	}
}

// refused checks that a rule finds what it is there for.
func refused(t *testing.T, problems []string) {
	t.Helper()
	if len(problems) == 0 {
		t.Error("the rule accepts what it must refuse")
	}
}
