package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// queues are the channels with a buffer of more than one entry in the packages that a
// client's request reaches, by package and function, and in those that evaluate and record.
// Each is bounded by its buffer; the text is the row of docs/operations.md that gives the
// bound, or the reason why no row does. A new channel needs a line here.
var queues = map[string]string{
	"policy/manager.newCandidate": "row: decisions that wait for the candidate policy",
	"policy/manager.New":          "row: deaths of policy workers that wait to be recorded",
	"proxy.pipes":                 "row: pipes that wait for a next relay",
	"internal/selftest.OpenEcho":  "row: connections of the self-test",
	"proxy.Dialer.race":           "of one dial, whose addresses are at most those that were pinned",
	"proxy/dns.Resolver.lookup":   "of one lookup",
	"step/forwarder.New":          "row: connections of tools",
	"webhook/agent.NewServer":     "row: claims of agents that wait at once",
}

// TestQueuesAreListed: no buffered channel of these packages is missing in the list, and
// docs/operations.md has the row of each.
func TestQueuesAreListed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, dir := range slices.Concat(reached, []string{"policy/manager", "policy/rego", "internal/worker", "audit/postgres/writer"}) {
		for name := range bufferedChannels(t, filepath.Join("..", "..", dir)) {
			found[dir+"."+name] = true
		}
	}
	for name := range found {
		if queues[name] == "" {
			t.Errorf("%s makes a channel with a buffer: state in queues where its bound is documented", name)
		}
	}
	for name, text := range queues {
		if !found[name] {
			t.Errorf("%s is listed, and makes no channel with a buffer", name)
		}
		if row, isRow := strings.CutPrefix(text, "row: "); isRow && !strings.Contains(string(page), "\n| "+row) {
			t.Errorf("docs/operations.md has no row %q for %s", row, name)
		}
	}
}

// TestQueuesAreListedIsNeeded: a new channel is found, and one that holds one entry is not.
func TestQueuesAreListedIsNeeded(t *testing.T) {
	dir := t.TempDir()
	const code = "package p\n\ntype s struct{}\n\nfunc (*s) f() { _ = make(chan int, 1); _ = make(chan int, 1000) }\n\nfunc g() { _ = make(chan int, 1) }\n\nvar v = make(chan int, 2)\n"
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(bufferedChannels(t, dir))); !slices.Equal(got, []string{"s.f", "v"}) {
		t.Errorf("found %v", got)
	}
}

// bufferedChannels are the functions and variables of a package that make a channel with
// a buffer whose size is not the literal 1.
func bufferedChannels(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, entry.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if makesBuffered(d) {
				found[declared(d)] = true
			}
		}
	}
	return found
}

// makesBuffered reports whether a declaration makes such a channel.
func makesBuffered(d ast.Decl) (found bool) {
	ast.Inspect(d, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 2 {
			return true
		}
		name, ok := call.Fun.(*ast.Ident)
		if _, isChannel := call.Args[0].(*ast.ChanType); !ok || name.Name != "make" || !isChannel {
			return true
		}
		if size, ok := call.Args[1].(*ast.BasicLit); !ok || size.Value != "1" {
			found = true
		}
		return true
	})
	return found
}

// declared is the name of a function, with its receiver's type, or of a variable.
func declared(d ast.Decl) string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return d.Name.Name
		}
		of := d.Recv.List[0].Type
		if pointer, ok := of.(*ast.StarExpr); ok {
			of = pointer.X
		}
		if of, ok := of.(*ast.Ident); ok {
			return of.Name + "." + d.Name.Name
		}
		return d.Name.Name
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok {
				return v.Names[0].Name
			}
		}
	}
	return ""
}
