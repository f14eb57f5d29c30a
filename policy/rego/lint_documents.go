package rego

import (
	"bytes"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// maxUnread bounds the warnings about documents that nothing reads.
const maxUnread = 100

// lintUnread warns of documents that no rule and no test reads: a list whose key or
// folder is misspelled has no effect. A document counts by its path: its folders and its
// first key.
func (l *loader) lintUnread() {
	paths, known := l.pathsRead()
	if !known {
		return
	}
	folders := map[string][]int{} // the documents of each folder
	for i, f := range l.documents {
		folder := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(path.Dir(f.Path), "data"), "/"), "/", "\x00")
		folders[folder] = append(folders[folder], i)
	}
	found := 0
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		object := l.documentAt(folder)
		if object == nil || prefixIn(paths.whole, folder) {
			continue
		}
		for _, key := range object.Keys() {
			name, ok := key.Value.(ast.String)
			if !ok {
				continue
			}
			at := strings.TrimPrefix(folder+"\x00"+string(name), "\x00")
			if paths.read[at] || paths.whole[at] || len(folders[at]) > 0 || found >= maxUnread {
				continue
			}
			file, line := l.keyPlace(folders[folder], string(name))
			if file == "" {
				continue // of a file in a folder below
			}
			found++
			l.warn(Error{File: file, Line: line, Column: 1, Message: "nothing reads data." + strings.ReplaceAll(at, "\x00", ".") + ", so it has no effect",
				Hint: unreadHint(object, string(name), paths.beside[folder])})
		}
	}
}

// readPaths are the paths of documents that rules and tests read, with a zero byte
// between the names.
type readPaths struct {
	whole  map[string]bool     // as they are read
	read   map[string]bool     // also those above them
	beside map[string][]string // the names that are read below a path
}

// pathsRead collects the paths that all units read. known is false where a unit may read
// any document, or failed.
func (l *loader) pathsRead() (paths readPaths, known bool) {
	paths = readPaths{whole: map[string]bool{}, read: map[string]bool{}, beside: map[string][]string{}}
	for _, u := range l.units() {
		if u.all || u.failure != nil || len(l.errors) > 0 {
			return paths, false
		}
		for _, names := range u.reads {
			paths.add(names)
		}
	}
	return paths, true
}

func (p *readPaths) add(names string) {
	p.whole[names] = true
	for at := names; at != "" && !p.read[at]; {
		p.read[at] = true
		above, name := "", at
		if i := strings.LastIndexByte(at, 0); i >= 0 {
			above, name = at[:i], at[i+1:]
		}
		p.beside[above] = append(p.beside[above], name)
		at = above
	}
}

// unreadHint suggests the name that is read instead of a document's name, if a document
// of that name does not exist.
func unreadHint(object ast.Object, name string, read []string) string {
	n := nearest.Of(name, slices.Compact(slices.Sorted(slices.Values(read))))
	if n != "" && object.Get(ast.StringTerm(n)) == nil || near(n, name) {
		return "did you mean " + n + "?"
	}
	return "read it in a rule, or remove it"
}

// lintNothing warns of a policy without rules for the organization: it denies every
// request, whatever a repository's rules allow.
func (l *loader) lintNothing() {
	if len(l.errors) > 0 {
		return // of which some may be in such a file
	}
	for _, s := range l.organization.sources {
		if !s.test && domainOf(s.path) == egress {
			return
		}
	}
	l.warn(Error{File: "egress", Message: "there is no rule for the organization, so every request is denied and no repository's rules count", Hint: "put rules into egress/, or begin with sallyport policy init"})
}

// lintIgnoredDenies warns of repositories' rules about deliveries that nothing evaluates,
// because the organization has no rules about deliveries.
func (l *loader) lintIgnoredDenies() {
	if l.organization.decides(deliveries) {
		return
	}
	for _, u := range l.repositories {
		if u.decides(deliveries) {
			l.warn(Error{File: u.part(deliveries).files[0].path, Line: 1, Column: 1, Message: "the deny never counts: the organization has no rules about deliveries, so a delivery takes its receiver's configured actions",
				Hint: "put rules into webhook/, package sallyport.webhook"})
		}
	}
}

// maxNames bounds the texts of the documents that are compared with folders.
const maxNames = 200_000

// lintFolderNames warns of a repository's folder that no document names, where one names
// nearly it and has no folder: the delegation has a misspelled name.
func (l *loader) lintFolderNames() {
	named := repositoriesNamed(l.data)
	strangers := l.withoutFolder(named)
	found, compared := 0, 0
	for _, u := range l.repositories {
		if named[u.repository] || len(u.sources) == 0 || found >= maxUnread {
			continue
		}
		for _, name := range strangers {
			if len(name) > len(u.repository)+2 || len(u.repository) > len(name)+2 {
				continue
			}
			if compared++; compared > maxNames {
				return
			}
			if near(name, u.repository) {
				found++
				l.warn(Error{File: u.sources[0].path, Line: 1, Column: 1, Message: "no document names " + u.repository + ", and " + name + " has no folder", Hint: "correct the name, in the folder or in the document"})
				break
			}
		}
	}
}

// repositoriesNamed are the texts of the documents with the form of a full name.
func repositoriesNamed(data ast.Object) map[string]bool {
	named := map[string]bool{}
	ast.WalkTerms(ast.NewTerm(data), func(t *ast.Term) bool {
		if s, ok := t.Value.(ast.String); ok && strings.Count(string(s), "/") == 1 && len(named) < maxNames {
			named[string(s)] = true
		}
		return false
	})
	return named
}

// withoutFolder are the names of repositories without a folder, sorted.
func (l *loader) withoutFolder(named map[string]bool) []string {
	folders := map[string]bool{}
	for _, u := range l.repositories {
		folders[u.repository] = true
	}
	var names []string
	for name := range named {
		if !folders[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func near(a, b string) bool { return a != "" && nearest.Distance(a, b) <= 2 }

// prefixIn reports whether a path, or one above it, is read as a whole.
func prefixIn(whole map[string]bool, at string) bool {
	for at != "" {
		if whole[at] {
			return true
		}
		i := strings.LastIndexByte(at, 0)
		if i < 0 {
			return false
		}
		at = at[:i]
	}
	return false
}

// documentAt is the object at a path of folders; nil if there is none.
func (l *loader) documentAt(at string) ast.Object {
	object := l.data
	if at == "" {
		return object
	}
	for name := range strings.SplitSeq(at, "\x00") {
		t := object.Get(ast.StringTerm(name))
		if t == nil {
			return nil
		}
		below, ok := t.Value.(ast.Object)
		if !ok {
			return nil
		}
		object = below
	}
	return object
}

// keyPlace is the position of a top-level key in one of several documents, as far as their
// text shows; the file is empty if it does not.
func (l *loader) keyPlace(documents []int, key string) (file string, line int) {
	for _, i := range documents {
		f := l.documents[i]
		json := strings.HasSuffix(f.Path, ".json")
		number := 0
		for text := range bytes.Lines(f.Content) {
			number++
			trimmed := text
			if json {
				trimmed = bytes.TrimLeft(text, " \t{,\xef\xbb\xbf")
			}
			for _, quote := range []string{"", `"`, "'"} {
				rest, ok := bytes.CutPrefix(trimmed, []byte(quote+key+quote))
				if ok && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte(":")) {
					return f.Path, number
				}
			}
		}
	}
	if len(documents) == 1 {
		return l.documents[documents[0]].Path, 1
	}
	return "", 0
}
