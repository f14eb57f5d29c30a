package canonical

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
)

// keyTerms are the names of the inputs' fields, made once.
var keyTerms = func() map[string]*ast.Term {
	terms := map[string]*ast.Term{}
	for _, name := range []string{"principal", "kind", "workspace", "repository", "deployment", "pipeline", "step", "branch",
		"uuid", "slug", "full_name", "project", "name", "type", "action", "target", "scheme", "host", "port",
		"request", "method", "path", "headers", "client", "address", "time",
		"receiver", "event", "id", "refs", "change", "old", "new", "incomplete", "pull_request", "state", "source",
		"destination", "commit", "merge_commit", "actor"} {
		terms[name] = ast.StringTerm(name)
	}
	return terms
}()

// Key returns the term of a field's name.
func Key(name string) *ast.Term {
	if t := keyTerms[name]; t != nil {
		return t
	}
	return ast.StringTerm(name) // a header
}

// Writer builds an object as a value and as JSON at once, members in the order in which
// they are written. The zero Writer is an empty object.
type Writer struct {
	levels []level
	json   []byte
}

// level is an object or a list that is being written.
type level struct {
	pairs [][2]*ast.Term
	items []*ast.Term
	open  bool // it has a member
}

func (w *Writer) top() *level {
	if len(w.levels) == 0 {
		w.levels = append(w.levels, level{pairs: make([][2]*ast.Term, 0, 8)})
		w.json = append(make([]byte, 0, 1024), '{')
	}
	return &w.levels[len(w.levels)-1]
}

// next begins a member of the object or list at the top.
func (w *Writer) next() *level {
	l := w.top()
	if l.open {
		w.json = append(w.json, ',')
	}
	l.open = true
	return l
}

func (w *Writer) key(name string) *level {
	l := w.next()
	w.json = appendString(w.json, name)
	w.json = append(w.json, ':')
	return l
}

// Text writes a string.
func (w *Writer) Text(name, value string) {
	name, value = Clean(name), Clean(value)
	l := w.key(name)
	w.json = appendString(w.json, value)
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.StringTerm(value)})
}

// Optional writes a string that is not empty.
func (w *Writer) Optional(name, value string) {
	if value != "" {
		w.Text(name, value)
	}
}

// Number writes a whole number.
func (w *Writer) Number(name string, value int64) {
	l := w.key(name)
	w.json = strconv.AppendInt(w.json, value, 10)
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.InternedTerm(int(value))})
}

// Bool writes true or false.
func (w *Writer) Bool(name string, value bool) {
	l := w.key(name)
	w.json = strconv.AppendBool(w.json, value)
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.InternedTerm(value)})
}

// Raw writes a value that was made before, in both forms.
func (w *Writer) Raw(name string, value *ast.Term, json []byte) {
	l := w.key(name)
	w.json = append(w.json, json...)
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), value})
}

// Object writes an object with the members that the function writes.
func (w *Writer) Object(name string, members func()) {
	w.key(name)
	value := w.members(members)
	l := w.top()
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), value})
}

// members writes an object after its name.
func (w *Writer) members(write func()) *ast.Term {
	w.json = append(w.json, '{')
	w.levels = append(w.levels, level{pairs: make([][2]*ast.Term, 0, 4)})
	write()
	inner := w.top().pairs
	w.levels = w.levels[:len(w.levels)-1]
	w.json = append(w.json, '}')
	return ast.ObjectTerm(inner...)
}

// List writes a list of n objects; the function writes the members of one.
func (w *Writer) List(name string, n int, members func(i int)) {
	w.key(name)
	w.json = append(w.json, '[')
	w.levels = append(w.levels, level{items: make([]*ast.Term, 0, n)})
	for i := range n {
		w.next()
		value := w.members(func() { members(i) })
		l := w.top()
		l.items = append(l.items, value)
	}
	items := w.top().items
	w.levels = w.levels[:len(w.levels)-1]
	w.json = append(w.json, ']')
	l := w.top()
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.ArrayTerm(items...)})
}

// End returns both forms of the object. The Writer must not be used again.
func (w *Writer) End() (value *ast.Term, json []byte) {
	l := w.top()
	return ast.ObjectTerm(l.pairs...), append(w.json, '}')
}
