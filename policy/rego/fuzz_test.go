package rego

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sallyport/sallyport/policy"
)

// FuzzLoad puts arbitrary text into the files of a policy tree. Nothing panics, errors
// have positions, and an accepted policy defines and reads only what it may. The test
// finds that in the text itself, without the loader's visitor.
func FuzzLoad(f *testing.F) {
	for _, tc := range hostile {
		archive := txtar.Parse([]byte(tc.files))
		if len(archive.Files) == 1 && len(archive.Files[0].Data) < 4096 {
			f.Add(string(archive.Files[0].Data), strings.HasPrefix(archive.Files[0].Name, "egress/"))
		}
	}
	paths, err := filepath.Glob("testdata/semantics/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range txtar.Parse(content).Files {
			if strings.HasSuffix(file.Name, ".rego") {
				f.Add(string(file.Data), strings.HasPrefix(file.Name, "egress/"))
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string, organization bool) {
		path, pkg := "repositories/acme/tools/a.rego", `data.sallyport.repository["acme/tools"]`
		if organization {
			path, pkg = "egress/a.rego", "data.sallyport.egress"
		}
		tree, err := policy.NewSnapshot([]policy.File{{Path: path, Content: []byte(text)}}, "")
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(t.Context(), tree, Options{Names: true, SkipTests: true})
		if err != nil {
			errs, ok := errors.AsType[Errors](err)
			if !ok {
				t.Fatalf("error %v", err)
			}
			for _, e := range errs {
				if e.File != path || e.Line < 1 || e.Column < 1 || strings.Contains(e.Message, "panicked") {
					t.Fatalf("error %+v", e)
				}
			}
			return
		}
		if problems, _, err := Check(t.Context(), tree, Options{Names: true}); err != nil || len(problems) > 0 {
			t.Fatalf("accepted, and the check says %v, %v", problems, err)
		}
		module, err := ast.ParseModule(path, text)
		if err != nil {
			t.Fatalf("accepted, and does not parse: %v", err)
		}
		if module.Package.Path.String() != pkg {
			t.Fatalf("accepted with package %s", module.Package.Path)
		}
		for _, rule := range module.Rules {
			if !strings.HasPrefix(rule.Ref().String(), pkg) {
				t.Fatalf("accepted with the rule %s", rule.Ref())
			}
		}
		ast.WalkRefs(module.Rules, func(ref ast.Ref) bool {
			if s := ref.String(); strings.HasPrefix(s, "data.sallyport") && !strings.HasPrefix(s, pkg) && !strings.HasPrefix(s, "data.sallyport.lib") {
				t.Fatalf("accepted with a read of %s", s)
			}
			return false
		})
	})
}

// FuzzDocument puts arbitrary bytes below data/. Nothing panics; what is accepted
// has no sallyport in it.
func FuzzDocument(f *testing.F) {
	for _, tc := range hostile {
		for _, file := range txtar.Parse([]byte(tc.files)).Files {
			if strings.HasPrefix(file.Name, "data/") && len(file.Data) < 4096 {
				f.Add(file.Data, strings.HasSuffix(file.Name, ".json"))
			}
		}
	}
	f.Add([]byte("a: |\n  text\nb: >-\n  more\nc: [1, 2.5, 0x10, ~, true]\n"), false)
	f.Fuzz(func(t *testing.T, content []byte, json bool) {
		path := "data/x.yaml"
		if json {
			path = "data/x.json"
		}
		tree, err := policy.NewSnapshot([]policy.File{{Path: path, Content: content}}, "")
		if err != nil {
			t.Fatal(err)
		}
		l := newLoader(tree, Options{})
		l.layOut(tree)
		data := l.readDocuments(t.Context())
		for _, e := range l.errors {
			if e.File != path || e.Line < 1 || e.Column < 1 || strings.Contains(e.Message, "runtime error") {
				t.Fatalf("error %+v", e)
			}
		}
		if data.Get(ast.StringTerm("sallyport")) != nil {
			t.Fatal("data.sallyport was accepted")
		}
	})
}
