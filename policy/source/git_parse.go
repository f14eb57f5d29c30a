package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// objects reads objects of a repository by their names, in the order of the names.
type objects interface {
	// sizes returns kind and size of each.
	sizes(ctx context.Context, names []string) ([]objectSize, error)
	// contents returns the content of each. The kinds and sizes are those of sizes.
	contents(ctx context.Context, names []string, sizes []objectSize) ([][]byte, error)
}

// objectSize is what git reports about an object without its content. The kind is "" if
// the repository does not have it.
type objectSize struct {
	kind string // blob, tree, commit or tag
	size int64  // bytes
}

// parseSizes reads what git cat-file --batch-check wrote: "<name> <kind> <size>" for each
// object, or "<name> missing".
func parseSizes(out []byte, names []string) ([]objectSize, error) {
	sizes := make([]objectSize, 0, len(names))
	for _, name := range names {
		line, rest, ok := bytes.Cut(out, []byte{'\n'})
		out = rest
		about, same := bytes.CutPrefix(line, append([]byte(name), ' '))
		if !ok || !same {
			return nil, fmt.Errorf("git returned %.100q for object %s", line, name)
		}
		if string(about) == "missing" {
			sizes = append(sizes, objectSize{})
			continue
		}
		kind, number, _ := strings.Cut(string(about), " ")
		size, err := strconv.ParseInt(number, 10, 64)
		if err != nil || size < 0 || kind == "" {
			return nil, fmt.Errorf("git returned %.100q for object %s", line, name)
		}
		sizes = append(sizes, objectSize{kind, size})
	}
	if len(out) > 0 {
		return nil, errors.New("git returned more objects than were requested")
	}
	return sizes, nil
}

// parseBatch reads what git cat-file --batch wrote: for each object a line with its name,
// kind and size, the content, and a line break.
func parseBatch(out []byte, names []string, sizes []objectSize) ([][]byte, error) {
	contents := make([][]byte, 0, len(names))
	for i, name := range names {
		s := sizes[i]
		head, rest, ok := bytes.Cut(out, []byte{'\n'})
		if !ok || string(head) != fmt.Sprintf("%s %s %d", name, s.kind, s.size) || int64(len(rest)) <= s.size || rest[s.size] != '\n' {
			return nil, fmt.Errorf("git returned %.100q for object %s", head, name)
		}
		contents = append(contents, bytes.Clone(rest[:s.size]))
		out = rest[s.size+1:]
	}
	if len(out) > 0 {
		return nil, errors.New("git returned more objects than were requested")
	}
	return contents, nil
}

// treeItem is an item of one tree object.
type treeItem struct {
	mode   string // octal, as Git writes it
	name   string
	object string // lower-case hexadecimal
}

// The modes of items that are not files: gitformat-index(5).
const (
	modeTree      = "40000"
	modeLink      = "120000"
	modeSubmodule = "160000"
)

// parseTree reads a tree object: for each item its mode, a space, its name, a zero byte,
// and the name of its object in hash bytes.
func parseTree(content []byte, hash int) ([]treeItem, error) {
	var items []treeItem
	for len(content) > 0 {
		mode, rest, ok := bytes.Cut(content, []byte{' '})
		name, rest, ended := bytes.Cut(rest, []byte{0})
		if !ok || !ended || len(rest) < hash || len(mode) > 8 {
			return nil, errors.New("the tree object is malformed")
		}
		// Old versions of Git wrote leading zeros.
		items = append(items, treeItem{strings.TrimLeft(string(mode), "0"), string(name), fmt.Sprintf("%x", rest[:hash])})
		content = rest[hash:]
	}
	return items, nil
}
