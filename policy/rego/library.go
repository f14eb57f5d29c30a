package rego

import (
	"embed"
	"io/fs"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// The shipped library, package sallyport.lib, and its own tests.
//
//go:embed library/*.rego
var libraryFS embed.FS

// Library returns the files of the shipped library, without their tests, with paths inside
// a policy tree: for `sallyport policy vendor`, and for the recorded content of a policy.
func Library() []policy.File {
	entries, err := fs.ReadDir(libraryFS, "library")
	if err != nil {
		panic("rego: the embedded library: " + err.Error()) // a fault of the build
	}
	var files []policy.File
	for _, e := range entries {
		if isTestFile(e.Name()) {
			continue
		}
		content, err := libraryFS.ReadFile("library/" + e.Name())
		if err != nil {
			panic("rego: the embedded library: " + err.Error())
		}
		files = append(files, policy.File{Path: policy.LibraryFolder + "/" + e.Name(), Content: content})
	}
	return files
}

var libraryPackage = ast.MustParseRef("data.sallyport.lib")
