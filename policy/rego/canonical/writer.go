package canonical

import (
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/paths"
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
	// NoValue leaves out the value, and NoJSON the JSON and the key: End returns nil for it.
	NoValue, NoJSON bool
	// Reads are the parts that the key has, which is the JSON of an object with these parts
	// only; nil: no key is written.
	Reads *paths.Tree

	levels []level
	json   []byte
	key    []byte
}

// level is an object or a list that is being written.
type level struct {
	pairs [][2]*ast.Term
	items []*ast.Term
	open  bool // it has a member

	parts   *paths.Tree // the parts that the key has, below this level
	openKey bool        // the key has a member
}

func (w *Writer) top() *level {
	if len(w.levels) == 0 {
		w.push(level{parts: w.Reads}, 8)
		if !w.NoJSON {
			w.json = append(make([]byte, 0, 1024), '{')
		}
		if w.Reads != nil {
			w.key = append(make([]byte, 0, 512), '{')
		}
	}
	return &w.levels[len(w.levels)-1]
}

// push adds a level. n is the expected number of members of its object.
func (w *Writer) push(l level, n int) {
	if w.levels == nil {
		w.levels = make([]level, 0, 4)
	}
	if !w.NoValue {
		l.pairs = make([][2]*ast.Term, 0, n)
	}
	w.levels = append(w.levels, l)
}

// next begins a member of the object or list at the top.
func (w *Writer) next() *level {
	l := w.top()
	if l.open {
		w.write(',')
	}
	l.open = true
	return l
}

// write writes a character of the JSON.
func (w *Writer) write(c byte) {
	if !w.NoJSON {
		w.json = append(w.json, c)
	}
}

// text writes a string of the JSON.
func (w *Writer) text(s string) {
	if !w.NoJSON {
		w.json = appendString(w.json, s)
	}
}

func (w *Writer) name(name string) *level {
	l := w.next()
	w.text(name)
	w.write(':')
	return l
}

// keyed begins a member of the key, if the key has a part of it, and returns the parts.
func (w *Writer) keyed(l *level, name string) *paths.Tree {
	below := l.parts.Below(name)
	if below == nil {
		return nil
	}
	if l.openKey {
		w.key = append(w.key, ',')
	}
	l.openKey = true
	w.key = appendString(w.key, name)
	w.key = append(w.key, ':')
	return below
}

// scalar adds a member whose JSON begins at an offset.
func (w *Writer) scalar(l *level, name string, begin int) {
	if w.keyed(l, name) != nil {
		w.key = append(w.key, w.json[begin:]...)
	}
}

// Text writes a string.
func (w *Writer) Text(name, value string) {
	name, value = Clean(name), Clean(value)
	l := w.name(name)
	begin := len(w.json)
	w.text(value)
	w.scalar(l, name, begin)
	if !w.NoValue {
		l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.StringTerm(value)})
	}
}

// Optional writes a string that is not empty.
func (w *Writer) Optional(name, value string) {
	if value != "" {
		w.Text(name, value)
	}
}

// Number writes a whole number.
func (w *Writer) Number(name string, value int64) {
	l := w.name(name)
	begin := len(w.json)
	if !w.NoJSON {
		w.json = strconv.AppendInt(w.json, value, 10)
	}
	w.scalar(l, name, begin)
	if !w.NoValue {
		l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.InternedTerm(int(value))})
	}
}

// Bool writes true or false.
func (w *Writer) Bool(name string, value bool) {
	l := w.name(name)
	begin := len(w.json)
	if !w.NoJSON {
		w.json = strconv.AppendBool(w.json, value)
	}
	w.scalar(l, name, begin)
	if !w.NoValue {
		l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.InternedTerm(value)})
	}
}

// Raw writes a value that was made before, in all forms. value is nil without values, and
// key is the JSON of the parts of it that the key has.
func (w *Writer) Raw(name string, value *ast.Term, json, key []byte) {
	l := w.name(name)
	if !w.NoJSON {
		w.json = append(w.json, json...)
	}
	if w.keyed(l, name) != nil {
		w.key = append(w.key, key...)
	}
	if !w.NoValue {
		l.pairs = append(l.pairs, [2]*ast.Term{Key(name), value})
	}
}

// Object writes an object with the members that the function writes.
func (w *Writer) Object(name string, members func()) {
	below := w.keyed(w.name(name), name)
	value := w.members(below, members)
	if l := w.top(); !w.NoValue {
		l.pairs = append(l.pairs, [2]*ast.Term{Key(name), value})
	}
}

// members writes an object after its name; below are the parts of it that the key has.
func (w *Writer) members(below *paths.Tree, write func()) *ast.Term {
	w.write('{')
	if below != nil {
		w.key = append(w.key, '{')
	}
	w.push(level{parts: below}, 4)
	write()
	inner := w.top().pairs
	w.levels = w.levels[:len(w.levels)-1]
	w.write('}')
	if below != nil {
		w.key = append(w.key, '}')
	}
	if w.NoValue {
		return nil
	}
	return ast.ObjectTerm(inner...)
}

// List writes a list of n objects; the function writes the members of one. A Writer with
// lists has values, and no key.
func (w *Writer) List(name string, n int, members func(i int)) {
	w.name(name)
	w.write('[')
	w.levels = append(w.levels, level{items: make([]*ast.Term, 0, n)})
	for i := range n {
		w.next()
		value := w.members(nil, func() { members(i) })
		l := w.top()
		l.items = append(l.items, value)
	}
	items := w.top().items
	w.levels = w.levels[:len(w.levels)-1]
	w.write(']')
	l := w.top()
	l.pairs = append(l.pairs, [2]*ast.Term{Key(name), ast.ArrayTerm(items...)})
}

// End returns both forms of the object. The Writer must not be used again, but for Key.
func (w *Writer) End() (value *ast.Term, json []byte) {
	l := w.top()
	if w.Reads != nil {
		w.key = append(w.key, '}')
	}
	w.write('}')
	if w.NoValue {
		return nil, w.json
	}
	return ast.ObjectTerm(l.pairs...), w.json
}

// Key returns the JSON of the parts in Reads, after End.
func (w *Writer) Key() []byte { return w.key }
