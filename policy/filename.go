package policy

import (
	"path"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
)

// dataExtensions are those of the documents below data/.
var dataExtensions = []string{".yaml", ".yml", ".json"}

// ruleFolders are the top-level folders of rules.
var ruleFolders = []string{"egress", "webhook", "repositories"}

// otherFormats are common formats of lists that are not read.
var otherFormats = []string{".toml", ".csv", ".tsv", ".txt", ".xml", ".ini", ".conf", ".hcl", ".jsonnet", ".cue"}

// CheckFileName returns why a file of a policy is not read because of its name, and a
// remedy; "" for every other file. A rule or list that is not read is a
// control that is not in force, so a loader refuses a tree with such a file.
func CheckFileName(file string) (message, remedy string) {
	base := path.Base(file)
	if strings.HasPrefix(file, ".") || strings.HasPrefix(base, ".") || strings.HasPrefix(file, LibraryFolder+"/") {
		return "", "" // not part of the tree; an editor's
	}
	top, _, below := strings.Cut(file, "/")
	lower, extension := strings.ToLower(base), path.Ext(strings.ToLower(base))
	if extension == ".rego" && path.Ext(base) != ".rego" {
		return "the file is not read: its extension is " + path.Ext(base), "rename it to end in .rego, in lower case"
	}
	if path.Ext(base) == ".rego" {
		return "", ""
	}
	if !below {
		if stem := strings.TrimSuffix(lower, extension); slices.Contains(dataExtensions, extension) && isNear(stem, "data") {
			return "the file is not read: documents stand below data/", "move it into data/"
		}
		return "", ""
	}
	switch {
	case slices.Contains(ruleFolders, top):
		return checkRulesName(base, lower, extension)
	case top == "data":
		return checkDataName(base, lower, extension)
	case slices.Contains(dataExtensions, extension) && isNear(strings.ToLower(top), "data"):
		return "the file is not read: its folder is " + top + "/", "documents stand below data/"
	}
	return "", ""
}

func checkRulesName(base, lower, extension string) (message, remedy string) {
	switch {
	case strings.Contains(lower, ".rego"), isNear(extension, ".rego"):
		return "the file is not read: " + base + " does not end in .rego", "rename it, or remove it"
	case slices.Contains(dataExtensions, extension):
		return "the file is not read: documents do not stand beside rules", "put it below data/, where the folders are its path"
	}
	return "", ""
}

func checkDataName(base, lower, extension string) (message, remedy string) {
	const rename = "rename it to end in .yaml or .json, or remove it"
	if slices.Contains(dataExtensions, path.Ext(base)) || strings.HasPrefix(lower, "readme") || extension == ".md" {
		return "", ""
	}
	for _, known := range dataExtensions {
		if strings.Contains(lower, known) || isNear(extension, known) {
			return "the file is not read: " + base + " does not end in .yaml, .yml or .json, in lower case", rename
		}
	}
	if slices.Contains(otherFormats, extension) {
		return "the file is not read: " + extension + " is not a format of documents", "write it as YAML or JSON, in a file that ends in .yaml or .json"
	}
	return "", ""
}

// isNear reports whether a name is another one with a byte more, less or replaced,
// or with two neighbors swapped.
func isNear(name, other string) bool {
	if len(name) > len(other)+2 || name == "" {
		return false
	}
	return nearest.Distance(name, other) <= 1
}
