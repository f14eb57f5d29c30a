package rego

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// maxModuleBytes bounds one Rego file. Rules for ten thousand hosts are below
// it; longer lists belong under data/, where they load faster as well.
const maxModuleBytes = 1 << 20

// source is one Rego file in its place. Its content is the snapshot's: of what
// many repositories have written there is one copy, and nothing made of it.
type source struct {
	path    string
	content []byte
	test    bool
}

func sameSources(a, b []source) bool {
	return slices.EqualFunc(a, b, func(a, b source) bool {
		return a.path == b.path && a.test == b.test && bytes.Equal(a.content, b.content)
	})
}

// unit is what is compiled together, apart from all else: the organization's
// rules, or those of one repository.
type unit struct {
	repository string // empty: the organization
	sources    []source
	misplaced  Errors // of its files that are not among the sources
	pending    bool   // it is not checked yet
	standing
}

func (u *unit) isRepository() bool { return u.repository != "" }

// sets are the names of the partial sets that the unit may define.
func (u *unit) sets() []string {
	if u.isRepository() {
		return []string{setAllow, setDeny}
	}
	return []string{setAllow, setDeny, setReport, setDelegate}
}

// The partial sets of a policy.
const (
	setAllow    = "allow"
	setDeny     = "deny"
	setReport   = "report"
	setDelegate = "delegate"
)

func newUnit(repository string) *unit { return &unit{repository: repository} }

// pkg is the package of every deciding file of the unit. It is made when it is
// asked for: of most repositories nobody asks.
func (u *unit) pkg() ast.Ref { return u.packageRef("egress", "repository") }

// testPkg is the package that tests may have instead.
func (u *unit) testPkg() ast.Ref { return u.packageRef("egress_test", "repository_test") }

func (u *unit) packageRef(organization, repository string) ast.Ref {
	root := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("sallyport")}
	if u.isRepository() {
		return root.Append(ast.StringTerm(repository)).Append(ast.StringTerm(u.repository))
	}
	return root.Append(ast.StringTerm(organization))
}

// packageText is how a package is written in a file: without its root.
func packageText(ref ast.Ref) string {
	return strings.TrimPrefix(ref.String(), "data.")
}

// slug is what Bitbucket makes of a workspace's or repository's name in URLs:
// lower case, digits, and - _ . only.
var slug = regexp.MustCompile(`^[a-z0-9_.-]{1,128}$`)

var bareUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// layOut sorts the snapshot's Rego files into units, and its documents out.
func (l *loader) layOut(snapshot *policy.Snapshot) {
	l.organization = newUnit("")
	repositories := map[string]*unit{}
	for _, f := range snapshot.Files {
		if strings.HasPrefix(f.Path, policy.LibraryFolder+"/") {
			if l.options.Recorded {
				l.library = append(l.library, source{path: f.Path, content: f.Content})
			}
			continue
		}
		if faults, ok := f.Faults(); ok {
			for _, fault := range faults {
				l.failFolder(f.Path, Error{File: fault.Path, Message: fault.Message}, repositories)
			}
			continue
		}
		if message, remedy := policy.Misnamed(f.Path); message != "" {
			l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: message, Hint: remedy}, repositories)
			continue
		}
		if message, remedy := document.CheckContent(f.Content); message != "" {
			l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: message, Hint: remedy}, repositories)
			continue
		}
		if !strings.HasSuffix(f.Path, ".rego") {
			l.documents = append(l.documents, f)
			continue
		}
		l.place(f, repositories)
	}
	for _, u := range repositories {
		l.repositories = append(l.repositories, u)
	}
	slices.SortFunc(l.repositories, func(a, b *unit) int { return strings.Compare(a.repository, b.repository) })
}

// place puts one Rego file into the unit that its folder fixes.
func (l *loader) place(f policy.File, repositories map[string]*unit) {
	s := source{path: f.Path, content: f.Content, test: isTestFile(f.Path)}
	if len(f.Content) > maxModuleBytes {
		l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: "the file is over 1 MiB",
			Hint: "split it, and put long lists under data/"}, repositories)
		return
	}
	parts := strings.Split(f.Path, "/")
	switch {
	case len(parts) == 2 && parts[0] == "egress":
		l.organization.sources = append(l.organization.sources, s)
	case len(parts) == 4 && parts[0] == "repositories":
		repository := parts[1] + "/" + parts[2]
		if !l.checkFolder(f.Path, parts[1], parts[2]) {
			return
		}
		if repositories[repository] == nil {
			repositories[repository] = newUnit(repository)
		}
		repositories[repository].sources = append(repositories[repository].sources, s)
	default:
		l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: "no policy is read from this place",
			Hint: "put the organization's rules and tests into egress/, a repository's into repositories/<workspace>/<repository>/, directly and not into folders of their own"}, repositories)
	}
}

// checkFolder refuses a folder that no repository can ever have: its rules,
// denies among them, would silently never count.
func (l *loader) checkFolder(path, workspace, repository string) bool {
	at, valid := l.validFolder(path, workspace, repository)
	if !valid {
		l.fail(at)
	}
	return valid
}

// validFolder reports whether a repository can have a folder, and what is wrong if not.
func (l *loader) validFolder(path, workspace, repository string) (at Error, valid bool) {
	at = Error{File: path, Line: 1, Column: 1}
	uuids := bareUUID.MatchString(workspace) && bareUUID.MatchString(repository)
	switch {
	case !slug.MatchString(workspace) || !slug.MatchString(repository):
		at.Message = "no repository has the name of this folder"
		at.Hint = "write the workspace's and the repository's slug as they stand in Bitbucket's URLs, in lower case"
	case !l.options.Names && !uuids:
		at.Message = "the name of this folder needs names, and identity.bitbucket.api is not configured"
		at.Hint = "configure it, or name the folder repositories/<workspace UUID>/<repository UUID>, bare and in lower case"
	case l.options.Names && uuids:
		at.Message = "the folder is named by UUIDs, and repositories are known by their names"
		at.Hint = "name it repositories/<workspace>/<repository>"
	default:
		return at, true
	}
	return at, false
}

func isTestFile(path string) bool { return strings.HasSuffix(path, "_test.rego") }
