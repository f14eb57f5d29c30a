package rego

import (
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
)

// maxModuleBytes bounds one Rego file. Rules for ten thousand hosts are shorter; longer
// lists belong below data/, where they also load faster.
const maxModuleBytes = 1 << 20

// layOut assigns the snapshot's Rego files to units, and separates its documents.
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
		if message, remedy := policy.CheckFileName(f.Path); message != "" {
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
	l.settleImpossible(repositories)
	for _, u := range repositories {
		l.repositories = append(l.repositories, u)
	}
	slices.SortFunc(l.repositories, func(a, b *unit) int { return strings.Compare(a.repository, b.repository) })
}

// place adds one Rego file to the unit of its folder.
func (l *loader) place(f policy.File, repositories map[string]*unit) {
	s := source{path: f.Path, content: f.Content, test: isTestFile(f.Path)}
	if len(f.Content) > maxModuleBytes {
		l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: "the file is over 1 MiB",
			Hint: "split it, and put long lists under data/"}, repositories)
		return
	}
	parts := strings.Split(f.Path, "/")
	switch {
	case len(parts) == 2 && (parts[0] == egress.folder || parts[0] == deliveries.folder):
		l.organization.sources = append(l.organization.sources, s)
	case parts[0] == "repositories" && (len(parts) == 4 || len(parts) == 5 && domainOf(f.Path) == deliveries):
		if at, valid := l.validFolder(f.Path, parts[1], parts[2]); !valid {
			l.failFile(at, repositories)
			return
		}
		repository := parts[1] + "/" + parts[2]
		if repositories[repository] == nil {
			repositories[repository] = newUnit(repository)
		}
		repositories[repository].sources = append(repositories[repository].sources, s)
	default:
		l.failFile(Error{File: f.Path, Line: 1, Column: 1, Message: "policies are not read from this folder",
			Hint: "put the organization's rules and tests into egress/, a repository's into repositories/<workspace>/<repository>/, and those about webhook deliveries into webhook/ there, directly and not into folders of their own"}, repositories)
	}
}

// validFolder reports whether a repository can have a folder, and the fault if not.
func (l *loader) validFolder(path, workspace, repository string) (at Error, valid bool) {
	at = Error{File: path, Line: 1, Column: 1}
	uuids := uuid.IsCanonical(workspace) && uuid.IsCanonical(repository)
	switch {
	case !check.IsSlug(workspace) || !check.IsSlug(repository):
		at.Message = "no repository has the name of this folder"
		at.Hint = "write the workspace's and the repository's slug as in Bitbucket's URLs, in lower case"
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

// faultyUnit returns the unit of a file's fault, where such a fault does not reject the
// revision; nil where it does.
func (l *loader) faultyUnit(path string, repositories map[string]*unit) *unit {
	parts := strings.Split(path, "/")
	if l.options.OnFailure == RejectRevision || len(parts) < 4 || parts[0] != "repositories" {
		return nil
	}
	at, valid := l.validFolder(path, parts[1], parts[2])
	repository := parts[1] + "/" + parts[2]
	if !valid {
		repository = printable(repository)
	}
	if repositories[repository] == nil {
		u := newUnit(repository)
		if u.impossible = !valid; u.impossible {
			u.misplaced = Errors{at}
		}
		repositories[repository] = u
	}
	return repositories[repository]
}

// failFile reports a fault of a file, of its repository or of the revision.
func (l *loader) failFile(e Error, repositories map[string]*unit) {
	l.failFolder(e.File, e, repositories)
}

// failFolder reports a fault of the folder of a path.
func (l *loader) failFolder(path string, e Error, repositories map[string]*unit) {
	u := l.faultyUnit(path, repositories)
	if u == nil {
		l.fail(e)
		return
	}
	if len(u.misplaced) == 0 || u.misplaced[0] != e {
		u.misplaced = append(u.misplaced, e)
	}
	u.failure = u.misplaced
}

// failUnit records the faults of a unit, for its repository or for the revision.
func (l *loader) failUnit(u *unit, errs Errors) {
	switch {
	case len(errs) == 0:
	case u.isRepository() && l.options.OnFailure != RejectRevision:
		u.failure = errs.sorted()
	default:
		l.errors = append(l.errors, errs...)
	}
}
