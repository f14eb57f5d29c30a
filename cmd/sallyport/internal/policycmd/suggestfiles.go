package policycmd

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy"
)

// newFile is the name of a file of a repository that is not there yet.
func (s *suggester) newFile(folder string) string {
	name := path.Join("repositories", folder, suggestedFile)
	for n := 2; slices.ContainsFunc(s.tree.Files, func(f policy.File) bool { return f.Path == name }); n++ {
		name = path.Join("repositories", folder, fmt.Sprintf("%s-%d.rego", strings.TrimSuffix(suggestedFile, ".rego"), n))
	}
	return name
}

// ruleIDText is how the id of a rule is written.
var ruleIDText = regexp.MustCompile(`"rule"\s*:\s*"([^"]*)"`)

// usedIDs are the ids of the rules that a repository has already.
func (s *suggester) usedIDs(folder string) map[string]bool {
	ids := map[string]bool{}
	for _, f := range s.tree.Files {
		if strings.HasPrefix(f.Path, "repositories/"+folder+"/") {
			for _, found := range ruleIDText.FindAllSubmatch(f.Content, -1) {
				ids[string(found[1])] = true
			}
		}
	}
	return ids
}

// writeNew writes files that must not be there, inside of the directory.
func writeNew(directory string, files []policy.File) error {
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return cli.Invalid(err)
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return cli.Invalid(err)
	}
	defer root.Close()
	for _, f := range files {
		if err := root.MkdirAll(filepath.FromSlash(path.Dir(f.Path)), 0o755); err != nil {
			return err
		}
		file, err := root.OpenFile(filepath.FromSlash(f.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = file.Write(f.Content)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}
