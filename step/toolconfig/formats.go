package toolconfig

import (
	"bytes"
	"errors"
)

// A format inserts our part into a file of a tool, and removes it from a file that was
// edited in between. Both leave every other byte, or every other value, as it is.
type format struct {
	// insert returns the new content of a file; exists is false if there is none. An
	// error states why the content cannot be changed.
	insert func(old []byte, exists bool, content string) ([]byte, error)
	// remove returns current without our part; original is the content before the insert.
	remove func(current, original []byte, content string) ([]byte, error)
}

// formats are the formats by the name that a journal stores.
var formats = map[string]format{
	"whole":  {insertWhole, removeWhole},
	"block":  {insertBlock, removeBlock},
	"maven":  {insertMavenProxy, removeMavenProxy},
	"docker": {insertDockerProxies, removeDockerProxies},
}

var (
	errForeign = errors.New("the file exists and was not written by sallyport-step: remove or rename it")
	errEdited  = errors.New("the part of sallyport-step was edited: remove it by hand")
)

// insertWhole is for files that belong to us alone.
func insertWhole(_ []byte, exists bool, content string) ([]byte, error) {
	if exists {
		return nil, errForeign
	}
	return []byte(content), nil
}

func removeWhole(_, _ []byte, _ string) ([]byte, error) { return nil, errEdited }

const (
	blockBegin = "# sallyport-step: begin (sallyport-step stop removes this block)\n"
	blockEnd   = "# sallyport-step: end\n"
)

// insertBlock appends lines to a Java properties file, where the last line of a name
// counts. The empty line before them ends a line that continues ("\" at its end).
func insertBlock(old []byte, _ bool, content string) ([]byte, error) {
	if bytes.Contains(old, []byte(blockBegin)) {
		return nil, errors.New("the file has a block of sallyport-step already: remove the block")
	}
	return append(bytes.Clone(old), block(old, content)...), nil
}

// block is what insertBlock adds to old.
func block(old []byte, content string) []byte {
	separator := ""
	if len(old) > 0 {
		separator = "\n"
		if old[len(old)-1] != '\n' {
			separator = "\n\n"
		}
	}
	return []byte(separator + blockBegin + content + blockEnd)
}

func removeBlock(current, original []byte, content string) ([]byte, error) {
	return removeOnce(current, block(original, content))
}

// removeOnce removes the part from current, if current has it exactly once.
func removeOnce(current, part []byte) ([]byte, error) {
	if bytes.Count(current, part) != 1 {
		return nil, errEdited
	}
	before, after, _ := bytes.Cut(current, part)
	return append(bytes.Clone(before), after...), nil
}
