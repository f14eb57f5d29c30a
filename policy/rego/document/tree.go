package document

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// Fault is an error in one of the files of a tree.
type Fault struct {
	File string
	Error
}

// TreeOptions configure [ReadTree].
type TreeOptions struct {
	// Begin is called before each file with its index. Reading stops where it returns
	// false. nil reads all files.
	Begin func(index int) bool
	// Reserved is the name at the root that documents cannot define; "" reserves none.
	Reserved string
}

// ReadTree reads the files below data/ into one object: the folders are the path of a
// document, the name of the file is not part of it. A file with a fault is left out.
func ReadTree(files []policy.File, options TreeOptions) (root *Node, faults []Fault) {
	t := &treeReader{root: &Node{Object: map[string]*Node{}}, reserved: options.Reserved}
	for i, f := range files {
		if options.Begin != nil && !options.Begin(i) {
			break
		}
		content, err := Parse(f.Path, f.Content)
		switch {
		case err != nil:
			t.failed(f.Path, err)
		case content == nil: // an empty file
		case content.Object == nil:
			t.fail(f.Path, content.At, "a data file holds an object, for several files share a folder", "give the value a name: hosts: [...]")
		default:
			content.setFile(f.Path)
			t.insert(f, content)
		}
	}
	return t.root, t.faults
}

type treeReader struct {
	root     *Node
	reserved string
	faults   []Fault
}

func (t *treeReader) fail(file string, at Position, message, hint string) {
	at = Position{max(1, at.Line), max(1, at.Column)}
	t.faults = append(t.faults, Fault{file, Error{At: at, Message: message, Hint: hint}})
}

func (t *treeReader) failed(file string, err error) {
	if d, ok := errors.AsType[*Error](err); ok {
		t.fail(file, d.At, d.Message, d.Hint)
		return
	}
	t.fail(file, Position{}, err.Error(), "")
}

func (n *Node) setFile(file string) {
	n.File = file
	for _, child := range n.Object {
		child.setFile(file)
	}
	for _, child := range n.Items {
		child.setFile(file)
	}
}

func (t *treeReader) insert(f policy.File, content *Node) {
	folder := strings.TrimPrefix(path.Dir(f.Path), "data")
	at := t.root
	for name := range strings.SplitSeq(strings.Trim(folder, "/"), "/") {
		if name == "" {
			continue
		}
		next := at.Object[name]
		if next == nil {
			next = &Node{Object: map[string]*Node{}, At: Position{1, 1}, File: f.Path}
			at.Object[name] = next
		}
		if next.Object == nil {
			t.fail(f.Path, Position{}, fmt.Sprintf("its folder is already a value, in %s:%d", next.File, next.At.Line), "rename one of the two")
			return
		}
		at = next
	}
	t.merge(at, content, f.Path)
	if reserved := t.root.Object[t.reserved]; reserved != nil && t.reserved != "" {
		t.fail(f.Path, reserved.At, "data."+t.reserved+" is the namespace of policies and not of data", "choose another name")
		delete(t.root.Object, t.reserved)
	}
}

// merge adds the members of an object to another one. The same member twice is an error
// unless both are objects: otherwise the names of files would decide which one counts.
func (t *treeReader) merge(into, from *Node, file string) {
	for key, child := range from.Object {
		old := into.Object[key]
		switch {
		case old == nil:
			into.Object[key] = child
		case old.Object != nil && child.Object != nil:
			t.merge(old, child, file)
		default:
			t.fail(file, child.At, fmt.Sprintf("%q is defined in %s:%d as well", key, old.File, old.At.Line), "keep one of the two")
		}
	}
}
