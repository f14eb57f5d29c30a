package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The bounds of a package's structure. A function over a bound needs a reason in
// longFunctions or complexFunctions.
const (
	maxCycle      = 5 // files of a package that refer to each other in a circle
	maxFileLines  = 400
	maxLines      = 80 // of a function
	maxComplexity = 15 // McCabe's cyclomatic complexity
)

// largeCycles are the packages with a larger cycle, and how many files it has. A
// number here only ever gets smaller.
var largeCycles = map[string]int{}

// longFiles are the files with more lines than maxFileLines, and how many they have.
// A number here only ever gets smaller.
var longFiles = map[string]int{}

// longFunctions and complexFunctions are the functions over a bound, by package and
// name, with their lines or complexity. A number here only ever gets smaller.
var (
	longFunctions    = map[string]int{}
	complexFunctions = map[string]int{}
)

// TestStructure: the files of a package refer to each other in one direction, except in
// small cycles, and files and functions have a bounded length and complexity.
func TestStructure(t *testing.T) {
	cycles, files, lines, complexity := map[string]int{}, map[string]int{}, map[string]int{}, map[string]int{}
	for dir, names := range packageFiles(t) {
		set := token.NewFileSet()
		var parsed []*ast.File
		for _, name := range names {
			file, err := parser.ParseFile(set, filepath.Join("..", "..", name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, file)
			if n := set.File(file.FileStart).LineCount() - 1; n > maxFileLines {
				files[name] = n
			}
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				key := dir + "." + functionName(f)
				if n := set.Position(f.End()).Line - set.Position(f.Pos()).Line + 1; n > maxLines {
					lines[key] = n
				}
				if n := cyclomatic(f); n > maxComplexity {
					complexity[key] = n
				}
			}
		}
		if n := largestCycle(references(set, dir, parsed)); n > maxCycle {
			cycles[dir] = n
		}
	}
	for _, c := range []struct {
		what          string
		found, listed map[string]int
	}{
		{"files in a cycle", cycles, largeCycles}, {"lines", files, longFiles},
		{"lines", lines, longFunctions}, {"complexity", complexity, complexFunctions},
	} {
		for _, name := range slices.Sorted(maps.Keys(c.found)) {
			if c.found[name] > c.listed[name] {
				t.Errorf("%s: %d %s, and %d are listed: split it\n\t%q: %d,", name, c.found[name], c.what, c.listed[name], name, c.found[name])
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.listed)) {
			if c.found[name] == 0 {
				t.Errorf("%s is listed with %d %s, and is within the bound: remove it from the list", name, c.listed[name], c.what)
			}
		}
	}
}

// TestStructureIsMeasured: cycles through functions, methods and fields, and each branch
// of a function are seen.
func TestStructureIsMeasured(t *testing.T) {
	set := token.NewFileSet()
	var parsed []*ast.File
	for i, text := range []string{
		"func f0() { f1() }",
		"import \"os\"\ntype t1 struct{ field int }\nfunc f1() { os.Exit(0); (&t2{}).method() }",
		"type t2 struct{ t3 }\nfunc (*t2) method() { var f0 int; _ = f0 }",
		"type t3 struct{ t4 *t4 }",
		"type t4 struct{}\nfunc (t t4) back(x t1) int { return x.field }",
		"func f5(b bool) { if b && !b { f0() } }",
	} {
		file, err := parser.ParseFile(set, fmt.Sprintf("f%d.go", i), "package p\n"+text, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		parsed = append(parsed, file)
	}
	graph := references(set, "p", parsed)
	want := map[string][]string{"f0.go": {"f1.go"}, "f1.go": {"f2.go"}, "f2.go": {"f3.go"}, "f3.go": {"f4.go"}, "f4.go": {"f1.go"}, "f5.go": {"f0.go"}}
	for from, to := range want {
		if got := slices.Sorted(maps.Keys(graph[from])); !slices.Equal(got, to) {
			t.Errorf("%s refers to %v, want %v", from, got, to)
		}
	}
	if n := largestCycle(graph); n != 4 {
		t.Errorf("the largest cycle has %d files", n)
	}
	if n := cyclomatic(parsed[5].Decls[0].(*ast.FuncDecl)); n != 3 {
		t.Errorf("a condition of two parts has the complexity %d", n)
	}
}

// packageFiles are the files without tests, by folder.
func packageFiles(t *testing.T) map[string][]string {
	t.Helper()
	list := map[string][]string{}
	for _, s := range sources(t) {
		// One of the files of each operating system is enough.
		if !s.test && !strings.HasSuffix(s.file, "_other.go") {
			list[s.dir] = append(list[s.dir], s.file)
		}
	}
	return list
}

func functionName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	receiver := f.Recv.List[0].Type
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
	}
	if index, ok := receiver.(*ast.IndexExpr); ok {
		receiver = index.X
	}
	if name, ok := receiver.(*ast.Ident); ok {
		return name.Name + "." + f.Name.Name
	}
	return f.Name.Name
}

// cyclomatic is the number of branches of a function, plus one.
func cyclomatic(f *ast.FuncDecl) int {
	n := 1
	ast.Inspect(f, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if node.List != nil {
				n++
			}
		case *ast.CommClause:
			if node.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if node.Op == token.LAND || node.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

// hollow imports every package as an empty one: only a package's own names count.
type hollow struct{}

func (hollow) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

// references are the files that each file of a package refers to: by the package's
// functions, types, variables and constants, and by their methods and fields.
func references(set *token.FileSet, dir string, files []*ast.File) map[string]map[string]bool {
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: hollow{}, Error: func(error) {}} // of the imported names
	own, _ := config.Check(dir, set, files, info)
	graph := map[string]map[string]bool{}
	base := func(pos token.Pos) string { return filepath.Base(set.Position(pos).Filename) }
	for _, file := range files {
		graph[base(file.FileStart)] = map[string]bool{}
	}
	for name, object := range info.Uses {
		switch o := object.(type) {
		case *types.Var:
			object = o.Origin()
			if !o.IsField() && o.Parent() != own.Scope() {
				continue
			}
		case *types.Func:
			object = o.Origin()
		default:
			if object.Parent() != own.Scope() {
				continue
			}
		}
		if object.Pkg() != own || !object.Pos().IsValid() {
			continue
		}
		if from, to := base(name.Pos()), base(object.Pos()); from != to {
			graph[from][to] = true
		}
	}
	return graph
}

// largestCycle is the number of files in the largest strongly connected component
// (Tarjan's algorithm).
func largestCycle(graph map[string]map[string]bool) int {
	index, low, waiting := map[string]int{}, map[string]int{}, map[string]bool{}
	var stack []string
	largest := 0
	var visit func(file string)
	visit = func(file string) {
		index[file] = len(index) + 1
		low[file] = index[file]
		stack, waiting[file] = append(stack, file), true
		for other := range graph[file] {
			if index[other] == 0 {
				visit(other)
				low[file] = min(low[file], low[other])
			} else if waiting[other] {
				low[file] = min(low[file], index[other])
			}
		}
		if low[file] != index[file] {
			return
		}
		at := slices.Index(stack, file)
		for _, member := range stack[at:] {
			waiting[member] = false
		}
		largest = max(largest, len(stack)-at)
		stack = stack[:at]
	}
	for file := range graph {
		if index[file] == 0 {
			visit(file)
		}
	}
	return largest
}
