package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// endings are the calls that end this process or a goroutine without an error that
// reaches exitOf, which prints every error. In internal/worker, each is preceded by a
// message, and the process is a worker, whose death the pool reports.
var endings = map[string]int{
	"cmd/sallyport-step/main.go: os.Exit": 1, // as sallyport does
	"cmd/sallyport/main.go: os.Exit":      1, // with exitOf's status
	"internal/worker/serve.go: os.Exit":   4,
}

// printed are the errors that exitOf does not print, by where they are made: the report
// of a finding, and the errors of psql.
var printed = map[string]int{
	"cmd/sallyport/internal/auditcmd/gap.go: FindingError":            1,
	"cmd/sallyport/internal/auditcmd/reconciliation.go: FindingError": 1,
	"cmd/sallyport/internal/auditcmd/psql.go: ProgramError":           1,
	"cmd/sallyport/internal/cli/pipes.go: FindingError":               1, // the reader of the output is gone
	"cmd/sallyport/internal/cli/print.go: FindingError":               1, // PrintFinding
	"cmd/sallyport/internal/controlcmd/inspect.go: FindingError":      1,
	"cmd/sallyport/internal/policycmd/diff.go: FindingError":          1,
	"cmd/sallyport/internal/policycmd/explain.go: FindingError":       1,
	"cmd/sallyport/internal/policycmd/replay.go: FindingError":        1,
	"cmd/sallyport/internal/verifycmd/reportjson.go: FindingError":    1,
	"cmd/sallyport/internal/webhookcmd/testreport.go: FindingError":   1,
}

// TestNoOtherExits: the program ends by an error that exitOf prints, or at one of the
// places listed here. A new place has to print its message and be added.
func TestNoOtherExits(t *testing.T) {
	root := filepath.Join("..", "..")
	foundEndings, foundPrinted := map[string]int{}, map[string]int{}
	ends := []string{"os.Exit", "syscall.Exit", "unix.Exit", "runtime.Goexit", "log.Fatal", "log.Fatalf", "log.Fatalln"}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			test := slices.Contains([]string{"pgtest", "testenv", "bitbuckettest", "tokentest", "misspelling", "archtest", "sallyport-demo", "tools", "e2e", "testdata"}, name)
			if test || strings.HasPrefix(name, ".") && path != root {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if called := qualified(n.Fun); slices.Contains(ends, called) {
					foundEndings[filepath.ToSlash(relative)+": "+called]++
				}
			case *ast.CompositeLit:
				_, kind, _ := strings.Cut("."+qualified(n.Type), ".")
				kind = kind[strings.LastIndex(kind, ".")+1:]
				if kind == "FindingError" || kind == "ProgramError" {
					foundPrinted[filepath.ToSlash(relative)+": "+kind]++
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name        string
		found, want map[string]int
	}{{"endings", foundEndings, endings}, {"printed", foundPrinted, printed}} {
		if fmt.Sprint(c.found) != fmt.Sprint(c.want) { // maps are printed in the order of their keys
			t.Errorf("%s: found %v\nlisted %v", c.name, c.found, c.want)
		}
	}
}

// qualified returns package.Name for a selector, and Name for an identifier.
func qualified(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return qualified(e.X) + "." + e.Sel.Name
	}
	return ""
}
