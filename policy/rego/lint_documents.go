package rego

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// maxUnread bounds the warnings about documents that nothing reads.
const maxUnread = 100

// lintUnread warns of documents that no rule and no test reads: a list whose key or
// folder is misspelt has no effect. A document counts by its path: its folders and its
// first key.
func (l *loader) lintUnread() {
	read := map[string]bool{} // paths that are read, and those above them
	beside := map[string][]string{}
	whole := map[string]bool{}
	for _, u := range l.units() {
		if u.all || u.failure != nil || len(l.errors) > 0 {
			return // not everything is known that is read
		}
		for _, names := range u.reads {
			whole[names] = true
			for at := names; at != "" && !read[at]; {
				read[at] = true
				above, name := "", at
				if i := strings.LastIndexByte(at, 0); i >= 0 {
					above, name = at[:i], at[i+1:]
				}
				beside[above] = append(beside[above], name)
				at = above
			}
		}
	}
	folders := map[string][]int{} // the documents of each folder
	for i, f := range l.documents {
		folder := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(path.Dir(f.Path), "data"), "/"), "/", "\x00")
		folders[folder] = append(folders[folder], i)
	}
	found := 0
	for _, folder := range sortedKeys(folders) {
		object := l.documentAt(folder)
		if object == nil || prefixIn(whole, folder) {
			continue
		}
		for _, key := range object.Keys() {
			name, ok := key.Value.(ast.String)
			if !ok {
				continue
			}
			at := strings.TrimPrefix(folder+"\x00"+string(name), "\x00")
			if read[at] || whole[at] || len(folders[at]) > 0 || found >= maxUnread {
				continue
			}
			file, line := l.keyPlace(folders[folder], string(name))
			if file == "" {
				continue // of a file in a folder below
			}
			found++
			hint := "read it in a rule, or remove it"
			if n := nearest.Of(string(name), slices.Compact(slices.Sorted(slices.Values(beside[folder])))); n != "" && object.Get(ast.StringTerm(n)) == nil || near(n, string(name)) {
				hint = "did you mean " + n + "?"
			}
			l.warn(Error{File: file, Line: line, Column: 1, Message: "nothing reads data." + strings.ReplaceAll(at, "\x00", ".") + ", so it has no effect", Hint: hint})
		}
	}
}

// lintNothing warns of a policy without rules for the organization: it denies every
// request, whatever a repository's rules allow.
func (l *loader) lintNothing() {
	if len(l.errors) > 0 {
		return // of which some may be in such a file
	}
	for _, s := range l.organization.sources {
		if !s.test {
			return
		}
	}
	l.warn(Error{File: "egress", Message: "there is no rule for the organization, so every request is denied and no repository's rules count", Hint: "put rules into egress/, or begin with sallyport policy init"})
}

// maxNames bounds the texts of the documents that are compared with folders.
const maxNames = 200_000

// lintFolderNames warns of a repository's folder that no document names, where one names
// nearly it and has no folder: the delegation has a misspelt name.
func (l *loader) lintFolderNames() {
	folders, named := map[string]bool{}, map[string]bool{}
	for _, u := range l.repositories {
		folders[u.repository] = true
	}
	note := func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok && strings.Count(string(s), "/") == 1 && len(named) < maxNames {
			named[string(s)] = true
		}
	}
	ast.WalkTerms(ast.NewTerm(l.data), func(t *ast.Term) bool { note(t); return false })
	var strangers []string
	for name := range named {
		if !folders[name] {
			strangers = append(strangers, name)
		}
	}
	slices.Sort(strangers)
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

// keyPlace is where a first key of one of several documents stands, as far as its text
// shows; the file is empty if it does not.
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
